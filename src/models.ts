/**
 * What travels between server and browser, with the field names of the wire.
 *
 * Times are RFC 3339 UTC text (`_at`), durations seconds (`_s`), sizes bytes; positions are 0-based (only `format.ts`
 * adds 1). The records are those of `jupyterlab_ai_batch/models.py`.
 */

/**
 * States in which a Submission still changes by itself.
 */
export const ACTIVE_STATES = [
  'capturing',
  'queued',
  'blocked',
  'starting',
  'running',
  'evicting',
  'cancelling',
  'collecting'
] as const;

/**
 * States in which it is over.
 */
export const FINISHED_STATES = ['succeeded', 'failed', 'cancelled'] as const;

export type ActiveState = (typeof ACTIVE_STATES)[number];
export type FinishedState = (typeof FINISHED_STATES)[number];
export type SubmissionState = ActiveState | FinishedState;

export const SUBMISSION_STATES: readonly SubmissionState[] = [
  ...ACTIVE_STATES,
  ...FINISHED_STATES
];

/**
 * Whether a Submission in this state is over.
 */
export function isFinished(state: SubmissionState): state is FinishedState {
  return FINISHED_STATES.some(finished => finished === state);
}

export type CaptureFrom = 'auto' | 'root' | 'folder';
export type OutputsState = 'pending' | 'partial' | 'available' | 'collected';
export type FileChange = 'new' | 'changed' | 'deleted';
export type MergeAction =
  | 'created'
  | 'updated'
  | 'unchanged'
  | 'kept_both'
  | 'kept_home'
  | 'refused';
export type ParameterType = 'bool' | 'int' | 'float' | 'str' | 'json';

/**
 * Why a Submission waits, failed or ended, and what to do about it.
 */
export interface IExplanation {
  readonly code: string;
  readonly summary: string;
  readonly resolution: string;
  /** The backend's own word, never translated. */
  readonly raw_reason: string | null;
  readonly since: string | null;
}

/**
 * How many Submissions are ahead; 0 means next.
 */
export interface IQueuePosition {
  readonly in_local_queue: number;
  readonly in_cluster_queue: number;
  readonly observed_at: string;
}

/**
 * `cell` counts code cells from 1 and is 0 before the first.
 */
export interface IProgress {
  readonly cell: number;
  readonly of: number;
  readonly cell_started_at: string | null;
}

/**
 * What an Attempt has used: the most memory at one moment, and seconds of processor time.
 */
export interface IUsage {
  readonly peak_memory_bytes: number | null;
  readonly cpu_s: number;
}

/**
 * One admission to run. `ended_by` is a finished state or the Eviction's reason.
 */
export interface IAttempt {
  readonly number: number;
  readonly admitted_at: string;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly ended_by: string | null;
  /** Of an Eviction, a clause like "to make room for an interactive session"; empty when not known. */
  readonly ended_because: string;
  /** When its last files were stored. */
  readonly saved_at: string | null;
  readonly time_lost_s: number;
  readonly usage: IUsage | null;
}

export interface ISnapshotSummary {
  readonly digest: string;
  readonly captured_from: string;
  readonly captured_until: string;
  readonly bytes: number;
  readonly new_bytes: number;
  readonly files: number;
  readonly work_root: string;
  readonly warnings: readonly string[];
}

/**
 * How far a running capture is; `phase` is `plan`, `environment`, `work` or `finish`.
 */
export interface ICaptureProgress {
  readonly phase: string;
  readonly done_bytes: number;
  readonly total_bytes: number;
  readonly new_bytes: number;
}

export interface IOutputsSummary {
  readonly state: OutputsState;
  readonly files: number;
  readonly bytes: number;
  readonly conflicts: number;
}

export interface ISubmission {
  readonly id: string;
  readonly state: SubmissionState;
  readonly title: string;
  readonly notebook_path: string;
  readonly backend: string;
  readonly target: string;
  readonly profile: string;
  readonly queue: string;
  readonly created_at: string;
  readonly observed_at: string;
  readonly priority: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly max_duration_s: number | null;
  readonly replace_notebook: boolean;
  /** An Attempt after an Eviction begins with the files that were saved last. */
  readonly resume: boolean;
  /** The backend could not be reached since `observed_at`. */
  readonly stale: boolean;
  readonly explanation: IExplanation | null;
  readonly position: IQueuePosition | null;
  readonly progress: IProgress | null;
  readonly capture: ICaptureProgress | null;
  readonly attempts: readonly IAttempt[];
  readonly snapshot: ISnapshotSummary | null;
  readonly outputs: IOutputsSummary | null;
  /** API path of the executed notebook at home, once collected. */
  readonly executed_notebook: string | null;
}

export interface ISubmissionPage {
  readonly submissions: readonly ISubmission[];
  readonly next_cursor: string | null;
}

/**
 * What a user asks for; every field but the notebook may be left to the server.
 */
export interface ISubmissionRequest {
  readonly notebook_path: string;
  readonly profile?: string | null;
  readonly queue?: string | null;
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly title?: string | null;
  readonly max_duration_s?: number | null;
  readonly target?: string | null;
  readonly priority?: number;
  readonly capture_from?: CaptureFrom;
  readonly replace_notebook?: boolean;
  readonly exclude?: readonly string[];
  /** `null`: as the notebook's metadata say. */
  readonly resume?: boolean | null;
}

/**
 * A piece of an Attempt's log; offsets count bytes.
 */
export interface ILogChunk {
  readonly attempt: number;
  readonly text: string;
  readonly offset: number;
  readonly next_offset: number;
  readonly complete: boolean;
}

export interface IOutputFile {
  readonly path: string;
  readonly change: FileChange;
  readonly size_bytes: number;
  readonly link_target: string | null;
}

export interface IOutputSet {
  readonly submission_id: string;
  readonly attempt: number;
  readonly complete: boolean;
  readonly stored_at: string;
  readonly executed_notebook: string;
  readonly files: readonly IOutputFile[];
  /** Path and reason of what changed but could not be stored. */
  readonly skipped: readonly (readonly [string, string])[];
}

export interface IMergeEntry {
  readonly path: string;
  readonly action: MergeAction;
  readonly installed_as: string | null;
  readonly reason: string;
}

export interface IMergeReport {
  readonly entries: readonly IMergeEntry[];
  readonly executed_notebook: string | null;
  readonly dry_run: boolean;
}

/**
 * An admin-named resource shape. `available`: how many could start now; `null` when not known.
 */
export interface IProfile {
  readonly name: string;
  readonly title: string;
  readonly cpu_millicores: number | null;
  readonly memory_bytes: number | null;
  readonly gpu_slots: number;
  readonly default_max_duration_s: number | null;
  readonly available: number | null;
  /** Whether it fits what the user's own runs have used; empty where there is nothing to say. */
  readonly hint: string;
}

/**
 * Who holds the GPU slots of a shared pool, by class; the parts sum up to `slots`.
 */
export interface IPoolReading {
  readonly resource: string;
  readonly slots: number;
  readonly mine: number;
  readonly others_batch: number;
  readonly interactive: number;
  readonly free: number;
  readonly interactive_waiting: number;
  readonly observed_at: string;
}

/**
 * What the user's recent use (GPU slots on average) does to the order; `summary` says it in a sentence.
 */
export interface IFairShare {
  readonly used: number;
  readonly weight: number;
  readonly half_life_s: number | null;
  readonly sampled_at: string | null;
  readonly summary: string;
}

export interface IQueueReading {
  readonly name: string;
  /** Where it runs: `local` is the server's own machine, `kueue` a cluster. */
  readonly backend: string;
  /** `null` where that is not the user's to know. */
  readonly slots: number | null;
  readonly busy: number;
  readonly waiting: number;
  readonly gpu_slots: number;
  readonly gpu_busy: number;
  readonly observed_at: string | null;
  /** `null` where the user may not know. */
  readonly pool: IPoolReading | null;
  /** `null` where recent use does not count. */
  readonly share: IFairShare | null;
}

/**
 * One thing that must hold before a Submission can run; `ok` is `null` when it could not be told.
 */
export interface IPreflightCheck {
  readonly name: string;
  readonly ok: boolean | null;
  readonly summary: string;
  readonly resolution: string;

  /**
   * What an admin applies or configures to mend it; several lines.
   */
  readonly fix: string;
}

export interface IPreflight {
  readonly ok: boolean;
  readonly checks: readonly IPreflightCheck[];
}

export interface IParameter {
  readonly name: string;
  readonly type: ParameterType;
  readonly default: unknown;
  readonly help: string;
}

export interface INotebookParameters {
  readonly kernel_name: string;
  readonly language: string;
  readonly parameters: readonly IParameter[];
  readonly resume: boolean;
}

export interface IExcluded {
  readonly path: string;
  readonly rule: string;
  readonly bytes: number | null;
  /** An ignore file, `this submission`, `default`; empty for a cause that is no pattern. */
  readonly origin: string;
}

export interface ISecretFinding {
  readonly path: string;
  readonly line: number;
  readonly kind: string;
}

/**
 * One layer of the environment: a large distribution, or several small ones.
 */
export interface IPlannedLayer {
  readonly name: string;
  readonly files: number;
  readonly bytes: number;
  readonly new: boolean;
}

/**
 * What a capture would hold, before anything is written.
 */
export interface ISnapshotPlan {
  readonly capture_from: CaptureFrom;
  readonly work_root: string;
  readonly work_files: number;
  readonly work_bytes: number;
  readonly environment_files: number;
  readonly environment_bytes: number;
  readonly new_files: number;
  readonly new_bytes: number;
  readonly environment_unchanged: boolean;
  readonly limit_bytes: number;
  readonly excluded: readonly IExcluded[];
  readonly secrets_excluded: readonly string[];
  readonly findings: readonly ISecretFinding[];
  readonly heaviest: readonly (readonly [string, number])[];
  readonly warnings: readonly string[];
  readonly removed_files: number;
  readonly new: readonly (readonly [string, number])[];
  readonly excluded_count: number;
  readonly environment_layers: readonly IPlannedLayer[];
}

/**
 * The body of a refused request.
 */
export interface IErrorBody {
  readonly message: string;
  readonly error: {
    readonly code: string;
    readonly hint: string | null;
    readonly details: Readonly<Record<string, unknown>>;
    readonly retryable: boolean;
  };
}
