import type { Event } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { BatchApiError, type BatchClient } from '../client';
import { mergeNewestFirst } from '../lists';
import { isFinished, type IQueueReading, type ISubmission } from '../models';

/**
 * A server in memory, with pages and outages.
 */
export class FakeClient {
  submissions: readonly ISubmission[] = [];
  queueReadings: readonly IQueueReading[] = [];
  down = false;
  queuesDown = false;
  calls: string[] = [];

  /** What a `BatchManager` is given. */
  get client(): BatchClient {
    return this as unknown as BatchClient;
  }

  put(...changed: ISubmission[]): void {
    this.submissions = mergeNewestFirst(changed, this.submissions);
  }

  async list(query: BatchClient.IListQuery): Promise<unknown> {
    this.calls.push('list');
    this._check();
    const states: readonly string[] = query.states ?? [];
    const all = this.submissions.filter(item => states.includes(item.state));
    const start = query.cursor === undefined ? 0 : Number(query.cursor);
    const end = start + (query.limit ?? 100);
    return {
      submissions: all.slice(start, end),
      next_cursor: end < all.length ? String(end) : null
    };
  }

  async queues(): Promise<readonly IQueueReading[]> {
    this._check();
    if (this.queuesDown) {
      throw new BatchApiError('The queue does not answer.', {
        code: 'queue_unreachable',
        retryable: true
      });
    }
    return this.queueReadings;
  }

  async get(id: string): Promise<ISubmission> {
    this._check();
    const found = this.submissions.find(item => item.id === id);
    if (found === undefined) {
      throw new BatchApiError('No such Submission.', {
        code: 'submission_not_found',
        status: 404
      });
    }
    return found;
  }

  async manifest(id: string): Promise<string> {
    return `name: ${(await this.get(id)).id}\n`;
  }

  async cancel(id: string): Promise<ISubmission> {
    const found = await this.get(id);
    if (isFinished(found.state)) {
      throw new BatchApiError('It is over.', {
        code: 'submission_state',
        status: 409
      });
    }
    const cancelling: ISubmission = { ...found, state: 'cancelling' };
    this.put(cancelling);
    return cancelling;
  }

  private _check(): void {
    if (this.down) {
      throw new BatchApiError('The Jupyter server cannot be reached.', {
        code: 'server_unreachable',
        retryable: true
      });
    }
  }
}

/**
 * The event stream of a server.
 */
export class FakeEvents {
  readonly stream = new Signal<this, Event.Emission>(this);

  get manager(): Event.IManager {
    return this as unknown as Event.IManager;
  }
}
