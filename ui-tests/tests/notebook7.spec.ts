import { type APIRequestContext, expect, test } from '@playwright/test';
import { DIALOG, RUN_TIMEOUT_MS } from './batch';
import { QUICK } from './notebooks';

test('submits from Notebook 7', async ({ page, request }) => {
  const created = await request.put('/api/contents/classic.ipynb', {
    data: { type: 'notebook', format: 'json', content: JSON.parse(QUICK) }
  });
  expect(created.ok()).toBe(true);
  const opened = await page.goto('/notebooks/classic.ipynb');
  test.skip(opened?.status() === 404, 'Notebook 7 is not installed');
  await page.locator('[data-jp-item-name="submit-batch"]').click();
  const dialog = page.locator(DIALOG);
  await expect(dialog.getByLabel('Title', { exact: true })).toHaveValue(
    'classic'
  );
  await dialog.getByRole('button', { name: 'Submit' }).click();
  await expect(dialog).toHaveCount(0);
  await expect
    .poll(
      () => state(request),
      { timeout: RUN_TIMEOUT_MS }
    )
    .toMatch(/^(succeeded|failed|cancelled)$/);
  expect(await state(request)).toBe('succeeded');
});

async function state(request: APIRequestContext): Promise<string> {
  const answer = await request.get(
    '/ai-batch/v1/submissions?notebook=classic.ipynb'
  );
  const { submissions } = (await answer.json()) as {
    submissions: { state: string }[];
  };
  return submissions[0]?.state ?? 'none';
}
