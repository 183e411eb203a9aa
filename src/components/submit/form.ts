/**
 * The dialog's content as one immutable record, and the pure steps from it to a request.
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import { formatBytes } from '../../format';
import type {
  CaptureFrom,
  INotebookParameters,
  IParameter,
  IProfile,
  IQueueReading,
  ISnapshotPlan,
  ISubmissionRequest
} from '../../models';
import type { ISubmitDefaults } from '../../tokens';
import { formatLimit, OFFERED_LIMITS_S, parseDuration } from './duration';
import { changedInputs, type FieldInput, parseInput } from './fields';
import type { IProblem } from './problem';

/**
 * Something that the server is asked for while the dialog is already open.
 */
export type Loadable<T> =
  | { readonly status: 'loading' }
  | { readonly status: 'ready'; readonly value: T }
  | { readonly status: 'failed'; readonly problem: IProblem };

export const LOADING: { readonly status: 'loading' } = { status: 'loading' };

/**
 * A time limit: the profile's own (`null`), an offered one in seconds, or text that the user types.
 */
export type LimitChoice = number | null | { readonly text: string };

/**
 * What the user has chosen so far. `profile` and `queue` are `null` while the server is to choose.
 */
export interface ISubmitForm {
  readonly title: string;
  readonly profile: string | null;
  readonly queue: string | null;
  readonly limit: LimitChoice;
  readonly captureFrom: CaptureFrom;
  readonly replaceNotebook: boolean;
  /** `null` while the notebook's metadata decide. */
  readonly resume: boolean | null;
  readonly inputs: ReadonlyMap<string, FieldInput>;
}

/**
 * Everything that the dialog shows.
 */
export interface ISubmitState {
  readonly form: ISubmitForm;
  readonly profiles: Loadable<readonly IProfile[]>;
  readonly queues: Loadable<readonly IQueueReading[]>;
  readonly parameters: Loadable<INotebookParameters>;
  readonly plan: Loadable<ISnapshotPlan>;
  /** What the server said to the last try to submit. */
  readonly refusal: IProblem | null;
  /** Whether a try to submit found fields that cannot be read: from then on, errors show while typing. */
  readonly checked: boolean;
  readonly submitting: boolean;
}

/**
 * The form as it opens, from the user's settings or from the choices of last time.
 */
export function initialForm(
  title: string,
  defaults: ISubmitDefaults
): ISubmitForm {
  return {
    title: defaults.title ?? title,
    profile: defaults.profile ?? null,
    queue: defaults.queue ?? null,
    limit: toLimit(defaults.max_duration_s ?? null),
    captureFrom: defaults.capture_from ?? 'auto',
    replaceNotebook: defaults.replace_notebook ?? false,
    resume: defaults.resume ?? null,
    inputs: new Map()
  };
}

function toLimit(seconds: number | null): LimitChoice {
  return seconds === null || OFFERED_LIMITS_S.includes(seconds)
    ? seconds
    : { text: formatLimit(seconds) };
}

/**
 * Errors by field: `limit`, or a parameter's name behind `parameter:`.
 */
export type FieldErrors = ReadonlyMap<string, string>;

/**
 * The sentences for all fields that cannot be read.
 */
export function findErrors(
  state: ISubmitState,
  trans: TranslationBundle
): FieldErrors {
  const errors = new Map<string, string>();
  const { limit } = state.form;
  if (
    typeof limit === 'object' &&
    limit &&
    parseDuration(limit.text) === null
  ) {
    errors.set(
      'limit',
      trans.__('Give a duration, for example 90 min, 2 h or 1 d 12 h.')
    );
  }
  for (const parameter of changedParameters(state)) {
    const input = state.form.inputs.get(parameter.name) ?? '';
    const parsed = parseInput(parameter, input, trans);
    if (!parsed.ok) {
      errors.set(parameterField(parameter.name), parsed.error);
    }
  }
  return errors;
}

/**
 * The key of a parameter's field in `FieldErrors`.
 */
export function parameterField(name: string): string {
  return `parameter:${name}`;
}

/**
 * What would be asked for now; fields that cannot be read are left out.
 */
export function buildChoice(
  state: ISubmitState,
  trans: TranslationBundle
): Required<ISubmitDefaults> {
  const { form } = state;
  const parameters: Record<string, unknown> = {};
  for (const parameter of changedParameters(state)) {
    const input = form.inputs.get(parameter.name) ?? '';
    const parsed = parseInput(parameter, input, trans);
    if (parsed.ok) {
      parameters[parameter.name] = parsed.value;
    }
  }
  return {
    title: form.title.trim(),
    profile: chosenProfile(state)?.name ?? form.profile,
    queue: chosenQueue(state)?.name ?? form.queue,
    parameters,
    max_duration_s: limitSeconds(form.limit),
    capture_from: form.captureFrom,
    replace_notebook: form.replaceNotebook,
    resume: form.resume
  };
}

/**
 * The problems of what was asked for, each once: where several calls fail alike, the first stands for all.
 */
export function distinctProblems(state: ISubmitState): ReadonlySet<IProblem> {
  const problems = new Map<string, IProblem>();
  for (const part of [
    state.queues,
    state.profiles,
    state.parameters,
    state.plan
  ]) {
    if (part.status === 'failed') {
      const { code, message } = part.problem;
      const key = `${code} ${message}`;
      problems.set(key, problems.get(key) ?? part.problem);
    }
  }
  return new Set(problems.values());
}

/**
 * What is wrong with a plan whose files are above the limit: a capture of them would fail.
 */
export function findTooLarge(
  plan: Loadable<ISnapshotPlan>,
  trans: TranslationBundle
): IProblem | null {
  if (
    plan.status !== 'ready' ||
    plan.value.work_bytes <= plan.value.limit_bytes
  ) {
    return null;
  }
  const { work_bytes, work_root, limit_bytes, heaviest } = plan.value;
  const largest = heaviest.at(0);
  return {
    code: 'snapshot_too_large',
    message: trans.__(
      'The files in %1 take %2; a snapshot may have %3.',
      work_root,
      formatBytes(work_bytes, trans),
      formatBytes(limit_bytes, trans)
    ),
    hint: largest
      ? trans.__(
          'The largest folder is %1, %2.',
          largest[0],
          formatBytes(largest[1], trans)
        )
      : null,
    place: 'plan',
    parameter: null
  };
}

/**
 * The body of `POST submissions` for a choice.
 */
export function buildRequest(
  notebookPath: string,
  choice: Required<ISubmitDefaults>
): ISubmissionRequest {
  return {
    notebook_path: notebookPath,
    ...choice,
    title: choice.title === '' ? null : choice.title
  };
}

/**
 * The profile that the job would get: the chosen one, else the server's first.
 */
export function chosenProfile(state: ISubmitState): IProfile | null {
  if (state.profiles.status !== 'ready') {
    return null;
  }
  const profiles = state.profiles.value;
  return (
    profiles.find(profile => profile.name === state.form.profile) ??
    profiles.at(0) ??
    null
  );
}

/**
 * The queue that the job would wait in: the chosen one, else the server's first.
 */
export function chosenQueue(state: ISubmitState): IQueueReading | null {
  if (state.queues.status !== 'ready') {
    return null;
  }
  const queues = state.queues.value;
  return (
    queues.find(queue => queue.name === state.form.queue) ??
    queues.at(0) ??
    null
  );
}

/**
 * Whether the job, once interrupted, would go on with its saved files.
 */
export function chosenResume(state: ISubmitState): boolean {
  const { parameters } = state;
  return (
    state.form.resume ??
    (parameters.status === 'ready' && parameters.value.resume)
  );
}

function limitSeconds(limit: LimitChoice): number | null {
  return typeof limit === 'object' && limit !== null
    ? parseDuration(limit.text)
    : limit;
}

function changedParameters(state: ISubmitState): readonly IParameter[] {
  return state.parameters.status === 'ready'
    ? changedInputs(state.parameters.value.parameters, state.form.inputs)
    : [];
}
