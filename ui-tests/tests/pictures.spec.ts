/**
 * The pictures of the documentation, taken of the examples: UPDATE_SCREENSHOTS=1 npx playwright test pictures
 */
import { type IJupyterLabPageFixture, test } from '@jupyterlab/galata';
import { expect, type Locator } from '@playwright/test';
import * as fs from 'fs';
import * as path from 'path';
import {
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  picture,
  PLANNED,
  pretendTooLarge,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';

const EXAMPLES = path.resolve(__dirname, '../../examples');
const FOLDER = 'digits';

test.skip(
  process.env.UPDATE_SCREENSHOTS !== '1',
  'Pictures are taken on demand'
);
test.describe.configure({ mode: 'serial' });
test.use({ viewport: { width: 1200, height: 700 } });

/**
 * Open an example in a folder of the root directory: its name shows in the pictures.
 */
async function openExample(
  page: IJupyterLabPageFixture,
  name: string
): Promise<void> {
  const text = fs.readFileSync(path.join(EXAMPLES, name), 'utf-8');
  await page.evaluate(async folder => {
    const { contents } = window.jupyterapp.serviceManager;
    await contents
      .get(folder)
      .catch(() => contents.save(folder, { type: 'directory' }));
  }, FOLDER);
  await openNotebook(page, FOLDER, name, text);
}

async function settled(dialog: Locator): Promise<Locator> {
  await expect(dialog.getByText(PLANNED)).toBeVisible({
    timeout: RUN_TIMEOUT_MS
  });
  return dialog.locator('.jp-Dialog-content');
}

test('empty', async ({ page }) => {
  await page.setViewportSize({ width: 1200, height: 300 });
  await picture(await openPanel(page), 'empty');
});

test('dialog, running, finished, result', async ({ page }) => {
  await openExample(page, 'train-digits.ipynb');
  const panel = await openPanel(page);
  const dialog = await openDialog(page);
  await dialog.getByLabel('quick').check();
  await picture(await settled(dialog), 'dialog-light');
  await submit(page);
  const job = row(page, 'train-digits');
  await expect(job.getByText(/cell 5 of \d/)).toBeVisible({
    timeout: RUN_TIMEOUT_MS
  });
  await picture(page, 'list-running');
  await expectEnd(job, 'succeeded');
  await job.hover();
  await job.getByRole('button', { name: /Open result/ }).click();
  const notebook = page.locator('.jp-NotebookPanel:not(.lm-mod-hidden)');
  await notebook.locator('.jp-OutputArea img').first().scrollIntoViewIfNeeded();
  await picture(page, 'result');
  await job.hover();
  await job.getByRole('button', { name: /Show details/ }).click();
  await expect(page.getByText('digits/metrics.json')).toBeVisible();
  await page.setViewportSize({ width: 1200, height: 590 });
  await picture(page, 'details');
  await expect(panel).toBeVisible();
});

test('failed, log, list', async ({ page }) => {
  await openExample(page, 'fails.ipynb');
  const panel = await openPanel(page);
  await openDialog(page);
  await submit(page);
  const job = row(page, 'fails');
  await expectEnd(job, 'failed');
  await page.setViewportSize({ width: 1200, height: 420 });
  await picture(panel, 'list-light');
  await picture(job, 'failed');
  await page.setViewportSize({ width: 1200, height: 700 });
  await job.hover();
  await job.getByRole('button', { name: /Show log/ }).click();
  await expect(page.getByRole('log')).toContainText('KeyError');
  await picture(page, 'log');
});

test('too large, out of reach', async ({ page }) => {
  await pretendTooLarge(page);
  await openExample(page, 'fails.ipynb');
  const panel = await openPanel(page);
  const dialog = await openDialog(page);
  await dialog.getByLabel('Take files from').selectOption('root');
  await expect(dialog.getByRole('alert')).toBeVisible({
    timeout: RUN_TIMEOUT_MS
  });
  await picture(dialog.locator('.jp-Dialog-content'), 'too-large');
  await page.keyboard.press('Escape');
  await page.setViewportSize({ width: 1200, height: 480 });
  await page.route(/\/ai-batch\/v1\//, route => route.abort());
  await panel.getByRole('button', { name: 'Refresh the list' }).click();
  await expect(panel.getByText(/^As of \d/)).toBeVisible();
  await picture(panel, 'unreachable');
});

test('dark', async ({ page }) => {
  await page.theme.setDarkTheme();
  await openExample(page, 'train-digits.ipynb');
  await openPanel(page);
  const dialog = await openDialog(page);
  await picture(await settled(dialog), 'dialog-dark');
  await picture(page, 'lab-dark');
});
