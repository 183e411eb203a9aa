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
  await expect(dialog.getByText(PLACE.dialog)).toBeAttached();
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
