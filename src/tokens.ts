import { Token } from '@lumino/coreutils';
import type { IDisposable } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';
import type { BatchApiError, BatchClient } from './client';
import type {
  CaptureFrom,
  IQueueReading,
  ISubmission,
  ISubmissionRequest
} from './models';

/**
 * Identifiers of the plugins and of the settings, which carry the schema.
 */
export const PLUGIN_IDS = {
  manager: 'jupyterlab-ai-batch:manager',
  monitor: 'jupyterlab-ai-batch:monitor',
  submit: 'jupyterlab-ai-batch:submit',
  settings: 'jupyterlab-ai-batch:plugin'
} as const;

/**
 * Schemas of the events that the server emits; each is a hint, never truth.
 */
export const EVENT_SCHEMAS = {
  submission: 'https://events.jupyter.org/jupyterlab_ai_batch/submission/v1',
  saveRequest: 'https://events.jupyter.org/jupyterlab_ai_batch/save_request/v1'
} as const;

/**
 * The translation domain of every string shown.
 */
export const TRANSLATION_DOMAIN = 'jupyterlab_ai_batch';

/**
 * What the submit dialog starts from; a field left out takes the server's default.
 */
export interface ISubmitDefaults {
  readonly title?: string;
  readonly profile?: string | null;
  readonly queue?: string | null;
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly max_duration_s?: number | null;
  readonly capture_from?: CaptureFrom;
  readonly replace_notebook?: boolean;
  /** `null`: as the notebook's metadata say. */
  readonly resume?: boolean | null;
}

/**
 * Why the list cannot be refreshed now, and since when it is old.
 */
export interface IConnectionProblem {
  /** Time of the last answer; `null` when there was none. */
  readonly lastSeenAt: Date | null;
  readonly error: BatchApiError;
}

/**
 * A Submission that was seen to change its state.
 */
export interface ITransition {
  readonly before: ISubmission;
  readonly after: ISubmission;
}

/**
 * The Submissions as last seen, kept up to date while the page is visible.
 */
export interface ISubmissionManager extends IDisposable {
  /** The REST client that the manager uses. */
  readonly client: BatchClient;

  /** Whether the first answer has arrived. */
  readonly isReady: boolean;

  /** Fulfils with the first answer; never rejects: failures show as `problem`. */
  readonly ready: Promise<void>;

  /** Submissions that are not over, newest first. */
  readonly active: readonly ISubmission[];

  /** Submissions that are over, newest first, as far as they are loaded. */
  readonly finished: readonly ISubmission[];

  /** Readings of the queues, as last seen. */
  readonly queues: readonly IQueueReading[];

  /** Set while the server or its backend cannot be reached. */
  readonly problem: IConnectionProblem | null;

  /** Whether older finished Submissions can be loaded. */
  readonly hasMore: boolean;

  /** Emitted when anything above has another value than before. */
  readonly submissionsChanged: ISignal<ISubmissionManager, void>;

  /** Emitted once for every Submission whose state was seen to change. */
  readonly transition: ISignal<ISubmissionManager, ITransition>;

  /** Emitted at every failed refresh. */
  readonly connectionFailure: ISignal<ISubmissionManager, BatchApiError>;

  /** The Submission as last seen. */
  find(id: string): ISubmission | undefined;

  /** Ask the server now, in response to a user's action. */
  refresh(): Promise<void>;

  /** Load the next page of finished Submissions. */
  loadMore(): Promise<void>;

  /** Hand in a notebook. Sending the same `key` twice creates one Submission. */
  submit(request: ISubmissionRequest, key: string): Promise<ISubmission>;

  /** Ask for an end. The state becomes `cancelling`, then `cancelled`. */
  cancel(id: string): Promise<ISubmission>;

  /** Hand in the same request again, with the files as they are now. */
  resubmit(id: string): Promise<ISubmission>;

  /** Refetch one Submission, after a collect for instance. */
  refetch(id: string): Promise<ISubmission>;
}

/**
 * The token that other extensions require to see or start Submissions.
 */
export const ISubmissionManager = new Token<ISubmissionManager>(
  'jupyterlab-ai-batch:ISubmissionManager',
  'The batch Submissions of this server: list, submit, cancel, follow.'
);

/**
 * What the user set under Settings → Batch.
 */
export interface IBatchSettings {
  /** Emitted when any of them changes. */
  readonly changed: ISignal<IBatchSettings, void>;
  readonly notifyOnSuccess: boolean;
  readonly notifyOnFailure: boolean;
  readonly notifyOnInterruption: boolean;
  /** Also through the operating system while the page is hidden. */
  readonly systemNotifications: boolean;
  readonly wrapLog: boolean;
  readonly pollIntervalMs: number;
  readonly defaultProfile: string | null;
  readonly defaultMaxDurationS: number | null;
}

/**
 * The token of the settings.
 */
export const IBatchSettings = new Token<IBatchSettings>(
  'jupyterlab-ai-batch:IBatchSettings',
  'The user’s settings of the batch extension.'
);
