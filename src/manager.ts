import type { Event } from '@jupyterlab/services';
import { Poll, Throttler } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';
import { BatchApiError, type BatchClient } from './client';
import { mergeNewestFirst, sameItems, sameValue } from './lists';
import {
  EVENT_SCHEMAS,
  type IConnectionProblem,
  type ISubmissionManager,
  type ITransition
} from './tokens';
import {
  ACTIVE_STATES,
  FINISHED_STATES,
  type IQueueReading,
  isFinished,
  type ISubmission,
  type ISubmissionPage,
  type ISubmissionRequest
} from './models';

interface IQueuesRead {
  readonly value: readonly IQueueReading[];
  readonly error: BatchApiError | null;
}

const ACTIVE_PAGE = 200;
const ACTIVE_MAX_PAGES = 5;
const FINISHED_PAGE = 50;
const FINISHED_MAX = 1000;
const EVENT_LIMIT_MS = 500;
// Events tell what happens to Submissions; only the numbers of the queues grow old meanwhile.
const IDLE_INTERVAL_MS = 180_000;
const BACKOFF_MAX_MS = 60_000;

/**
 * Keeps the list of Submissions: polls while the page is visible, and refetches when an event hints at a change.
 */
export class SubmissionManager implements ISubmissionManager {
  constructor(options: SubmissionManager.IOptions) {
    this.client = options.client;
    this._intervalMs = options.intervalMs ?? 5_000;
    this._now = options.now ?? (() => new Date());
    this._events = options.events ?? null;
    this._events?.stream.connect(this._onEvent, this);
    this._hints = new Throttler(() => this._refreshQuietly(), {
      limit: EVENT_LIMIT_MS,
      edge: 'trailing'
    });
    this._poll = new Poll({
      auto: false,
      factory: () => this.requestRefresh(),
      frequency: {
        interval: this._intervalMs,
        backoff: true,
        max: Math.max(BACKOFF_MAX_MS, this._intervalMs)
      },
      name: 'jupyterlab-ai-batch:SubmissionManager#submissions',
      standby: options.standby ?? 'when-hidden'
    });
    this.ready = this._start();
  }

  readonly client: BatchClient;
  readonly ready: Promise<void>;

  get isReady(): boolean {
    return this._isReady;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  get active(): readonly ISubmission[] {
    return this._active;
  }

  get finished(): readonly ISubmission[] {
    return this._finished;
  }

  get queues(): readonly IQueueReading[] {
    return this._queues;
  }

  get problem(): IConnectionProblem | null {
    return this._problem;
  }

  get hasMore(): boolean {
    return this._cursor !== null && this._finished.length < FINISHED_MAX;
  }

  get submissionsChanged(): ISignal<this, void> {
    return this._submissionsChanged;
  }

  get transition(): ISignal<this, ITransition> {
    return this._transition;
  }

  get connectionFailure(): ISignal<this, BatchApiError> {
    return this._connectionFailure;
  }

  /**
   * Milliseconds between two reads while something is active; less often otherwise.
   */
  get intervalMs(): number {
    return this._intervalMs;
  }

  set intervalMs(value: number) {
    this._intervalMs = value;
    this._adaptFrequency();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._hints.dispose();
    this._poll.dispose();
    Signal.clearData(this);
  }

  find(id: string): ISubmission | undefined {
    return (
      this._active.find(known => known.id === id) ??
      this._finished.find(known => known.id === id)
    );
  }

  async refresh(): Promise<void> {
    await this._poll.refresh();
    await this._poll.tick.catch(() => undefined);
  }

  async loadMore(): Promise<void> {
    if (this._cursor === null) {
      return;
    }
    const page = await this.client.list({
      states: FINISHED_STATES,
      limit: FINISHED_PAGE,
      cursor: this._cursor
    });
    if (this._isDisposed) {
      return;
    }
    this._cursor = page.next_cursor;
    this._tailLoaded = true;
    this._apply(
      this._active,
      mergeNewestFirst(page.submissions, this._finished)
    );
  }

  async submit(request: ISubmissionRequest, key: string): Promise<ISubmission> {
    return this._adopt(await this.client.submit(request, key));
  }

  async cancel(id: string): Promise<ISubmission> {
    return this._adopt(await this.client.cancel(id));
  }

  async resubmit(id: string): Promise<ISubmission> {
    return this._adopt(await this.client.resubmit(id));
  }

  async refetch(id: string): Promise<ISubmission> {
    return this._adopt(await this.client.get(id));
  }

  /**
   * Read everything once; failures are noted, signalled and rethrown, so that the poll backs off.
   */
  protected async requestRefresh(): Promise<void> {
    const generation = ++this._generation;
    try {
      await this._read(generation);
    } catch (reason) {
      if (!this._isDisposed && generation > this._applied) {
        this._noteFailure(reason);
      }
      throw reason;
    }
  }

  private async _start(): Promise<void> {
    await this._poll.start();
    await this._poll.tick.catch(() => undefined);
  }

  private async _refreshQuietly(): Promise<void> {
    // The poll stands by while the page is hidden; an event still has to reach the notifications.
    await this.requestRefresh().catch(() => undefined);
  }

  private async _read(generation: number): Promise<void> {
    const queues = this._readQueues();
    // Active ones first: what ends in between is then in both answers, never in none.
    const active = await this._readActive();
    const page = await this.client.list({
      states: FINISHED_STATES,
      limit: FINISHED_PAGE
    });
    const reading = await queues;
    if (this._isDisposed || generation <= this._applied) {
      return;
    }
    this._applied = generation;
    this._isReady = true;
    this._noteReading(reading.value, reading.error);
    const finished = this._joinPages(page);
    const over = new Set(finished.map(known => known.id));
    this._apply(
      active.filter(known => !over.has(known.id)),
      finished
    );
    this._adaptFrequency();
  }

  /**
   * Not on a hidden page: to the server this call says that somebody looks.
   */
  private async _readQueues(): Promise<IQueuesRead> {
    if (document.hidden) {
      return { value: this._queues, error: this._problem?.error ?? null };
    }
    try {
      return { value: await this.client.queues(), error: null };
    } catch (reason) {
      return { value: this._queues, error: asApiError(reason) };
    }
  }

  private async _readActive(): Promise<ISubmission[]> {
    const found: ISubmission[] = [];
    let cursor: string | null = null;
    for (let pages = 0; pages < ACTIVE_MAX_PAGES; pages++) {
      const page: ISubmissionPage = await this.client.list({
        states: ACTIVE_STATES,
        limit: ACTIVE_PAGE,
        ...(cursor === null ? {} : { cursor })
      });
      found.push(...page.submissions);
      cursor = page.next_cursor;
      if (cursor === null) {
        break;
      }
    }
    return found;
  }

  /**
   * The first page is what the server says; older pages, once loaded, are kept.
   */
  private _joinPages(page: ISubmissionPage): readonly ISubmission[] {
    const last = page.submissions.at(-1);
    if (!this._tailLoaded || last === undefined || page.next_cursor === null) {
      this._cursor = page.next_cursor;
      this._tailLoaded = false;
      return page.submissions;
    }
    const older = this._finished.filter(
      known => known.created_at < last.created_at
    );
    return mergeNewestFirst(page.submissions, older).slice(0, FINISHED_MAX);
  }

  private _noteReading(
    queues: readonly IQueueReading[],
    error: BatchApiError | null
  ): void {
    const before = [this._queues, this._problem?.error.message ?? null];
    this._queues = queues;
    if (error === null) {
      this._lastSeenAt = this._now();
      this._problem = null;
    } else {
      this._problem = { lastSeenAt: this._lastSeenAt, error };
    }
    const after = [this._queues, this._problem?.error.message ?? null];
    this._readingChanged = !sameValue(before, after);
  }

  private _noteFailure(reason: unknown): void {
    const error = asApiError(reason);
    const isNew =
      !this._isReady || this._problem?.error.message !== error.message;
    this._isReady = true;
    this._problem = { lastSeenAt: this._lastSeenAt, error };
    this._connectionFailure.emit(error);
    if (isNew) {
      this._submissionsChanged.emit();
    }
  }

  /**
   * Take over one answer about one Submission.
   */
  private _adopt(submission: ISubmission): ISubmission {
    if (this._isDisposed) {
      return submission;
    }
    // A list that was asked for before this answer would bring the older state back.
    this._applied = ++this._generation;
    const others = (list: readonly ISubmission[]) =>
      list.filter(known => known.id !== submission.id);
    const over = isFinished(submission.state);
    this._apply(
      over
        ? others(this._active)
        : mergeNewestFirst([submission], others(this._active)),
      over
        ? mergeNewestFirst([submission], others(this._finished))
        : others(this._finished)
    );
    this._adaptFrequency();
    void this._poll.refresh();
    return submission;
  }

  /**
   * Replace both lists; emit only when a value differs. Unchanged records keep their identity.
   */
  private _apply(
    active: readonly ISubmission[],
    finished: readonly ISubmission[]
  ): void {
    const known = new Map(
      [...this._active, ...this._finished].map(item => [item.id, item])
    );
    const keep = (item: ISubmission): ISubmission => {
      const before = known.get(item.id);
      return before !== undefined && sameValue(before, item) ? before : item;
    };
    const nextActive = active.map(keep);
    const nextFinished = finished.map(keep);
    const changed =
      this._readingChanged ||
      !this._announced ||
      !sameItems(nextActive, this._active) ||
      !sameItems(nextFinished, this._finished) ||
      this._hadMore !== this.hasMore;
    this._active = nextActive;
    this._finished = nextFinished;
    this._readingChanged = false;
    this._announced = this._isReady;
    this._hadMore = this.hasMore;
    this._emitTransitions(known);
    if (changed) {
      this._submissionsChanged.emit();
    }
  }

  private _emitTransitions(known: ReadonlyMap<string, ISubmission>): void {
    for (const after of [...this._active, ...this._finished]) {
      const before = known.get(after.id);
      if (before !== undefined && before.state !== after.state) {
        this._transition.emit({ before, after });
      }
    }
  }

  private _adaptFrequency(): void {
    const interval =
      this._active.length > 0
        ? this._intervalMs
        : Math.max(this._intervalMs, IDLE_INTERVAL_MS);
    if (interval !== this._poll.frequency.interval) {
      this._poll.frequency = {
        interval,
        backoff: true,
        max: Math.max(BACKOFF_MAX_MS, interval)
      };
    }
  }

  private _onEvent(_: Event.IManager, emission: Event.Emission): void {
    if (emission.schema_id === EVENT_SCHEMAS.submission) {
      void this._hints.invoke().catch(() => undefined);
    }
  }

  private _active: readonly ISubmission[] = [];
  private _announced = false;
  private _applied = 0;
  private _cursor: string | null = null;
  private readonly _events: Event.IManager | null;
  private _finished: readonly ISubmission[] = [];
  private _generation = 0;
  private _hadMore = false;
  private readonly _hints: Throttler;
  private _intervalMs: number;
  private _isDisposed = false;
  private _isReady = false;
  private _lastSeenAt: Date | null = null;
  private readonly _now: () => Date;
  private readonly _poll: Poll;
  private _problem: IConnectionProblem | null = null;
  private _queues: readonly IQueueReading[] = [];
  private _readingChanged = false;
  private _tailLoaded = false;
  private readonly _connectionFailure = new Signal<this, BatchApiError>(this);
  private readonly _submissionsChanged = new Signal<this, void>(this);
  private readonly _transition = new Signal<this, ITransition>(this);
}

export namespace SubmissionManager {
  export interface IOptions {
    client: BatchClient;
    /** Where the server's hints come from. */
    events?: Event.IManager;
    /** Milliseconds between two reads while something is active. */
    intervalMs?: number;
    now?: () => Date;
    standby?: Poll.Standby | (() => boolean | Poll.Standby);
  }
}

function asApiError(reason: unknown): BatchApiError {
  return reason instanceof BatchApiError
    ? reason
    : new BatchApiError(String(reason), { code: 'page_failed' });
}
