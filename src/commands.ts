import { Clipboard, Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { notebookIcon, stopIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import {
  canCancel,
  canCollect,
  canExport,
  hasLog,
  hasResult,
  hasRunTime,
  type ISubmissionActions
} from './components/actions';
import { manifestName } from './format';
import { collectIcon, detailsIcon, logIcon, resubmitIcon } from './icons';
import { CommandIDs } from './ids';
import type { IMergeReport, ISubmission } from './models';
import { isFinished } from './models';
import type { Notifier } from './notify';
import type { ISubmissionManager } from './tokens';

const ID_ARGS = {
  type: 'object',
  properties: {
    id: { type: 'string', description: 'Id of the Submission' }
  }
} as const;

/**
 * What the commands on Submissions work with.
 */
export interface ISubmissionCommandOptions {
  commands: CommandRegistry;
  manager: ISubmissionManager;
  notifier: Notifier;
  trans: TranslationBundle;
  /** Id of the Submission whose row was right-clicked. */
  idUnderMenu: () => string | undefined;
  showLog: (submission: ISubmission) => void;
  showDetails: (id: string) => void;
  /** Hand text to the browser's downloads, under this file name. */
  download: (text: string, name: string) => void;
}

/**
 * Everything that can be done to one Submission, as commands that take its `id`.
 */
export class SubmissionCommands {
  constructor(private readonly _options: ISubmissionCommandOptions) {
    this._addOpening();
    this._addChanging();
  }

  private _addOpening(): void {
    const { commands, showDetails, showLog, trans } = this._options;
    this._add(CommandIDs.openResults, {
      label: trans.__('Open Result'),
      caption: trans.__('Open the executed notebook'),
      icon: notebookIcon,
      applies: hasResult,
      run: ({ executed_notebook: path }) =>
        commands.execute('docmanager:open', { path })
    });
    this._add(CommandIDs.openNotebook, {
      label: trans.__('Open Notebook'),
      caption: trans.__('Open the notebook that was submitted'),
      applies: () => true,
      run: ({ notebook_path: path }) =>
        commands.execute('docmanager:open', { path })
    });
    this._add(CommandIDs.showLog, {
      label: trans.__('Show Log'),
      caption: trans.__('Follow what the batch job prints'),
      icon: logIcon,
      applies: hasLog,
      run: submission => {
        showLog(submission);
      }
    });
    this._add(CommandIDs.showDetails, {
      label: trans.__('Show Details'),
      caption: trans.__('Show attempts, outputs and what was captured'),
      icon: detailsIcon,
      applies: () => true,
      run: ({ id }) => {
        showDetails(id);
      }
    });
    this._add(CommandIDs.exportManifest, {
      label: trans.__('Export YAML'),
      caption: trans.__('Download the batch job as “kubectl apply” takes it'),
      applies: canExport,
      run: submission => this._export(submission)
    });
    this._add(CommandIDs.copyId, {
      label: trans.__('Copy Id'),
      caption: trans.__('Copy the id that “jupyter ai-batch” takes'),
      applies: () => true,
      run: ({ id }) => {
        Clipboard.copyToSystem(id);
      }
    });
  }

  private _addChanging(): void {
    const { trans } = this._options;
    this._add(CommandIDs.collect, {
      label: trans.__('Collect Outputs'),
      caption: trans.__(
        'Bring the stored outputs home; nothing of yours is overwritten'
      ),
      icon: collectIcon,
      applies: canCollect,
      run: submission => this._collect(submission)
    });
    this._add(CommandIDs.resubmit, {
      label: trans.__('Submit Again'),
      caption: trans.__('Submit with the same choices and the files of now'),
      icon: resubmitIcon,
      applies: ({ state }) => isFinished(state),
      run: submission => this._resubmit(submission)
    });
    this._add(CommandIDs.cancel, {
      label: trans.__('Cancel'),
      caption: trans.__('End the batch job; what is stored so far is kept'),
      icon: stopIcon,
      applies: canCancel,
      run: (submission, args) => this._cancel(submission, args.ask === true)
    });
  }

  private _add(command: string, options: ISubmissionCommand): void {
    const { applies, run, ...looks } = options;
    const applicable = (args: ReadonlyPartialJSONObject): boolean => {
      const submission = this._find(args);
      return submission !== undefined && applies(submission);
    };
    this._options.commands.addCommand(command, {
      ...looks,
      describedBy: { args: ID_ARGS },
      isEnabled: args => typeof args.id === 'string' || applicable(args),
      isVisible: args => typeof args.id === 'string' || applicable(args),
      execute: args => this._run(args, run)
    });
  }

  private async _run(
    args: ReadonlyPartialJSONObject,
    run: ISubmissionCommand['run']
  ): Promise<void> {
    const { manager, notifier } = this._options;
    try {
      const submission =
        this._find(args) ??
        (typeof args.id === 'string'
          ? await manager.refetch(args.id)
          : undefined);
      if (submission !== undefined) {
        await run(submission, args);
      }
    } catch (reason) {
      notifier.failure(reason, () => {
        void this._run(args, run);
      });
    }
  }

  private _find(args: ReadonlyPartialJSONObject): ISubmission | undefined {
    const { idUnderMenu, manager } = this._options;
    const id = typeof args.id === 'string' ? args.id : idUnderMenu();
    return id === undefined ? undefined : manager.find(id);
  }

  private async _collect(submission: ISubmission): Promise<void> {
    const { manager, notifier, trans } = this._options;
    const report = await manager.client.collect(submission.id);
    const fresh = await manager.refetch(submission.id);
    const actions = [
      hasResult(fresh)
        ? notifier.action(
            trans.__('Open result'),
            CommandIDs.openResults,
            fresh.id
          )
        : notifier.action(trans.__('Details'), CommandIDs.showDetails, fresh.id)
    ];
    notifier.done(collectWords(report, trans), actions);
  }

  private async _export(submission: ISubmission): Promise<void> {
    const { download, manager } = this._options;
    const manifest = await manager.client.manifest(submission.id);
    download(manifest, manifestName(submission));
  }

  private async _resubmit(submission: ISubmission): Promise<void> {
    const { manager, notifier } = this._options;
    notifier.submitted(await manager.resubmit(submission.id));
  }

  private async _cancel(submission: ISubmission, ask: boolean): Promise<void> {
    const { manager, trans } = this._options;
    if (ask || hasRunTime(submission)) {
      const answer = await showDialog({
        title: trans.__('Cancel “%1”?', submission.title),
        body: hasRunTime(submission)
          ? trans.__(
              'It stops now. Files that it stored so far are kept and can be collected.'
            )
          : trans.__('It has not started yet: nothing is lost.'),
        buttons: [
          Dialog.cancelButton({ label: trans.__('Let It Go On') }),
          Dialog.warnButton({ label: trans.__('Cancel the Batch Job') })
        ],
        defaultButton: 0
      });
      if (!answer.button.accept) {
        return;
      }
    }
    await manager.cancel(submission.id);
  }
}

interface ISubmissionCommand {
  label: string;
  caption: string;
  icon?: CommandRegistry.ICommandOptions['icon'];
  applies: (submission: ISubmission) => boolean;
  run: (submission: ISubmission, args: ReadonlyPartialJSONObject) => unknown;
}

/**
 * The actions of rows and pages, by way of the commands.
 */
export function submissionActions(
  commands: CommandRegistry
): ISubmissionActions {
  const by = (command: string) => (submission: ISubmission) => {
    void commands.execute(command, { id: submission.id });
  };
  return {
    open: submission => {
      by(
        hasResult(submission) ? CommandIDs.openResults : CommandIDs.showDetails
      )(submission);
    },
    openResults: by(CommandIDs.openResults),
    showLog: by(CommandIDs.showLog),
    showDetails: by(CommandIDs.showDetails),
    collect: by(CommandIDs.collect),
    exportManifest: by(CommandIDs.exportManifest),
    resubmit: by(CommandIDs.resubmit),
    cancel: (submission, ask) => {
      void commands.execute(CommandIDs.cancel, { id: submission.id, ask });
    }
  };
}

function collectWords(report: IMergeReport, trans: TranslationBundle): string {
  const count = (...actions: readonly string[]) =>
    report.entries.filter(entry => actions.includes(entry.action)).length;
  const home = count('created', 'updated');
  const twice = count('kept_both');
  const refused = count('refused');
  const parts = [trans._n('%1 file came home', '%1 files came home', home)];
  if (twice > 0) {
    parts.push(
      trans._n(
        '%1 was changed by you too and is kept twice',
        '%1 were changed by you too and are kept twice',
        twice
      )
    );
  }
  if (refused > 0) {
    parts.push(trans._n('%1 was refused', '%1 were refused', refused));
  }
  return `${parts.join('; ')}.`;
}
