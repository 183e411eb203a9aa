/**
 * What a user does with batch jobs, in the words of the page.
 */
import AxeBuilder from '@axe-core/playwright';
import type { IJupyterLabPageFixture } from '@jupyterlab/galata';
import {
  type APIRequestContext,
  expect,
  type Locator,
  type Page
} from '@playwright/test';
import * as path from 'path';

export const PANEL = '#ai-batch-panel';

/** Selector of the submit dialog. */
export const DIALOG = '.jp-AiBatchSubmitDialog';

/** Selector of the active notebook's toolbar button. */
export const BUTTON =
  '.jp-NotebookPanel:not(.lm-mod-hidden) [data-jp-item-name="submit-batch"]';

/** What the dialog says when it knows what will be captured. */
export const PLANNED = / in [\d,.\s]+ files, .* new/;

/** The first capture on a machine reads the whole environment. */
export const RUN_TIMEOUT_MS = 180_000;

const IMAGES = path.resolve(__dirname, '../../docs/images');

/**
 * Put a notebook into the test's own folder and open it.
 */
export async function openNotebook(
  page: IJupyterLabPageFixture,
  folder: string,
  name: string,
  text: string
): Promise<void> {
  // Galata's own helpers stumble over a # in a name.
  await page.evaluate(
    async ({ path, content }) => {
      const { commands, serviceManager } = window.jupyterapp;
      await serviceManager.contents.save(path, {
        type: 'notebook',
        format: 'json',
        content
      });
      await commands.execute('docmanager:open', { path });
    },
    { path: `${folder}/${name}`, content: JSON.parse(text) as object }
  );
  await expect(page.locator(BUTTON)).toBeVisible();
}

/**
 * Click the toolbar button of the active notebook and wait for the dialog.
 */
export async function openDialog(page: Page): Promise<Locator> {
  await page.locator(BUTTON).click();
  const dialog = page.locator(DIALOG);
  await expect(dialog.getByLabel('Title', { exact: true })).toBeFocused();
  return dialog;
}

/**
 * Submit what the open dialog shows, and wait until the server has accepted it.
 */
export async function submit(page: Page): Promise<void> {
  await page.locator(DIALOG).getByRole('button', { name: 'Submit' }).click();
  await expect(page.locator(DIALOG)).toHaveCount(0);
}

/**
 * Open the Batch panel in the left sidebar.
 */
export async function openPanel(
  page: IJupyterLabPageFixture
): Promise<Locator> {
  await page.sidebar.openTab('ai-batch-panel');
  const panel = page.locator(PANEL);
  await expect(panel).toBeVisible();
  return panel;
}

/**
 * The newest row whose text contains `title`.
 */
export function row(page: Page, title: string): Locator {
  return page.locator(`${PANEL} .jp-AiBatch-row`, { hasText: title }).first();
}

/**
 * Wait until the row's job is over, then expect this end of it.
 */
export async function expectEnd(
  job: Locator,
  state: 'succeeded' | 'failed' | 'cancelled'
): Promise<void> {
  await expect(job).toHaveAttribute(
    'data-state',
    /^(succeeded|failed|cancelled)$/,
    { timeout: RUN_TIMEOUT_MS }
  );
  // With the row's text, a failure of the test says why the job failed.
  expect([await job.getAttribute('data-state'), await job.innerText()]).toEqual([
    state,
    expect.anything()
  ]);
}

/**
 * Let everything in the file browser look too large, without writing gigabytes.
 */
export async function pretendTooLarge(page: Page): Promise<void> {
  await page.route(/snapshot\/plan/, async route => {
    const answer = await route.fetch();
    const plan = (await answer.json()) as Record<string, unknown>;
    const large = {
      work_root: '/home/ada',
      work_bytes: 9.1e9,
      heaviest: [['measurements', 8.8e9]]
    };
    await route.fulfill({
      json: plan.capture_from === 'root' ? { ...plan, ...large } : plan
    });
  });
}

/**
 * End what a test has left running: the next one must not wait for it.
 */
export async function cancelActive(request: APIRequestContext): Promise<void> {
  const answer = await request.get('/ai-batch/v1/submissions?limit=200');
  const { submissions } = (await answer.json()) as {
    submissions: { id: string; state: string }[];
  };
  for (const { id, state } of submissions) {
    if (!/^(succeeded|failed|cancelled)$/.test(state)) {
      await request.post(`/ai-batch/v1/submissions/${id}/cancel`, { data: {} });
    }
  }
}

/**
 * Write a picture for the documentation.
 */
export async function picture(
  target: Page | Locator,
  name: string
): Promise<void> {
  await target.screenshot({
    path: path.join(IMAGES, `${name}.png`),
    animations: 'disabled'
  });
}

/**
 * Expect no accessibility finding inside `root`, contrast included.
 */
export async function expectAccessible(page: Page, root: string): Promise<void> {
  // Lab's body has no height of its own, and then axe skips every contrast check without a word.
  await page.addStyleTag({ content: 'html, body { height: 100vh; }' });
  const results = await new AxeBuilder({ page }).include(root).analyze();
  const findings = results.violations.map(violation => ({
    rule: violation.id,
    nodes: violation.nodes.map(node => `${node.html} ${node.failureSummary}`)
  }));
  expect(findings).toEqual([]);
  expect(results.passes.map(pass => pass.id)).toContain('color-contrast');
}
