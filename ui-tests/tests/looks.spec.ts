import { test } from '@jupyterlab/galata';
import { expect } from '@playwright/test';
import {
  cancelActive,
  DIALOG,
  expectAccessible,
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  PLANNED,
  PANEL,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { QUICK, SWEEP } from './notebooks';

test.afterEach(({ request }) => cancelActive(request));

test('explains itself when there is nothing yet', async ({ page }) => {
  await page.route(/\/ai-batch\/v1\/submissions\?/, route =>
    route.fulfill({ json: { submissions: [], next_cursor: null } })
  );
  await page.reload();
  const panel = await openPanel(page);
  await expect(panel).toContainText('You have no batch jobs yet');
  await expectAccessible(page, PANEL);
});

test('is usable with the keyboard alone', async ({ page, tmpPath }) => {
  await openNotebook(page, tmpPath, 'keys.ipynb', QUICK);
  await openPanel(page);
  await page.notebook.activate('keys.ipynb');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+Enter');
  const dialog = page.locator(DIALOG);
  await expect(dialog.getByLabel('Title', { exact: true })).toBeFocused();
  await page.keyboard.type(' by keyboard');
  await page.keyboard.press('Enter');
  await expect(dialog).toHaveCount(0);

  const job = row(page, 'by keyboard');
  await expect(job).toBeVisible();
  await job.focus();
  await expect(job).toBeFocused();
  await page.keyboard.press('Tab');
  await expect(job.getByRole('button').first()).toBeFocused();
});

for (const theme of ['light', 'dark'] as const) {
  test(`is accessible in the ${theme} theme`, async ({ page, tmpPath }) => {
    if (theme === 'dark') {
      await page.theme.setDarkTheme();
    }
    await openNotebook(page, tmpPath, `seen-${theme}.ipynb`, SWEEP);
    const panel = await openPanel(page);
    const dialog = await openDialog(page);
    await expect(dialog.getByText(PLANNED)).toBeVisible({
      timeout: RUN_TIMEOUT_MS
    });
    await dialog.getByText('Details', { exact: true }).click();
    await expectAccessible(page, `${DIALOG} .jp-AiBatchSubmit`);
    await dialog.getByLabel('epochs').fill('many');
    await dialog.getByRole('button', { name: 'Submit' }).click();
    await expect(dialog.getByRole('alert')).toBeVisible();
    await expectAccessible(page, `${DIALOG} .jp-AiBatchSubmit`);
    await dialog.getByLabel('epochs').fill('2');
    await submit(page);
    await expectEnd(row(page, `seen-${theme}`), 'succeeded');
    await expectAccessible(page, PANEL);
  });
}

test('fits a window of 480 px with a long name', async ({ page, tmpPath }) => {
  const name = `${'a-notebook-with-a-very-long-name-'.repeat(4)}.ipynb`;
  await openNotebook(page, tmpPath, name, SWEEP);
  const dialog = await openDialog(page);
  await expect(dialog.getByLabel('epochs')).toBeVisible();
  await page.setViewportSize({ width: 480, height: 700 });
  const overflow = await dialog.evaluate(node => {
    const content = node.querySelector('.jp-Dialog-content')!;
    const body = node.querySelector('.jp-Dialog-body')!;
    return {
      content: content.getBoundingClientRect().right - window.innerWidth,
      body: body.scrollWidth - body.clientWidth
    };
  });
  expect(overflow.content).toBeLessThanOrEqual(0);
  expect(overflow.body).toBeLessThanOrEqual(0);
  await expect(dialog.getByRole('button', { name: 'Submit' })).toBeInViewport();
});
