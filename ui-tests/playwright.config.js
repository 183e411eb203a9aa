/**
 * Browser tests of jupyterlab-ai-batch against a real server.
 *
 * CHROMIUM_PATH        browser to use; else /usr/bin/chromium, else the one that Playwright has downloaded
 * UI_TEST_PORT         port of the test server (8989)
 * UI_TEST_SERVER       URL of a JupyterLab in a cluster, to test instead of a server of our own; UI_TEST_TOKEN: its token
 * UPDATE_SCREENSHOTS   1: take the pictures of docs/images (npm run screenshots)
 */
const baseConfig = require('@jupyterlab/galata/lib/playwright-config');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { serverEnvironment } = require('./server-environment');

const port = Number(process.env.UI_TEST_PORT ?? 8989);

// The workers load this file too: they inherit the directory that the first process has made.
process.env.UI_TEST_HOME ??= fs.mkdtempSync(
  path.join(os.tmpdir(), 'ai-batch-ui-')
);

const cluster = process.env.UI_TEST_SERVER;

const chromium = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';

/**
 * What a user does is the same in a cluster; the other specs are about this machine or take pictures.
 */
const CLUSTER = {
  name: 'cluster',
  testMatch: /(failure|pictures-cluster|place|submit)\.spec\.ts/,
  use: {
    // The server answers the first request with a login cookie, which websockets then have.
    extraHTTPHeaders: { Authorization: `token ${process.env.UI_TEST_TOKEN}` }
  }
};

module.exports = {
  ...baseConfig,
  testDir: './tests',
  outputDir: './test-results',
  projects: [cluster ? CLUSTER : { name: 'local' }],
  reporter: [['list']],
  workers: 1,
  fullyParallel: false,
  forbidOnly: !!process.env.CI,
  timeout: 240_000,
  expect: { timeout: 15_000 },
  use: {
    ...baseConfig.use,
    baseURL: cluster ?? `http://localhost:${port}`,
    viewport: { width: 1280, height: 800 },
    video: 'off',
    trace: 'off',
    screenshot: 'only-on-failure',
    launchOptions: {
      ...(fs.existsSync(chromium) ? { executablePath: chromium } : {}),
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu']
    }
  },
  webServer: cluster
    ? undefined
    : {
        command: 'jupyter lab --config jupyter_server_test_config.py',
        url: `http://localhost:${port}/lab`,
        env: serverEnvironment(process.env.UI_TEST_HOME, port),
        gracefulShutdown: { signal: 'SIGTERM', timeout: 20_000 },
        timeout: 120_000,
        reuseExistingServer: false,
        stdout: process.env.UI_TEST_SERVER_LOG ? 'pipe' : 'ignore',
        stderr: process.env.UI_TEST_SERVER_LOG ? 'pipe' : 'ignore'
      }
};
