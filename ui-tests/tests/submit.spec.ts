import { test } from '@jupyterlab/galata';
import { expect, type Page } from '@playwright/test';
import {
  BUTTON,
  cancelActive,
  DIALOG,
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  PLANNED,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { QUICK, SWEEP } from './notebooks';

test.afterEach(({ request }) => cancelActive(request));

test.describe('the main job', () => {
  test('runs a notebook from the click to the opened result', async ({
    page,
    tmpPath
  }) => {
    await openNotebook(page, tmpPath, 'sweep.ipynb', SWEEP);
    const panel = await openPanel(page);

    const dialog = await openDialog(page);
    await dialog.getByLabel('epochs').fill('5');
    await dialog.getByLabel('label').fill('from the dialog');
    await expect(dialog.getByText(PLANNED)).toBeVisible({
      timeout: RUN_TIMEOUT_MS
    });
    await submit(page);

    const job = row(page, 'sweep');
    await expect(job).toHaveAttribute('data-state', 'running', {
      timeout: RUN_TIMEOUT_MS
    });
    await expect(job.getByText(/cell \d of \d/)).toBeVisible();
    await expect(job.getByRole('progressbar')).toBeVisible();
    await expectEnd(job, 'succeeded');

    await job.hover();
    await job.getByRole('button', { name: /Open result/ }).click();
    const result = page.locator(
      '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook'
    );
    await expect(
      result.getByText("answer from the dialog 70 [64, 32]")
    ).toBeVisible();
    expect(
      await page.contents.fileExists(`${tmpPath}/sweep-result.txt`)
    ).toBe(true);
  });

  test('opens fast, submits on Enter, and remembers the choices', async ({
    page,
    tmpPath
  }) => {
    await openNotebook(page, tmpPath, 'again.ipynb', SWEEP);
    await page.route(/snapshot\/plan/, route => {
      // Never answered: the dialog must not wait for it.
      void route;
    });
    const dialog = await openDialog(page);
    await dialog.getByLabel('epochs').fill('4');
    await dialog.getByLabel('Time limit').selectOption('3600');
    await dialog.getByLabel('epochs').press('Enter');
    await expect(page.locator(DIALOG)).toHaveCount(0);

    const again = await openDialog(page);
    await expect(again.getByLabel('epochs')).toHaveValue('4');
    await expect(again.getByLabel('Time limit')).toHaveValue('3600');
    await page.keyboard.press('Escape');
    await expect(page.locator(DIALOG)).toHaveCount(0);
  });

  test('shows the dialog within 0.2 s of the click', async ({
    page,
    tmpPath
  }) => {
    await openNotebook(page, tmpPath, 'fast.ipynb', QUICK);
    const elapsed: number[] = [];
    for (let times = 0; times < 4; times++) {
      elapsed.push(await timeToOpen(page));
      await expect(page.locator(DIALOG).getByLabel('Title')).toBeFocused();
      await page.keyboard.press('Escape');
      await expect(page.locator(DIALOG)).toHaveCount(0);
    }
    test.info().annotations.push({
      type: 'the dialog opens, in ms',
      description: elapsed.map(time => time.toFixed(0)).join(', ')
    });
    // The best of several: a busy machine must not fail the test.
    expect(Math.min(...elapsed)).toBeLessThan(200);
  });

  test('keeps what was typed when a parameter cannot be read', async ({
    page,
    tmpPath
  }) => {
    await openNotebook(page, tmpPath, 'typed.ipynb', SWEEP);
    const dialog = await openDialog(page);
    const epochs = dialog.getByLabel('epochs');
    await epochs.fill('many');
    await dialog.getByRole('button', { name: 'Submit' }).click();
    await expect(dialog.getByRole('alert')).toContainText('whole number');
    await expect(epochs).toBeFocused();
    await expect(epochs).toHaveValue('many');
  });

  test('saves the notebook before it is captured', async ({
    page,
    tmpPath
  }) => {
    await openNotebook(page, tmpPath, 'unsaved.ipynb', QUICK);
    await page.notebook.setCell(0, 'code', 'print("edited", 3 * 7)');
    await openDialog(page);
    await submit(page);
    const saved = await page.request.get(
      `/api/contents/${encodeURIComponent(tmpPath)}/unsaved.ipynb?content=1`
    );
    expect(JSON.stringify(await saved.json())).toContain('edited');
  });
});

/**
 * Milliseconds from the press of the mouse button to the dialog's first field, by the page's own clock.
 */
async function timeToOpen(page: Page): Promise<number> {
  await page.evaluate(selector => {
    const started = new Promise<number>(resolve => {
      document.addEventListener(
        'mousedown',
        () => resolve(performance.now()),
        { capture: true, once: true }
      );
    });
    const opened = new Promise<number>(resolve => {
      new MutationObserver((_, observer) => {
        if (document.querySelector(`${selector} input`) !== null) {
          observer.disconnect();
          resolve(performance.now());
        }
      }).observe(document.body, { childList: true, subtree: true });
    });
    Object.assign(window, {
      timeToOpen: Promise.all([started, opened]).then(([a, b]) => b - a)
    });
  }, DIALOG);
  await page.locator(BUTTON).click();
  return page.evaluate(
    () => (window as unknown as { timeToOpen: Promise<number> }).timeToOpen
  );
}
