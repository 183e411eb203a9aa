/**
 * The extension of JupyterLab and Notebook 7.
 */
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { managerPlugin } from './plugins/manager';
import { monitorPlugin } from './plugins/monitor';
import { settingsPlugin } from './plugins/settings';
import { submitPlugin } from './plugins/submit';

export * from './tokens';

const plugins: readonly JupyterFrontEndPlugin<unknown>[] = [
  settingsPlugin,
  managerPlugin,
  monitorPlugin,
  submitPlugin
];

export default plugins;
