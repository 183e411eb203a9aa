import { test } from '@jupyterlab/galata';
import { expect } from '@playwright/test';
import { type ChildProcess, spawn } from 'child_process';
import * as path from 'path';
import { serverEnvironment } from '../server-environment';
import {
  expectEnd,
  openDialog,
  openNotebook,
  openPanel,
  picture,
  row,
  RUN_TIMEOUT_MS,
  submit
} from './batch';
import { notebook } from './notebooks';

const PORT = Number(process.env.UI_TEST_PORT ?? 8989) + 1;
const URL = `http://localhost:${PORT}`;

/** Long enough for a server to die and come back, and no longer. */
const HALF_A_MINUTE = notebook([
  'import time',
  'for i in range(30):\n    print("second", i)\n    time.sleep(1)',
  'print("survived")'
]);

/**
 * A second server of the same user: same home, another port.
 */
async function startServer(): Promise<ChildProcess> {
  const server = spawn(
    'jupyter',
    ['lab', '--config', 'jupyter_server_test_config.py'],
    {
      cwd: path.resolve(__dirname, '..'),
      env: {
        ...serverEnvironment(process.env.UI_TEST_HOME!, PORT),
        UI_TEST_KEEP: '1'
      },
      stdio: 'ignore'
    }
  );
  await expect
    .poll(
      async () => {
        try {
          return (await fetch(`${URL}/api/status`)).status;
        } catch {
          return 0;
        }
      },
      { timeout: 60_000 }
    )
    .toBe(200);
  return server;
}

async function kill(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) {
    return;
  }
  const gone = new Promise(resolve => server.once('exit', resolve));
  server.kill('SIGKILL');
  await gone;
}

test.describe('a server that is killed', () => {
  test.use({ autoGoto: false });

  test('leaves the job running, and the page finds it again', async ({
    page,
    tmpPath
  }) => {
    let server = await startServer();
    try {
      await page.goto(`${URL}/lab`);
      await openNotebook(page, tmpPath, 'survivor.ipynb', HALF_A_MINUTE);
      const panel = await openPanel(page);
      await openDialog(page);
      await submit(page);
      const job = row(page, 'survivor');
      await expect(job).toHaveAttribute('data-state', 'running', {
        timeout: RUN_TIMEOUT_MS
      });

      await kill(server);
      await panel.getByRole('button', { name: 'Refresh the list' }).click();
      await expect(panel).toContainText('cannot be reached');
      await expect(job).toBeVisible();
      await picture(panel, 'server-gone');

      server = await startServer();
      await expectEnd(job, 'succeeded');
      await expect(panel.getByText('cannot be reached')).toHaveCount(0);
    } finally {
      await kill(server);
    }
  });
});
