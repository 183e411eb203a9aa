import { test } from '@jupyterlab/galata';
import { expect } from '@playwright/test';
import {
  cancelActive,
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  PLANNED,
  pretendTooLarge,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { FAILING, LONG, QUICK } from './notebooks';

test.afterEach(({ request }) => cancelActive(request));

test('names the cell and the exception of a failed run, and shows its log', async ({
  page,
  tmpPath
}) => {
  await openNotebook(page, tmpPath, 'digits.ipynb', FAILING);
  const panel = await openPanel(page);
  await openDialog(page);
  await submit(page);
  const job = row(page, 'digits');
  await expectEnd(job, 'failed');
  await expect(job).toContainText(/cell 3/i);
  await expect(job).toContainText('ValueError: digits are missing');

  await job.hover();
  await job.getByRole('button', { name: /Show log/ }).click();
  await expect(page.getByRole('log')).toContainText('before the failure');
});

test('cancels a run that is under way', async ({ page, tmpPath }) => {
  await openNotebook(page, tmpPath, 'endless.ipynb', LONG);
  await openPanel(page);
  await openDialog(page);
  await submit(page);
  const job = row(page, 'endless');
  await expect(job).toHaveAttribute('data-state', 'running', {
    timeout: RUN_TIMEOUT_MS
  });
  await job.hover();
  await job.getByRole('button', { name: /^Cancel/ }).click();
  const confirm = page.locator('.jp-Dialog .jp-mod-accept');
  if (await confirm.isVisible()) {
    await confirm.click();
  }
  await expectEnd(job, 'cancelled');
});

test('keeps the last known rows while the server cannot be reached', async ({
  page,
  tmpPath
}) => {
  await openNotebook(page, tmpPath, 'lost.ipynb', QUICK);
  const panel = await openPanel(page);
  await openDialog(page);
  await submit(page);
  await expect(row(page, 'lost')).toBeVisible();

  await page.route(/\/ai-batch\/v1\//, route => route.abort());
  await panel.getByRole('button', { name: 'Refresh the list' }).click();
  await expect(panel.getByText(/^As of \d/)).toBeVisible();
  await expect(panel).toContainText('cannot be reached');
  await expect(row(page, 'lost')).toBeVisible();

  await page.unroute(/\/ai-batch\/v1\//);
  await panel.getByRole('button', { name: 'Try now' }).click();
  await expect(panel.getByText(/^As of \d/)).toHaveCount(0);
});

test('says how to go on when the files are too large', async ({
  page,
  tmpPath
}) => {
  await pretendTooLarge(page);
  await openNotebook(page, tmpPath, 'large.ipynb', QUICK);
  const dialog = await openDialog(page);
  await dialog.getByLabel('Take files from').selectOption('root');
  await expect(dialog.getByRole('alert')).toContainText('9.1 GB', {
    timeout: RUN_TIMEOUT_MS
  });
  await dialog.getByRole('button', { name: 'Submit' }).click();
  await expect(dialog.getByRole('alert')).toContainText('.batchignore');
  await expect(dialog).toBeVisible();

  await dialog.getByRole('button', { name: /folder only/ }).click();
  await expect(dialog.getByText(PLANNED)).toBeVisible({
    timeout: RUN_TIMEOUT_MS
  });
  await expect(dialog.getByRole('alert')).toHaveCount(0);
});
