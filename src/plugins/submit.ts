import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import {
  IDefaultFileBrowser,
  IFileBrowserFactory
} from '@jupyterlab/filebrowser';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IStateDB } from '@jupyterlab/statedb';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { batchIcon } from '../icons';
import { CommandIDs } from '../ids';
import { Notifier } from '../notify';
import { SaveResponder } from '../saving';
import { SubmitFlow } from '../submission';
import {
  IBatchSettings,
  ISubmissionManager,
  TRANSLATION_DOMAIN
} from '../tokens';

/**
 * "Submit as batch" in the notebook's toolbar, the menus, the palette and the file browser.
 */
export const submitPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyterlab-ai-batch:submit',
  description: 'Submits the active notebook as a batch job.',
  autoStart: true,
  requires: [ISubmissionManager, IBatchSettings],
  optional: [
    INotebookTracker,
    ITranslator,
    ICommandPalette,
    IFileBrowserFactory,
    IDefaultFileBrowser,
    IStateDB
  ],
  activate: (
    app: JupyterFrontEnd,
    manager: ISubmissionManager,
    settings: IBatchSettings,
    tracker: INotebookTracker | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null,
    browserFactory: IFileBrowserFactory | null,
    defaultBrowser: IDefaultFileBrowser | null,
    stateDB: IStateDB | null
  ) => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    const { contents, events } = app.serviceManager;
    const notifier = new Notifier({ commands: app.commands, settings, trans });
    const flow = new SubmitFlow({
      contents,
      manager,
      notifier,
      settings,
      stateDB,
      tracker,
      trans,
      translator: translator ?? nullTranslator
    });
    addSubmitNotebook(app, flow, tracker, notifier, trans);
    addSubmitFile(app, flow, trans, () => {
      const browser = browserFactory?.tracker.currentWidget ?? defaultBrowser;
      const selected = browser?.selectedItems().next();
      return selected?.done === false ? selected.value.path : undefined;
    });
    if (tracker !== null) {
      new SaveResponder({
        client: manager.client,
        contents,
        events,
        tracker,
        trans
      });
    }
    palette?.addItem({
      command: CommandIDs.submitNotebook,
      category: trans.__('Batch')
    });
  }
};

function addSubmitNotebook(
  app: JupyterFrontEnd,
  flow: SubmitFlow,
  tracker: INotebookTracker | null,
  notifier: Notifier,
  trans: TranslationBundle
): void {
  const { commands } = app;
  const target = (): NotebookPanel | null => tracker?.currentWidget ?? null;
  commands.addCommand(CommandIDs.submitNotebook, {
    label: trans.__('Submit as Batch…'),
    caption: trans.__(
      'Submit this notebook as a batch job, with its files and environment as they are now'
    ),
    icon: args => (args.isPalette === true ? undefined : batchIcon),
    describedBy: {
      args: {
        type: 'object',
        properties: {
          path: {
            type: 'string',
            description: 'API path of the notebook; the active one otherwise'
          }
        }
      }
    },
    isEnabled: args => typeof args.path === 'string' || target() !== null,
    execute: async (args: ReadonlyPartialJSONObject) => {
      const panel = target();
      if (typeof args.path === 'string') {
        await flow.submitFile(args.path);
      } else if (panel !== null) {
        await flow.submitPanel(panel);
      } else {
        notifier.failure(
          new Error(trans.__('Open the notebook that you want to submit.'))
        );
      }
    }
  });
  tracker?.currentChanged.connect(() => {
    commands.notifyCommandChanged(CommandIDs.submitNotebook);
  }, flow);
}

function addSubmitFile(
  app: JupyterFrontEnd,
  flow: SubmitFlow,
  trans: TranslationBundle,
  selectedPath: () => string | undefined
): void {
  app.commands.addCommand(CommandIDs.submitFile, {
    label: trans.__('Submit as Batch…'),
    caption: trans.__('Submit this notebook file as a batch job'),
    icon: batchIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    isVisible: () => selectedPath()?.endsWith('.ipynb') === true,
    execute: async () => {
      const path = selectedPath();
      if (path !== undefined) {
        await flow.submitFile(path);
      }
    }
  });
}
