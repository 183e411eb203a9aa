import type { IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';
import { BatchApiError, type BatchClient } from '../client';
import { logChunk } from '../wire';
import { LogText } from './text';

const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;

/**
 * `connecting` and `retrying` have no connection, `complete` needs none.
 */
export type FollowState =
  | 'paused'
  | 'connecting'
  | 'following'
  | 'retrying'
  | 'complete'
  | 'refused';

/**
 * Follows one Attempt's log over a websocket; after a break it goes on at the byte where it was.
 */
export class LogFollower implements IDisposable {
  constructor(options: LogFollower.IOptions) {
    this._client = options.client;
    this._id = options.id;
    this._attempt = options.attempt ?? null;
    this._setTimeout = options.setTimeout ?? window.setTimeout.bind(window);
    this._clearTimeout =
      options.clearTimeout ?? window.clearTimeout.bind(window);
    this.text = new LogText(options.maxChars);
  }

  readonly text: LogText;

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get state(): FollowState {
    return this._state;
  }

  /** The Attempt followed; `null` for the latest, until its first piece names it. */
  get attempt(): number | null {
    return this._attempt;
  }

  /** Why it is refused or being retried. */
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
    this._disconnect();
    Signal.clearData(this);
  }

  /**
   * Start over with another Attempt.
   */
  choose(attempt: number): void {
    if (attempt === this._attempt) {
      return;
    }
    this._disconnect();
    this._attempt = attempt;
    this._offset = 0;
    this.text.clear();
    this._state = 'paused';
    this.resume();
  }

  /**
   * Connect, unless the whole log is here.
   */
  resume(): void {
    if (
      this._isDisposed ||
      (this._state !== 'paused' &&
        this._state !== 'retrying' &&
        this._state !== 'refused')
    ) {
      return;
    }
    this._connect();
  }

  /**
   * Drop the connection and keep what is here.
   */
  pause(): void {
    if (this._state !== 'complete') {
      this._disconnect();
      this._setState('paused');
    }
  }

  private _connect(): void {
    this._disconnect();
    this._setState('connecting');
    const socket = this._client.openLogStream(this._id, {
      offset: this._offset,
      ...(this._attempt === null ? {} : { attempt: this._attempt })
    });
    this._socket = socket;
    socket.onopen = () => {
      this._retryMs = RETRY_MIN_MS;
      this._error = null;
      this._setState('following');
    };
    socket.onmessage = event => {
      this._receive(event.data);
    };
    socket.onclose = () => {
      if (socket === this._socket) {
        this._socket = null;
        void this._onLost();
      }
    };
  }

  private _disconnect(): void {
    const socket = this._socket;
    this._socket = null;
    this._clearTimeout(this._timer);
    socket?.close();
  }

  private _receive(message: unknown): void {
    if (typeof message !== 'string') {
      return;
    }
    try {
      this._take(logChunk(JSON.parse(message) as unknown, 'log'));
    } catch (reason) {
      console.error('A piece of the log was not understood.', reason);
    }
  }

  private _take(chunk: ReturnType<typeof logChunk>): void {
    if (this._attempt !== null && chunk.attempt !== this._attempt) {
      return;
    }
    this._attempt = chunk.attempt;
    // A piece that is here already, after a reconnect, is not shown twice.
    if (chunk.next_offset > this._offset) {
      this.text.append(chunk.text);
      this._offset = chunk.next_offset;
    }
    if (chunk.complete) {
      this._state = 'complete';
      this._disconnect();
    }
    this._changed.emit();
  }

  /**
   * A websocket does not say why it was refused: the same request by HTTP does.
   */
  private async _onLost(): Promise<void> {
    if (this._isDisposed || this._state === 'complete') {
      return;
    }
    try {
      this._take(
        await this._client.log(this._id, {
          offset: this._offset,
          ...(this._attempt === null ? {} : { attempt: this._attempt })
        })
      );
      this._error = null;
    } catch (reason) {
      this._error =
        reason instanceof BatchApiError
          ? reason
          : new BatchApiError(String(reason), { code: 'page_failed' });
    }
    this._afterLoss();
  }

  private _afterLoss(): void {
    if (
      this._isDisposed ||
      this._socket !== null ||
      this._state === 'complete' ||
      this._state === 'paused'
    ) {
      return;
    }
    const status = this._error?.status ?? null;
    if (status !== null && status < 500 && this._error?.retryable === false) {
      this._setState('refused');
      return;
    }
    this._setState('retrying');
    this._timer = this._setTimeout(() => {
      this._connect();
    }, this._retryMs);
    this._retryMs = Math.min(RETRY_MAX_MS, this._retryMs * 2);
  }

  private _setState(state: FollowState): void {
    this._state = state;
    if (!this._isDisposed) {
      this._changed.emit();
    }
  }

  private _attempt: number | null;
  private readonly _changed = new Signal<this, void>(this);
  private readonly _clearTimeout: (timer: number | undefined) => void;
  private readonly _client: LogFollower.IOptions['client'];
  private _error: BatchApiError | null = null;
  private readonly _id: string;
  private _isDisposed = false;
  private _offset = 0;
  private _retryMs = RETRY_MIN_MS;
  private readonly _setTimeout: (callback: () => void, ms: number) => number;
  private _socket: WebSocket | null = null;
  private _state: FollowState = 'paused';
  private _timer: number | undefined;
}

export namespace LogFollower {
  export interface IOptions {
    client: Pick<BatchClient, 'openLogStream' | 'log'>;
    /** Id of the Submission. */
    id: string;
    /** The latest where left out. */
    attempt?: number;
    maxChars?: number;
    setTimeout?: (callback: () => void, ms: number) => number;
    clearTimeout?: (timer: number | undefined) => void;
  }
}
