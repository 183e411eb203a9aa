import { type ISignal, Signal } from '@lumino/signaling';
import type { IDisposable } from '@lumino/disposable';
import { BatchApiError } from './client';
import type { IOutputSet, ISubmission } from './models';
import type { ISubmissionManager } from './tokens';

/**
 * One Submission with its list of outputs, which is read when it can have changed.
 */
export class SubmissionDetails implements IDisposable {
  constructor(
    private readonly _manager: ISubmissionManager,
    readonly id: string
  ) {
    this._submission = _manager.find(id) ?? null;
    _manager.submissionsChanged.connect(this._onChanged, this);
    if (this._submission === null) {
      void this._refetch();
    } else {
      void this._readOutputs();
    }
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get submission(): ISubmission | null {
    return this._submission;
  }

  get outputs(): IOutputSet | null {
    return this._outputs;
  }

  /** Why there is nothing to show. */
  get error(): BatchApiError | null {
    return this._error;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._manager.submissionsChanged.disconnect(this._onChanged, this);
    Signal.clearData(this);
  }

  private _onChanged(): void {
    const next = this._manager.find(this.id);
    if (next === undefined || next === this._submission) {
      return;
    }
    this._submission = next;
    this._error = null;
    this._changed.emit();
    void this._readOutputs();
  }

  private async _refetch(): Promise<void> {
    try {
      this._submission = await this._manager.refetch(this.id);
    } catch (reason) {
      this._error = asError(reason);
    }
    this._emit();
    await this._readOutputs();
  }

  private async _readOutputs(): Promise<void> {
    const summary = this._submission?.outputs ?? null;
    if (summary === null || summary.state === 'pending') {
      return;
    }
    const key = JSON.stringify(summary);
    if (key === this._outputsKey) {
      return;
    }
    this._outputsKey = key;
    try {
      this._outputs = await this._manager.client.outputs(this.id);
    } catch (reason) {
      this._outputsKey = '';
      console.warn('The outputs could not be read.', reason);
    }
    this._emit();
  }

  private _emit(): void {
    if (!this._isDisposed) {
      this._changed.emit();
    }
  }

  private readonly _changed = new Signal<this, void>(this);
  private _error: BatchApiError | null = null;
  private _isDisposed = false;
  private _outputs: IOutputSet | null = null;
  private _outputsKey = '';
  private _submission: ISubmission | null;
}

function asError(reason: unknown): BatchApiError {
  return reason instanceof BatchApiError
    ? reason
    : new BatchApiError(String(reason), { code: 'page_failed' });
}
