/**
 * Guards: JSON from the server in, records of `models.ts` out. `tests/wire/*.json` keeps both sides honest.
 */
import {
  anything,
  array,
  type Decoder,
  flag,
  mapping,
  nullable,
  number,
  object,
  oneOf,
  pair,
  text,
  time,
  withDefault
} from './decode';
import {
  type CaptureFrom,
  type FileChange,
  type IAttempt,
  type ICaptureProgress,
  type IErrorBody,
  type IExcluded,
  type IExplanation,
  type IFairShare,
  type ILogChunk,
  type IMergeEntry,
  type IMergeReport,
  type INotebookParameters,
  type IOutputFile,
  type IOutputSet,
  type IOutputsSummary,
  type IParameter,
  type IPoolReading,
  type IPreflight,
  type IPlannedLayer,
  type IPreflightCheck,
  type IProfile,
  type IProgress,
  type IQueuePosition,
  type IUsage,
  type IQueueReading,
  type ISecretFinding,
  type ISnapshotPlan,
  type ISnapshotSummary,
  type ISubmission,
  type ISubmissionPage,
  type MergeAction,
  type OutputsState,
  type ParameterType,
  SUBMISSION_STATES
} from './models';

export * from './models';
export { WireError } from './decode';

const explanation = object<IExplanation>({
  code: text,
  summary: text,
  resolution: withDefault(text, ''),
  raw_reason: nullable(text),
  since: nullable(time)
});

const position = object<IQueuePosition>({
  in_local_queue: number,
  in_cluster_queue: number,
  observed_at: time
});

const progress = object<IProgress>({
  cell: number,
  of: number,
  cell_started_at: nullable(time)
});

const usage = object<IUsage>({
  peak_memory_bytes: nullable(number),
  cpu_s: withDefault(number, 0)
});

const attempt = object<IAttempt>({
  number: number,
  admitted_at: time,
  started_at: nullable(time),
  ended_at: nullable(time),
  ended_by: nullable(text),
  ended_because: withDefault(text, ''),
  saved_at: nullable(time),
  time_lost_s: withDefault(number, 0),
  usage: nullable(usage)
});

const snapshotSummary = object<ISnapshotSummary>({
  digest: text,
  captured_from: time,
  captured_until: time,
  bytes: number,
  new_bytes: number,
  files: withDefault(number, 0),
  work_root: withDefault(text, ''),
  warnings: withDefault(array(text), [])
});

const captureProgress = object<ICaptureProgress>({
  phase: text,
  done_bytes: number,
  total_bytes: number,
  new_bytes: withDefault(number, 0)
});

const outputsSummary = object<IOutputsSummary>({
  state: oneOf<OutputsState>(['pending', 'partial', 'available', 'collected']),
  files: withDefault(number, 0),
  bytes: withDefault(number, 0),
  conflicts: withDefault(number, 0)
});

export const submission: Decoder<ISubmission> = object<ISubmission>({
  id: text,
  state: oneOf(SUBMISSION_STATES),
  title: text,
  notebook_path: text,
  backend: text,
  target: text,
  profile: text,
  queue: text,
  created_at: time,
  observed_at: time,
  priority: withDefault(number, 0),
  parameters: withDefault(mapping(anything), {}),
  max_duration_s: nullable(number),
  replace_notebook: withDefault(flag, false),
  resume: withDefault(flag, false),
  stale: withDefault(flag, false),
  explanation: nullable(explanation),
  position: nullable(position),
  progress: nullable(progress),
  capture: nullable(captureProgress),
  attempts: withDefault(array(attempt), []),
  snapshot: nullable(snapshotSummary),
  outputs: nullable(outputsSummary),
  executed_notebook: nullable(text)
});

export const submissionPage = object<ISubmissionPage>({
  submissions: array(submission),
  next_cursor: nullable(text)
});

export const logChunk = object<ILogChunk>({
  attempt: number,
  text: text,
  offset: number,
  next_offset: number,
  complete: flag
});

const outputFile = object<IOutputFile>({
  path: text,
  change: oneOf<FileChange>(['new', 'changed', 'deleted']),
  size_bytes: withDefault(number, 0),
  link_target: nullable(text)
});

export const outputSet = object<IOutputSet>({
  submission_id: text,
  attempt: number,
  complete: flag,
  stored_at: time,
  executed_notebook: text,
  files: withDefault(array(outputFile), []),
  skipped: withDefault(array(pair(text, text)), [])
});

const mergeEntry = object<IMergeEntry>({
  path: text,
  action: oneOf<MergeAction>([
    'created',
    'updated',
    'unchanged',
    'kept_both',
    'kept_home',
    'refused'
  ]),
  installed_as: nullable(text),
  reason: withDefault(text, '')
});

export const mergeReport = object<IMergeReport>({
  entries: withDefault(array(mergeEntry), []),
  executed_notebook: nullable(text),
  dry_run: withDefault(flag, false)
});

const profile = object<IProfile>({
  name: text,
  title: text,
  cpu_millicores: nullable(number),
  memory_bytes: nullable(number),
  gpu_slots: withDefault(number, 0),
  default_max_duration_s: nullable(number),
  available: nullable(number),
  hint: withDefault(text, '')
});

export const profiles = object<{ readonly profiles: readonly IProfile[] }>({
  profiles: array(profile)
});

const poolReading = object<IPoolReading>({
  resource: withDefault(text, ''),
  slots: number,
  mine: number,
  others_batch: number,
  interactive: number,
  free: number,
  interactive_waiting: withDefault(number, 0),
  observed_at: time
});

const fairShare = object<IFairShare>({
  used: number,
  weight: withDefault(number, 1),
  half_life_s: nullable(number),
  sampled_at: nullable(time),
  summary: text
});

const queueReading = object<IQueueReading>({
  name: text,
  backend: text,
  slots: nullable(number),
  busy: number,
  waiting: number,
  gpu_slots: withDefault(number, 0),
  gpu_busy: withDefault(number, 0),
  observed_at: nullable(time),
  pool: nullable(poolReading),
  share: nullable(fairShare)
});

export const queues = object<{ readonly queues: readonly IQueueReading[] }>({
  queues: array(queueReading)
});

const preflightCheck = object<IPreflightCheck>({
  name: text,
  ok: nullable(flag),
  summary: text,
  resolution: withDefault(text, ''),
  fix: withDefault(text, '')
});

export const preflight = object<IPreflight>({
  ok: flag,
  checks: array(preflightCheck)
});

const parameter = object<IParameter>({
  name: text,
  type: oneOf<ParameterType>(['bool', 'int', 'float', 'str', 'json']),
  default: anything,
  help: withDefault(text, '')
});

export const notebookParameters = object<INotebookParameters>({
  kernel_name: text,
  language: text,
  parameters: array(parameter),
  resume: withDefault(flag, false)
});

const excluded = object<IExcluded>({
  path: text,
  rule: text,
  bytes: nullable(number),
  origin: withDefault(text, '')
});

const secretFinding = object<ISecretFinding>({
  path: text,
  line: number,
  kind: text
});

const plannedLayer = object<IPlannedLayer>({
  name: text,
  files: number,
  bytes: number,
  new: flag
});

export const snapshotPlan = object<ISnapshotPlan>({
  capture_from: oneOf<CaptureFrom>(['auto', 'root', 'folder']),
  work_root: text,
  work_files: number,
  work_bytes: number,
  environment_files: number,
  environment_bytes: number,
  new_files: number,
  new_bytes: number,
  environment_unchanged: flag,
  limit_bytes: number,
  excluded: withDefault(array(excluded), []),
  secrets_excluded: withDefault(array(text), []),
  findings: withDefault(array(secretFinding), []),
  heaviest: withDefault(array(pair(text, number)), []),
  warnings: withDefault(array(text), []),
  removed_files: withDefault(number, 0),
  new: withDefault(array(pair(text, number)), []),
  excluded_count: withDefault(number, 0),
  environment_layers: withDefault(array(plannedLayer), [])
});

export const errorBody = object<IErrorBody>({
  message: text,
  error: object<IErrorBody['error']>({
    code: text,
    hint: nullable(text),
    details: withDefault(mapping(anything), {}),
    retryable: withDefault(flag, false)
  })
});
