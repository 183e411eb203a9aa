import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ITranslator } from '@jupyterlab/translation';
import { BatchClient } from '../client';
import { SubmissionManager } from '../manager';
import { IBatchSettings, ISubmissionManager } from '../tokens';

/**
 * Builds the REST client and the manager; nothing else does.
 */
export const managerPlugin: JupyterFrontEndPlugin<ISubmissionManager> = {
  id: 'jupyterlab-ai-batch:manager',
  description: 'Keeps the list of batch Submissions of this server.',
  autoStart: true,
  requires: [IBatchSettings],
  optional: [ITranslator],
  provides: ISubmissionManager,
  activate: (
    app: JupyterFrontEnd,
    settings: IBatchSettings,
    translator: ITranslator | null
  ) => {
    const manager = new SubmissionManager({
      client: new BatchClient({
        serverSettings: app.serviceManager.serverSettings,
        translator: translator ?? undefined
      }),
      events: app.serviceManager.events,
      intervalMs: settings.pollIntervalMs
    });
    settings.changed.connect(() => {
      manager.intervalMs = settings.pollIntervalMs;
    }, manager);
    return manager;
  }
};
