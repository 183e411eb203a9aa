import type { NotebookPanel } from '@jupyterlab/notebook';
import type { INotebookTracker } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import type { IStateDB } from '@jupyterlab/statedb';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { openSubmitDialog } from './components/submit';
import type { ISubmission, ISubmissionRequest } from './models';
import type { Notifier } from './notify';
import { findNotebook, saveNotebook, serverPath } from './saving';
import type { IBatchSettings, ISubmissionManager } from './tokens';

/**
 * Save, ask, submit: what happens at "Submit as batch".
 */
export class SubmitFlow {
  constructor(private readonly _options: SubmitFlow.IOptions) {}

  /**
   * Submit an open notebook. Failures are shown, not thrown.
   */
  async submitPanel(panel: NotebookPanel): Promise<void> {
    await this._guard(async () => {
      await saveNotebook(panel, this._options.trans);
      // A notebook can be renamed while it is saved.
      await this._ask(this._serverPath(panel.context.path), panel);
    });
  }

  /**
   * Submit a file, which is saved first where it is open. Failures are shown, not thrown.
   */
  async submitFile(path: string): Promise<void> {
    await this._guard(async () => {
      const { contents, tracker, trans } = this._options;
      const notebookPath = this._serverPath(path);
      const panel =
        tracker === null
          ? undefined
          : findNotebook(tracker, contents, notebookPath);
      if (panel !== undefined) {
        await saveNotebook(panel, trans);
      }
      await this._ask(notebookPath, panel);
    });
  }

  private _serverPath(path: string): string {
    return serverPath(path, this._options.contents, this._options.trans);
  }

  private async _ask(
    notebookPath: string,
    panel: NotebookPanel | undefined
  ): Promise<void> {
    const { manager, notifier, settings, stateDB, translator } = this._options;
    const submission = await openSubmitDialog({
      services: {
        client: manager.client,
        submit: (request, key) => this._submit(request, key, panel),
        cancel: id => manager.cancel(id)
      },
      notebookPath,
      translator,
      stateDB,
      defaults: {
        profile: settings.defaultProfile,
        max_duration_s: settings.defaultMaxDurationS
      }
    });
    if (submission !== null) {
      notifier.submitted(submission);
    }
  }

  /**
   * Running cells may have changed the notebook while the dialog was open.
   */
  private async _submit(
    request: ISubmissionRequest,
    key: string,
    panel: NotebookPanel | undefined
  ): Promise<ISubmission> {
    if (panel !== undefined && !panel.isDisposed && panel.context.model.dirty) {
      await saveNotebook(panel, this._options.trans);
    }
    return this._options.manager.submit(request, key);
  }

  private async _guard(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (reason) {
      this._options.notifier.failure(reason);
    }
  }
}

export namespace SubmitFlow {
  export interface IOptions {
    contents: Contents.IManager;
    manager: ISubmissionManager;
    notifier: Notifier;
    settings: IBatchSettings;
    stateDB: IStateDB | null;
    /** Missing where no notebook can be open. */
    tracker: INotebookTracker | null;
    trans: TranslationBundle;
    translator: ITranslator;
  }
}
