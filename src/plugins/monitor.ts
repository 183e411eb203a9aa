import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Dialog, ICommandPalette, showDialog } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { IStateDB } from '@jupyterlab/statedb';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { refreshIcon } from '@jupyterlab/ui-components';
import { SubmissionCommands, submissionActions } from '../commands';
import { SubmissionsPanel } from '../components/panel/panel';
import { batchIcon } from '../icons';
import { CommandIDs, PANEL_ID, ROW_CLASS } from '../ids';
import { Notifier } from '../notify';
import { saveBlob, SubmissionPages } from '../pages';
import {
  IBatchSettings,
  ISubmissionManager,
  TRANSLATION_DOMAIN
} from '../tokens';
import { VisitMemory } from '../visits';

const NO_ARGS = { args: { type: 'object', properties: {} } };

/**
 * The sidebar list, logs, details, notifications, and every command on a Submission.
 */
export const monitorPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyterlab-ai-batch:monitor',
  description: 'Shows batch Submissions and tells when one ends.',
  autoStart: true,
  requires: [ISubmissionManager, IBatchSettings],
  optional: [
    ITranslator,
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    IStateDB
  ],
  activate: (
    app: JupyterFrontEnd,
    manager: ISubmissionManager,
    settings: IBatchSettings,
    translator: ITranslator | null,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    stateDB: IStateDB | null
  ) => {
    const trans = (translator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    const { commands } = app;
    const notifier = new Notifier({ commands, settings, trans });
    const actions = submissionActions(commands);
    const pages = new SubmissionPages({
      app,
      actions,
      area: labShell === null ? 'down' : 'main',
      manager,
      settings,
      trans,
      onDownload: (submission, path) => {
        manager.client.outputFile(submission.id, path).then(
          blob => {
            saveBlob(blob, PathExt.basename(path));
          },
          (reason: unknown) => {
            notifier.failure(reason);
          }
        );
      }
    });
    new SubmissionCommands({
      commands,
      manager,
      notifier,
      trans,
      idUnderMenu: () => idUnderMenu(app),
      showLog: ({ id }) => {
        pages.showLog(id);
      },
      showDetails: id => {
        pages.showDetails(id);
      },
      download: (text, name) => {
        saveBlob(new Blob([text], { type: 'application/yaml' }), name);
      }
    });
    addPanelCommands(app, manager, trans);
    const panel = new SubmissionsPanel({
      manager,
      actions,
      trans,
      onRefresh: () => {
        void commands.execute(CommandIDs.refreshList);
      },
      onSettings: () => {
        void commands.execute(CommandIDs.openSettings);
      },
      onSubmit: () => {
        void commands.execute(CommandIDs.submitNotebook);
      },
      onLoadMore: () => {
        manager.loadMore().catch((reason: unknown) => {
          notifier.failure(reason);
        });
      }
    });
    (labShell ?? app.shell).add(panel, 'left', { rank: 600, type: 'Batch' });
    restore(restorer, pages, panel);
    manager.transition.connect((_, change) => {
      notifier.transition(change);
    }, notifier);
    if (stateDB !== null) {
      void new VisitMemory({ manager, notifier, stateDB }).start();
    }
    settings.changed.connect(() => {
      askForSystemNotifications(settings);
    }, notifier);
    for (const command of [CommandIDs.showPanel, CommandIDs.refreshList]) {
      palette?.addItem({ command, category: trans.__('Batch') });
    }
  }
};

function idUnderMenu(app: JupyterFrontEnd): string | undefined {
  return app.contextMenuHitTest(node => node.classList.contains(ROW_CLASS))
    ?.dataset.submissionId;
}

function restore(
  restorer: ILayoutRestorer | null,
  pages: SubmissionPages,
  panel: SubmissionsPanel
): void {
  if (restorer === null) {
    return;
  }
  restorer.add(panel, PANEL_ID);
  void restorer.restore(pages.logs, {
    command: CommandIDs.showLog,
    args: page => ({ id: page.content.submissionId }),
    name: page => page.content.submissionId
  });
  void restorer.restore(pages.details, {
    command: CommandIDs.showDetails,
    args: page => ({ id: page.content.submissionId }),
    name: page => page.content.submissionId
  });
}

function addPanelCommands(
  app: JupyterFrontEnd,
  manager: ISubmissionManager,
  trans: TranslationBundle
): void {
  const { commands } = app;
  commands.addCommand(CommandIDs.showPanel, {
    label: trans.__('Batch Jobs'),
    caption: trans.__('Show the list of batch jobs'),
    icon: args => (args.isPalette === true ? undefined : batchIcon),
    describedBy: NO_ARGS,
    execute: () => {
      app.shell.activateById(PANEL_ID);
    }
  });
  commands.addCommand(CommandIDs.refreshList, {
    label: trans.__('Refresh Batch Jobs'),
    caption: trans.__('Ask the server for the list of batch jobs now'),
    icon: refreshIcon,
    describedBy: NO_ARGS,
    execute: () => manager.refresh()
  });
  commands.addCommand(CommandIDs.openSettings, {
    label: trans.__('Batch Settings'),
    caption: trans.__('Open the settings of batch jobs'),
    describedBy: NO_ARGS,
    execute: () => commands.execute('settingeditor:open', { query: 'Batch' })
  });
  commands.addCommand(CommandIDs.showError, {
    label: trans.__('Show Error'),
    caption: trans.__('Show what went wrong and what to do about it'),
    describedBy: {
      args: {
        type: 'object',
        properties: {
          message: { type: 'string' },
          hint: { type: 'string' },
          code: { type: 'string' }
        }
      }
    },
    execute: args => {
      const words = [args.message, args.hint].filter(
        word => typeof word === 'string'
      );
      return showDialog({
        title: trans.__('Batch'),
        body: `${words.join('\n\n')}\n\n${trans.__('Code: %1', typeof args.code === 'string' ? args.code : '')}`,
        buttons: [Dialog.okButton()]
      });
    }
  });
}

function askForSystemNotifications(settings: IBatchSettings): void {
  const System = window.Notification as typeof window.Notification | undefined;
  if (settings.systemNotifications && System?.permission === 'default') {
    void System.requestPermission();
  }
}
