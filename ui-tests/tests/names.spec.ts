import { test } from '@jupyterlab/galata';
import { expect } from '@playwright/test';
import {
  cancelActive,
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { QUICK } from './notebooks';

test.afterEach(({ request }) => cancelActive(request));

test('runs a notebook whose name has spaces, accents and signs', async ({
  page,
  tmpPath
}) => {
  const name = 'Messreihe 7 – größer & süß #1.ipynb';
  await openNotebook(page, tmpPath, name, QUICK);
  await openPanel(page);
  await openDialog(page);
  await submit(page);
  const job = row(page, 'Messreihe 7 – größer & süß #1');
  await expectEnd(job, 'succeeded');
  await job.hover();
  await job.getByRole('button', { name: /Open result/ }).click();
  await expect(
    page
      .locator('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook')
      .getByText('42', { exact: true })
  ).toBeVisible();
});

test('submits the new name of a notebook that was renamed while open', async ({
  page,
  tmpPath
}) => {
  await openNotebook(page, tmpPath, 'before.ipynb', QUICK);
  await page.evaluate(async folder => {
    const { contents } = window.jupyterapp.serviceManager;
    await contents.rename(`${folder}/before.ipynb`, `${folder}/after.ipynb`);
  }, tmpPath);
  await page.notebook.activate('after.ipynb');
  await openPanel(page);
  const dialog = await openDialog(page);
  await expect(dialog).toContainText('after.ipynb');
  await submit(page);
  await expect(row(page, 'after')).toBeVisible();
});
