import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { BatchSettings } from '../settings';
import { IBatchSettings, PLUGIN_IDS } from '../tokens';

/**
 * The user's settings, under the id that the schema has.
 */
export const settingsPlugin: JupyterFrontEndPlugin<IBatchSettings> = {
  id: 'jupyterlab-ai-batch:plugin',
  description: 'The user’s settings of the batch extension.',
  autoStart: true,
  optional: [ISettingRegistry],
  provides: IBatchSettings,
  activate: (_, registry: ISettingRegistry | null) => {
    const settings = new BatchSettings();
    void registry
      ?.load(PLUGIN_IDS.settings)
      .then(loaded => {
        settings.connect(loaded);
      })
      .catch((reason: unknown) => {
        console.error('Failed to load the batch settings.', reason);
      });
    return settings;
  }
};
