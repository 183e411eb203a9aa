import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';
import { BatchApiError } from './client';
import { CommandIDs } from './ids';
import { formatAttempts, shorten } from './format';
import { isFinished, type ISubmission } from './models';
import type { IBatchSettings, ITransition } from './tokens';

/** Core cuts messages at 140 characters. */
const MESSAGE_LIMIT = 120;
const SHORT_MS = 6_000;

/** More ends than this at once make one notification. */
export const SUMMARY_FROM = 4;

type Kind = 'success' | 'error' | 'warning' | 'info';

/**
 * The only place that shows notifications: one for each transition, never one for each poll.
 */
export class Notifier {
  constructor(options: Notifier.IOptions) {
    this._commands = options.commands;
    this._settings = options.settings;
    this._trans = options.trans;
  }

  /**
   * A notebook was handed in; what is captured decides what the job sees.
   */
  submitted(submission: ISubmission): void {
    const message = this._trans.__(
      '“%1” is submitted. Its files are being captured.',
      shorten(submission.title, 50)
    );
    this._toasts.set(
      submission.id,
      Notification.info(message, {
        autoClose: SHORT_MS,
        actions: [this._action(this._trans.__('Show'), CommandIDs.showPanel)]
      })
    );
  }

  /**
   * Tell what deserves telling about one change of state.
   */
  transition(change: ITransition): void {
    const { before, after } = change;
    if (before.state === 'capturing') {
      this._captureEnded(after);
    }
    switch (after.state) {
      case 'succeeded':
        this._succeeded(after);
        break;
      case 'failed':
        this._failed(after);
        break;
      case 'blocked':
        this._blocked(after);
        break;
      case 'queued':
        if (before.state !== 'capturing' && before.state !== 'blocked') {
          this._interrupted(after);
        }
        break;
      case 'evicting':
      case 'cancelled':
      case 'capturing':
      case 'starting':
      case 'running':
      case 'cancelling':
      case 'collecting':
        break;
    }
  }

  /**
   * Several ended while nobody looked.
   */
  summary(succeeded: number, failed: number): void {
    const parts: string[] = [];
    if (succeeded > 0 && this._settings.notifyOnSuccess) {
      parts.push(this._trans._n('%1 succeeded', '%1 succeeded', succeeded));
    }
    if (failed > 0 && this._settings.notifyOnFailure) {
      parts.push(this._trans._n('%1 failed', '%1 failed', failed));
    }
    if (parts.length === 0) {
      return;
    }
    this._show(
      failed > 0 ? 'warning' : 'success',
      this._trans.__('While you were away: %1.', parts.join(', ')),
      [this._action(this._trans.__('Show'), CommandIDs.showPanel)]
    );
  }

  /**
   * Something that the user asked for did not happen.
   *
   * @param retry - Offered when the same request may succeed later.
   */
  failure(reason: unknown, retry?: () => void): void {
    const error =
      reason instanceof BatchApiError
        ? reason
        : new BatchApiError(
            reason instanceof Error ? reason.message : String(reason),
            { code: 'page_failed' }
          );
    const actions: Notification.IAction[] = [];
    if (retry !== undefined && error.retryable) {
      actions.push({ label: this._trans.__('Try again'), callback: retry });
    }
    if (error.hint !== null || error.message.length > MESSAGE_LIMIT) {
      actions.push({
        label: this._trans.__('Details'),
        callback: () => {
          void this._commands.execute(CommandIDs.showError, {
            message: error.message,
            hint: error.hint,
            code: error.code
          });
        }
      });
    }
    Notification.error(shorten(error.message, MESSAGE_LIMIT), {
      autoClose: false,
      actions
    });
  }

  /**
   * A short word about something that went well.
   */
  done(message: string, actions: Notification.IAction[] = []): void {
    Notification.success(shorten(message, MESSAGE_LIMIT), {
      autoClose: SHORT_MS,
      actions
    });
  }

  /**
   * A button that runs one of our commands.
   */
  action(label: string, command: string, id: string): Notification.IAction {
    return this._action(label, command, id);
  }

  private _captureEnded(submission: ISubmission): void {
    const toast = this._toasts.get(submission.id);
    if (toast === undefined) {
      return;
    }
    this._toasts.delete(submission.id);
    if (isFinished(submission.state) && submission.snapshot === null) {
      Notification.dismiss(toast);
      return;
    }
    Notification.update({
      id: toast,
      message: this._trans.__(
        '“%1” is captured: edits from now on do not reach the job.',
        shorten(submission.title, 50)
      ),
      type: 'success',
      autoClose: SHORT_MS
    });
  }

  private _succeeded(submission: ISubmission): void {
    if (!this._settings.notifyOnSuccess) {
      return;
    }
    const home = submission.outputs?.state === 'collected';
    this._show(
      'success',
      home
        ? this._trans._n(
            '“%2” has succeeded: %1 file is home.',
            '“%2” has succeeded: %1 files are home.',
            submission.outputs.files,
            shorten(submission.title, 60)
          )
        : this._trans.__('“%1” has succeeded.', shorten(submission.title, 60)),
      [
        submission.executed_notebook === null
          ? this._action(
              this._trans.__('Collect'),
              CommandIDs.collect,
              submission.id
            )
          : this._action(
              this._trans.__('Open result'),
              CommandIDs.openResults,
              submission.id
            ),
        this._details(submission)
      ]
    );
  }

  private _failed(submission: ISubmission): void {
    if (!this._settings.notifyOnFailure) {
      return;
    }
    const title = shorten(submission.title, 40);
    const why = submission.explanation?.summary ?? this._trans.__('Failed.');
    const result = this._action(
      this._trans.__('Open result'),
      CommandIDs.openResults,
      submission.id
    );
    this._show('error', `“${title}”: ${why}`, [
      ...(submission.executed_notebook === null ? [] : [result]),
      this._action(
        this._trans.__('Show log'),
        CommandIDs.showLog,
        submission.id
      ),
      this._details(submission)
    ]);
  }

  private _blocked(submission: ISubmission): void {
    if (!this._settings.notifyOnFailure) {
      return;
    }
    const title = shorten(submission.title, 40);
    const why =
      submission.explanation?.summary ??
      this._trans.__('It cannot start as it is.');
    this._show('warning', `“${title}”: ${why}`, [this._details(submission)]);
  }

  private _interrupted(submission: ISubmission): void {
    if (!this._settings.notifyOnInterruption) {
      return;
    }
    const title = shorten(submission.title, 40);
    const why =
      submission.explanation?.summary ??
      formatAttempts(submission.attempts, this._trans);
    this._show(
      'info',
      why === ''
        ? this._trans.__('“%1” was interrupted and waits to run again.', title)
        : `“${title}”: ${why}`,
      [this._details(submission)]
    );
  }

  private _show(
    kind: Kind,
    message: string,
    actions: Notification.IAction[]
  ): void {
    const text = shorten(message, MESSAGE_LIMIT);
    Notification.emit(text, kind, {
      autoClose: kind === 'error' ? false : SHORT_MS,
      actions
    });
    this._tellSystem(text);
  }

  private _tellSystem(message: string): void {
    const System = window.Notification as
      | typeof window.Notification
      | undefined;
    if (
      this._settings.systemNotifications &&
      document.hidden &&
      System?.permission === 'granted'
    ) {
      new System(this._trans.__('Batch'), { body: message });
    }
  }

  private _details(submission: ISubmission): Notification.IAction {
    return this._action(
      this._trans.__('Details'),
      CommandIDs.showDetails,
      submission.id
    );
  }

  private _action(
    label: string,
    command: string,
    id?: string
  ): Notification.IAction {
    return {
      label,
      callback: () => {
        void this._commands.execute(command, id === undefined ? {} : { id });
      }
    };
  }

  private readonly _commands: CommandRegistry;
  private readonly _settings: IBatchSettings;
  private readonly _toasts = new Map<string, string>();
  private readonly _trans: TranslationBundle;
}

export namespace Notifier {
  export interface IOptions {
    commands: CommandRegistry;
    settings: IBatchSettings;
    trans: TranslationBundle;
  }
}
