import type { IStateDB } from '@jupyterlab/statedb';
import { type Notifier, SUMMARY_FROM } from './notify';
import type { ISubmission } from './models';
import type { ISubmissionManager, ITransition } from './tokens';

const KEY = 'jupyterlab-ai-batch:active';
const MAX_REMEMBERED = 200;

/**
 * Remembers what was active, so that the next visit can tell what ended in between.
 */
export class VisitMemory {
  constructor(options: VisitMemory.IOptions) {
    this._manager = options.manager;
    this._notifier = options.notifier;
    this._stateDB = options.stateDB;
  }

  /**
   * Tell what ended since the last visit, then remember from now on. Never rejects.
   */
  async start(): Promise<void> {
    await this._manager.ready;
    try {
      this._tell(await this._endedSinceLastVisit());
    } catch (reason) {
      console.warn('What ended since the last visit is not known.', reason);
    }
    this._manager.submissionsChanged.connect(this._remember, this);
    this._remember();
  }

  private async _endedSinceLastVisit(): Promise<readonly ISubmission[]> {
    const stored: unknown = await this._stateDB.fetch(KEY);
    const ids = Array.isArray(stored) ? (stored as unknown[]) : [];
    const found = await Promise.all(
      ids
        .filter(id => typeof id === 'string')
        .slice(0, MAX_REMEMBERED)
        .map(async id => this._manager.find(id) ?? (await this._lookUp(id)))
    );
    return found.filter(
      item => item?.state === 'succeeded' || item?.state === 'failed'
    ) as ISubmission[];
  }

  private async _lookUp(id: string): Promise<ISubmission | null> {
    try {
      return await this._manager.client.get(id);
    } catch {
      return null;
    }
  }

  private _tell(ended: readonly ISubmission[]): void {
    if (ended.length >= SUMMARY_FROM) {
      const failed = ended.filter(item => item.state === 'failed').length;
      this._notifier.summary(ended.length - failed, failed);
      return;
    }
    for (const after of ended) {
      const change: ITransition = {
        before: { ...after, state: 'running' },
        after
      };
      this._notifier.transition(change);
    }
  }

  private _remember(): void {
    if (this._manager.problem !== null) {
      return;
    }
    const ids = this._manager.active.slice(0, MAX_REMEMBERED).map(x => x.id);
    const key = ids.join(' ');
    if (key !== this._remembered) {
      this._remembered = key;
      void this._stateDB.save(KEY, ids).catch((reason: unknown) => {
        console.warn('Active batch jobs could not be remembered.', reason);
      });
    }
  }

  private readonly _manager: ISubmissionManager;
  private readonly _notifier: Notifier;
  private _remembered: string | null = null;
  private readonly _stateDB: IStateDB;
}

export namespace VisitMemory {
  export interface IOptions {
    manager: ISubmissionManager;
    notifier: Notifier;
    stateDB: IStateDB;
  }
}
