/**
 * The picture of the panel on a cluster: UPDATE_SCREENSHOTS=1 with tests/cluster/test_browser.py
 */
import { test } from '@jupyterlab/galata';
import { expect } from '@playwright/test';
import {
  cancelActive,
  openDialog,
  openNotebook,
  openPanel,
  picture,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { LONG } from './notebooks';
import { PLACE } from './place';

test.skip(
  process.env.UPDATE_SCREENSHOTS !== '1' || !PLACE.hasManifest,
  'Pictures are taken on demand'
);
test.afterEach(({ request }) => cancelActive(request));

test('two slices, three jobs', async ({ page }) => {
  await page.setViewportSize({ width: 1200, height: 440 });
  const panel = await openPanel(page);
  for (const name of ['fit-jets', 'train-digits', 'sweep']) {
    await openNotebook(page, '', `${name}.ipynb`, LONG);
    await openDialog(page);
    await submit(page);
    await expect(row(page, name)).toHaveAttribute(
      'data-state',
      name === 'sweep' ? 'queued' : 'running',
      { timeout: RUN_TIMEOUT_MS }
    );
  }
  await expect(row(page, 'sweep')).toContainText('next in the queue');
  await picture(panel, 'list-cluster');
});
