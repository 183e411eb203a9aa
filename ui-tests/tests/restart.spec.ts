import { expect, test } from '@playwright/test';
import { type ChildProcess, spawn } from 'child_process';
import * as path from 'path';
import { serverEnvironment } from '../server-environment';
import {
  expectEnd,
  openDialog,
  PANEL,
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

test('a killed server leaves the job running, and the page finds it again', async ({
  page
}) => {
  // Lab's own word about the lost connection lies over everything.
  await page.addLocatorHandler(
    page.getByRole('dialog', { name: 'Server Connection Error' }),
    async () => {
      await page.keyboard.press('Escape');
    }
  );
  let server = await startServer();
  try {
    await page.request.put(`${URL}/api/contents/survivor.ipynb`, {
      data: {
        type: 'notebook',
        format: 'json',
        content: JSON.parse(HALF_A_MINUTE) as object
      }
    });
    await page.goto(`${URL}/lab/workspaces/survivor/tree/survivor.ipynb`);
    await page.locator('.jp-SideBar [data-id="ai-batch-panel"]').click();
    await openDialog(page);
    await submit(page);
    const panel = page.locator(PANEL);
    const job = row(page, 'survivor');
    await expect(job).toHaveAttribute('data-state', 'running', {
      timeout: RUN_TIMEOUT_MS
    });

    await kill(server);
    await expect(panel).toContainText('cannot be reached', {
      timeout: 30_000
    });
    await expect(job).toBeVisible();

    server = await startServer();
    await expectEnd(job, 'succeeded');
    await expect(panel.getByText('cannot be reached')).toHaveCount(0);
  } finally {
    await kill(server);
  }
});
