import type { TranslationBundle } from '@jupyterlab/translation';
import {
  type IAttempt,
  type IPoolReading,
  type IProfile,
  type IQueueReading,
  isFinished,
  type ISubmission,
  type SubmissionState
} from './models';

/**
 * Wording of numbers, times and states. The only place that adds 1 to a 0-based position.
 */

const KILO = 1000;
const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/**
 * A size: "41 MB". Powers of 1000, as the server’s sentences have them.
 */
export function formatBytes(bytes: number, trans: TranslationBundle): string {
  const units = [
    trans.__('B'),
    trans.__('kB'),
    trans.__('MB'),
    trans.__('GB'),
    trans.__('TB')
  ];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= KILO && unit < units.length - 1) {
    value /= KILO;
    unit += 1;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/**
 * A duration in at most two units: "8 s", "4 min 12 s", "2 h 5 min", "3 d 4 h".
 */
export function formatDuration(
  seconds: number,
  trans: TranslationBundle
): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE_S) {
    return trans.__('%1 s', s);
  }
  if (s < HOUR_S) {
    const rest = s % MINUTE_S;
    const minutes = Math.floor(s / MINUTE_S);
    return rest === 0 || minutes >= 10
      ? trans.__('%1 min', minutes)
      : trans.__('%1 min %2 s', minutes, rest);
  }
  if (s < DAY_S) {
    const minutes = Math.floor((s % HOUR_S) / MINUTE_S);
    const hours = Math.floor(s / HOUR_S);
    return minutes === 0
      ? trans.__('%1 h', hours)
      : trans.__('%1 h %2 min', hours, minutes);
  }
  const days = Math.floor(s / DAY_S);
  const hours = Math.floor((s % DAY_S) / HOUR_S);
  return hours === 0
    ? trans.__('%1 d', days)
    : trans.__('%1 d %2 h', days, hours);
}

/**
 * "14:03" in the reader's time zone.
 */
export function formatClock(at: Date): string {
  return at.toLocaleTimeString(undefined, {
    hour: '2-digit',
    minute: '2-digit'
  });
}

/**
 * "today 14:02", "yesterday 11:40", "3 May 14:02".
 */
export function formatMoment(
  at: Date,
  now: Date,
  trans: TranslationBundle
): string {
  const clock = formatClock(at);
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight.getTime() - at.getTime()) / (DAY_S * 1000));
  if (days <= 0) {
    return trans.__('today %1', clock);
  }
  if (days === 1) {
    return trans.__('yesterday %1', clock);
  }
  const date = at.toLocaleDateString(undefined, {
    day: 'numeric',
    month: 'short',
    ...(at.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' })
  });
  return trans.__('%1 %2', date, clock);
}

/**
 * The state in one word.
 */
export function formatState(
  state: SubmissionState,
  trans: TranslationBundle
): string {
  switch (state) {
    case 'capturing':
      return trans.__('Capturing');
    case 'queued':
      return trans.__('Queued');
    case 'blocked':
      return trans.__('Blocked');
    case 'starting':
      return trans.__('Starting');
    case 'running':
      return trans.__('Running');
    case 'evicting':
      return trans.__('Being evicted');
    case 'cancelling':
      return trans.__('Being cancelled');
    case 'collecting':
      return trans.__('Coming home');
    case 'succeeded':
      return trans.__('Succeeded');
    case 'failed':
      return trans.__('Failed');
    case 'cancelled':
      return trans.__('Cancelled');
  }
}

/**
 * "next in the queue", "3rd in the queue", "3rd in your queue, 8th in the pool".
 */
export function formatPosition(
  position: NonNullable<ISubmission['position']>,
  trans: TranslationBundle
): string {
  const own = position.in_local_queue + 1;
  const pool = position.in_cluster_queue + 1;
  if (own !== pool) {
    return trans.__(
      '%1 in your queue, %2 in the pool',
      ordinal(own, trans),
      ordinal(pool, trans)
    );
  }
  return own === 1
    ? trans.__('next in the queue')
    : trans.__('%1 in the queue', ordinal(own, trans));
}

function ordinal(count: number, trans: TranslationBundle): string {
  const rule = new Intl.PluralRules('en', { type: 'ordinal' }).select(count);
  switch (rule) {
    case 'one':
      return trans.__('%1st', count);
    case 'two':
      return trans.__('%1nd', count);
    case 'few':
      return trans.__('%1rd', count);
    case 'zero':
    case 'many':
    case 'other':
      return trans.__('%1th', count);
  }
}

/**
 * How far it has come, in a few words, and as a fraction where that is known.
 */
export interface IProgressText {
  readonly label: string;
  readonly fraction: number | null;
}

/**
 * "cell 7 of 12", "62 % · 41 MB new"; `null` when there is nothing to tell.
 */
export function formatProgress(
  submission: ISubmission,
  trans: TranslationBundle
): IProgressText | null {
  const { capture, position, progress, state } = submission;
  if (state === 'capturing' && capture !== null) {
    const fraction = ratio(capture.done_bytes, capture.total_bytes);
    const label = trans.__(
      '%1 % · %2 new',
      Math.floor(fraction * 100),
      formatBytes(capture.new_bytes, trans)
    );
    return { label, fraction };
  }
  if ((state === 'running' || state === 'evicting') && progress !== null) {
    const done = Math.max(0, progress.cell - 1);
    return {
      label:
        progress.cell === 0
          ? trans.__('%1 cells', progress.of)
          : trans.__('cell %1 of %2', progress.cell, progress.of),
      fraction: ratio(done, progress.of)
    };
  }
  if (state === 'queued' && position !== null) {
    return { label: formatPosition(position, trans), fraction: null };
  }
  return null;
}

function ratio(done: number, total: number): number {
  return total <= 0 ? 0 : Math.min(1, Math.max(0, done / total));
}

/**
 * "attempt 2 · the worker was lost once"; empty for a first Attempt.
 */
export function formatAttempts(
  attempts: readonly IAttempt[],
  trans: TranslationBundle
): string {
  const latest = attempts.at(-1);
  if (latest === undefined || latest.number < 2) {
    return '';
  }
  const parts = [trans.__('attempt %1', latest.number)];
  const alike = new Map<string, IAttempt[]>();
  for (const attempt of attempts.slice(0, -1)) {
    const reason = `${attempt.ended_by ?? ''} ${attempt.ended_because}`;
    alike.set(reason, [...(alike.get(reason) ?? []), attempt]);
  }
  for (const [first, ...others] of alike.values()) {
    parts.push(formatEviction(first, 1 + others.length, trans));
  }
  return parts.join(' · ');
}

function formatEviction(
  attempt: IAttempt,
  count: number,
  trans: TranslationBundle
): string {
  const times =
    count === 1 ? trans.__('once') : trans._n('%1 time', '%1 times', count);
  const reason = attempt.ended_by ?? '';
  if (attempt.ended_because !== '' && reason !== 'WorkerLost') {
    return trans.__('evicted %1 %2', times, attempt.ended_because);
  }
  switch (reason) {
    case 'WorkerLost':
      return trans.__('the worker was lost %1', times);
    case 'Preempted':
      return trans.__('evicted %1 to make room', times);
    case '':
      return trans.__('interrupted %1', times);
    default:
      return trans.__('evicted %1 (%2)', times, reason);
  }
}

/**
 * How an Attempt ended, in words.
 */
export function formatAttemptEnd(
  attempt: IAttempt,
  trans: TranslationBundle
): string {
  switch (attempt.ended_by) {
    case null:
      return attempt.ended_at === null
        ? trans.__('runs now')
        : trans.__('ended');
    case 'succeeded':
      return trans.__('succeeded');
    case 'failed':
      return trans.__('failed');
    case 'cancelled':
      return trans.__('cancelled');
    case 'WorkerLost':
      return trans.__('the worker was lost');
    case 'Preempted':
      return attempt.ended_because === ''
        ? trans.__('evicted to make room')
        : trans.__('evicted %1', attempt.ended_because);
    default:
      return trans.__(
        'evicted %1',
        attempt.ended_because || `(${attempt.ended_by})`
      );
  }
}

/**
 * Seconds that count for the reader: run time while running and afterwards, waiting time before.
 */
export function elapsedSeconds(submission: ISubmission, now: Date): number {
  const latest = submission.attempts.at(-1);
  const waits =
    submission.state === 'queued' ||
    submission.state === 'blocked' ||
    submission.state === 'capturing' ||
    submission.state === 'starting';
  const from =
    waits || latest === undefined
      ? submission.created_at
      : (latest.started_at ?? latest.admitted_at);
  const until = submission.stale
    ? submission.observed_at
    : (endedAt(submission) ?? now.toISOString());
  return Math.max(0, (Date.parse(until) - Date.parse(from)) / 1000);
}

/**
 * When a Submission that is over ended; `null` when it is not over or nobody knows.
 */
export function endedAt(submission: ISubmission): string | null {
  return isFinished(submission.state)
    ? (submission.attempts.at(-1)?.ended_at ??
        submission.explanation?.since ??
        submission.observed_at)
    : null;
}

/**
 * "3 files home", "2 files wait to be collected", with conflicts; empty when there is nothing.
 */
export function formatOutputs(
  submission: ISubmission,
  trans: TranslationBundle
): string {
  const outputs = submission.outputs;
  if (outputs === null || outputs.files === 0) {
    return '';
  }
  const parts: string[] = [];
  switch (outputs.state) {
    case 'pending':
      return '';
    case 'partial':
      parts.push(trans._n('%1 file saved', '%1 files saved', outputs.files));
      break;
    case 'available':
      parts.push(
        trans._n('%1 file to collect', '%1 files to collect', outputs.files)
      );
      break;
    case 'collected':
      parts.push(trans._n('%1 file home', '%1 files home', outputs.files));
      break;
  }
  if (outputs.conflicts > 0) {
    parts.push(trans._n('%1 kept twice', '%1 kept twice', outputs.conflicts));
  }
  return parts.join(' · ');
}

/**
 * "1 of 2 slots busy · 3 waiting", with GPU slots where there are some; "1 running" where slots are not counted.
 */
export function formatQueue(
  queue: IQueueReading,
  trans: TranslationBundle
): string {
  const parts = [
    queue.slots === null
      ? trans._n('%1 running', '%1 running', queue.busy)
      : trans._n(
          '%2 of %1 slot busy',
          '%2 of %1 slots busy',
          queue.slots,
          queue.busy
        )
  ];
  if (queue.gpu_slots > 0) {
    parts.push(
      trans._n(
        '%2 of %1 GPU busy',
        '%2 of %1 GPUs busy',
        queue.gpu_slots,
        queue.gpu_busy
      )
    );
  }
  if (queue.waiting > 0) {
    parts.push(trans._n('%1 waiting', '%1 waiting', queue.waiting));
  }
  return parts.join(' · ');
}

/**
 * One class of those who hold a pool, with how much.
 */
export interface IPoolPart {
  readonly kind: 'mine' | 'others' | 'interactive' | 'free';
  readonly count: number;
  readonly label: string;
}

/**
 * Who holds the pool, in the order in which it is drawn; classes that hold nothing are left out, but never "free".
 */
export function poolParts(
  pool: IPoolReading,
  trans: TranslationBundle
): readonly IPoolPart[] {
  const parts: readonly IPoolPart[] = [
    {
      kind: 'mine',
      count: pool.mine,
      label: trans.__('%1 yours', pool.mine)
    },
    {
      kind: 'others',
      count: pool.others_batch,
      label: trans.__('%1 batch of others', pool.others_batch)
    },
    {
      kind: 'interactive',
      count: pool.interactive,
      label: trans.__('%1 interactive', pool.interactive)
    },
    { kind: 'free', count: pool.free, label: trans.__('%1 free', pool.free) }
  ];
  return parts.filter(part => part.count > 0 || part.kind === 'free');
}

/**
 * "Pool of 7 slots (nvidia.com/mig-1g.5gb): 3 yours, 1 interactive, 3 free", for who cannot see it, and as a tooltip.
 */
export function formatPool(
  pool: IPoolReading,
  trans: TranslationBundle
): string {
  const what = pool.resource === '' ? '' : ` (${pool.resource})`;
  const parts = poolParts(pool, trans).map(part => part.label);
  const whole = trans._n(
    'Pool of %1 slot%2: %3',
    'Pool of %1 slots%2: %3',
    pool.slots,
    what,
    parts.join(', ')
  );
  return pool.interactive_waiting === 0
    ? whole
    : `${whole}; ${formatSessionsWaiting(pool, trans)}`;
}

/**
 * "1 session waiting".
 */
export function formatSessionsWaiting(
  pool: IPoolReading,
  trans: TranslationBundle
): string {
  return trans._n(
    '%1 session waiting',
    '%1 sessions waiting',
    pool.interactive_waiting
  );
}

/**
 * Where a backend's jobs run: "this machine", "the cluster"; the name of one that this page does not know.
 */
export function formatBackend(
  backend: string,
  trans: TranslationBundle
): string {
  switch (backend) {
    case 'local':
      return trans.__('this machine');
    case 'kueue':
      return trans.__('the cluster');
    default:
      return backend;
  }
}

/**
 * Where a queue's jobs run: "this machine", "the cluster, queue batch".
 */
export function formatPlace(
  queue: IQueueReading,
  trans: TranslationBundle
): string {
  const place = formatBackend(queue.backend, trans);
  return queue.backend === 'local'
    ? place
    : trans.__('%1, queue %2', place, queue.name);
}

/**
 * One sentence on where jobs will run, before any was submitted; empty while no queue is known.
 */
export function formatPlaces(
  queues: readonly IQueueReading[],
  trans: TranslationBundle
): string {
  const first = queues.at(0);
  if (first === undefined) {
    return '';
  }
  switch (first.backend) {
    case 'local':
      return trans.__('Jobs run on this machine.');
    case 'kueue':
      return trans._n(
        'Jobs run in the cluster, in queue %2 of the shared pool.',
        'Jobs run in the cluster, by default in queue %2.',
        queues.length,
        first.name
      );
    default:
      return trans.__('Jobs run on %1.', first.backend);
  }
}

/**
 * "4 CPU, 16 GB memory, 1 GPU".
 */
export function formatProfile(
  profile: IProfile,
  trans: TranslationBundle
): string {
  const parts: string[] = [];
  if (profile.gpu_slots > 0) {
    parts.push(trans._n('%1 GPU', '%1 GPUs', profile.gpu_slots));
  }
  if (profile.cpu_millicores !== null) {
    parts.push(trans.__('%1 CPU', profile.cpu_millicores / 1000));
  }
  if (profile.memory_bytes !== null) {
    parts.push(trans.__('%1 memory', formatBytes(profile.memory_bytes, trans)));
  }
  return parts.join(', ');
}

/**
 * The line under the title: why it waits, what happens next, how it ended.
 */
export function formatWhy(
  submission: ISubmission,
  trans: TranslationBundle
): string {
  const { attempts, explanation, profile, state } = submission;
  const again = formatAttempts(attempts, trans);
  const join = (...parts: (string | undefined)[]) =>
    parts.filter(part => part !== undefined && part !== '').join(' · ');
  switch (state) {
    // Progress already says how far it is; this line says what follows from it.
    case 'capturing':
      return join(
        submission.capture === null
          ? explanation?.summary
          : explanation?.resolution
      );
    case 'starting':
    case 'running':
      return explanation === null || explanation.code === state
        ? join(profile, again)
        : join(explanation.summary, again);
    case 'blocked':
      return join(explanation?.summary, explanation?.resolution);
    case 'queued':
    case 'evicting':
    case 'cancelling':
    case 'collecting':
      return join(explanation?.summary, again);
    case 'succeeded':
      return join(formatOutputs(submission, trans), again);
    case 'failed':
    case 'cancelled':
      // What came home is in the summary already.
      return join(
        explanation?.summary,
        again,
        submission.outputs?.state === 'collected'
          ? ''
          : formatOutputs(submission, trans)
      );
  }
}

/**
 * At most `limit` characters, cut with an ellipsis.
 */
export function shorten(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}

/**
 * The first characters of an id, as file names and titles carry them.
 */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

/**
 * Name of the file that a Submission is exported to: "train.batch-1a2b3c4d.yaml", as its executed notebook is called.
 */
export function manifestName(submission: ISubmission): string {
  const notebook = submission.notebook_path.split('/').pop() ?? '';
  const stem = notebook.replace(/\.ipynb$/, '');
  return `${stem}.batch-${shortId(submission.id)}.yaml`;
}
