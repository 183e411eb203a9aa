import { test } from '@jupyterlab/galata';
import { expect, type Locator } from '@playwright/test';
import * as fs from 'fs';
import {
  cancelActive,
  expectAccessible,
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  PANEL,
  row,
  submit
} from './batch';
import { QUICK } from './notebooks';
import { PLACE } from './place';

const DETAILS = '.jp-AiBatch-details';

test.afterEach(({ request }) => cancelActive(request));

test('says where jobs run before anything is submitted', async ({
  page,
  tmpPath
}) => {
  await openNotebook(page, tmpPath, 'where.ipynb', QUICK);
  const panel = await openPanel(page);
  await expect(panel.getByText(PLACE.panel)).toBeVisible();
  await expectAccessible(page, PANEL);
  const dialog = await openDialog(page);
  await expect(dialog).toContainText(`Runs on${PLACE.dialog}`);
});

test('says since when the queue does not answer, and still where jobs run', async ({
  page
}) => {
  const panel = await openPanel(page);
  await expect(panel.getByText(PLACE.panel)).toBeVisible();
  await page.route(/\/ai-batch\/v1\/queues/, route =>
    route.fulfill({
      status: 502,
      json: {
        message: 'The queue does not answer.',
        error: {
          code: 'queue_unreachable',
          hint: null,
          details: {},
          retryable: true
        }
      }
    })
  );
  await panel.getByRole('button', { name: 'Refresh the list' }).click();
  await expect(panel.getByText(/^As of \d/)).toBeVisible();
  await expect(panel).toContainText('The queue does not answer.');
  await expect(panel.getByText(PLACE.panel)).toBeVisible();
});

test('fits a narrow sidebar with long names of queues', async ({ page }) => {
  const name = 'research-group-of-high-energy-physics-';
  await page.route(/\/ai-batch\/v1\/queues/, async route => {
    const answer = await route.fetch();
    const [queue] = ((await answer.json()) as { queues: object[] }).queues;
    const queues = ['day', 'night'].map(end => ({
      ...queue,
      backend: 'kueue',
      name: `${name.repeat(3)}${end}`,
      waiting: 12,
      pool: {
        resource: 'nvidia.com/mig-1g.5gb',
        slots: 56,
        mine: 13,
        others_batch: 12,
        interactive: 20,
        free: 11,
        interactive_waiting: 2,
        observed_at: '2026-11-20T14:00:00Z'
      },
      share: {
        used: 12.4,
        weight: 1,
        half_life_s: 604800,
        sampled_at: null,
        summary:
          'You have used 12.4 GPU slots on average lately, and half of that is forgotten every 7 days.'
      }
    }));
    await route.fulfill({ json: { queues } });
  });
  await page.reload();
  const panel = await openPanel(page);
  await expect(panel.getByText(/^research.*night$/)).toBeVisible();
  // Nothing is cut off either: the ends of the names tell them apart.
  const hidden = await panel
    .locator(
      '.jp-AiBatch-view, .jp-AiBatch-place, .jp-AiBatch-queueName, .jp-AiBatch-pool, .jp-AiBatch-share'
    )
    .evaluateAll(parts =>
      parts.map(part => part.scrollWidth - part.clientWidth)
    );
  expect(Math.max(...hidden)).toBeLessThanOrEqual(0);
});

test('offers the YAML of a job that a cluster runs, and of no other', async ({
  page,
  tmpPath
}) => {
  await openNotebook(page, tmpPath, 'shared.ipynb', QUICK);
  await openPanel(page);
  await openDialog(page);
  await submit(page);
  const job = row(page, 'shared');
  await expectEnd(job, 'succeeded');
  await job.hover();
  await job.getByRole('button', { name: /Show details/ }).click();
  const details = page.locator(DETAILS);
  await expect(fact(details, 'Runs on')).toHaveText(PLACE.details);
  await expectAccessible(page, DETAILS);
  const exported = details.getByRole('button', { name: 'Export YAML' });
  await expect(exported).toHaveCount(PLACE.hasManifest ? 1 : 0);
  if (PLACE.hasManifest) {
    const download = page.waitForEvent('download');
    await exported.click();
    const file = await download;
    expect(file.suggestedFilename()).toMatch(/^shared\.batch-.{8}\.yaml$/);
    expect(fs.readFileSync(await file.path(), 'utf-8')).toMatch(/^kind: Job$/m);
  }
});

/**
 * The value beside a name in a list of facts.
 */
function fact(details: Locator, name: string): Locator {
  return details.locator('dt', { hasText: name }).locator('+ dd');
}
