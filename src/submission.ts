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
      await panel.context.ready;
      await this._ask(this._serverPath(panel.context.path), panel);
    });
  }

  /**
   * Submit a file, which is saved first where it is open. Failures are shown, not thrown.
   */
  async submitFile(path: string): Promise<void> {
    await this._guard(async () => {
      const { contents, tracker } = this._options;
      const notebookPath = this._serverPath(path);
      const panel =
        tracker === null
          ? undefined
          : findNotebook(tracker, contents, notebookPath);
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
    const { client } = manager;
    // The dialog opens while the notebook is saved; what reads the file waits for that.
    const saved = this._save(panel);
    const submission = await openSubmitDialog({
      services: {
        client: {
          profiles: path => client.profiles(path),
          queues: () => client.queues(),
          parameters: path => saved.then(() => client.parameters(path)),
          plan: (request, signal) =>
            saved.then(() => client.plan(request, signal))
        },
        submit: (request, key) => this._submit(request, key, panel, saved),
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

  private async _save(panel: NotebookPanel | undefined): Promise<void> {
    if (panel !== undefined) {
      await saveNotebook(panel, this._options.trans);
    }
  }

  /**
   * Running cells may have changed the notebook while the dialog was open, or the first save may have failed.
   */
  private async _submit(
    request: ISubmissionRequest,
    key: string,
    panel: NotebookPanel | undefined,
    saved: Promise<void>
  ): Promise<ISubmission> {
    const isSaved = await saved.then(
      () => true,
      () => false
    );
    if (
      panel !== undefined &&
      !panel.isDisposed &&
      (!isSaved || panel.context.model.dirty)
    ) {
      await this._save(panel);
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
