/**
 * A refusal as the dialog shows it: what is wrong, what to do, and beside which field.
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import { BatchApiError } from '../../errors';

/**
 * Where in the dialog a problem is shown.
 */
export type ProblemPlace =
  | 'profile'
  | 'queue'
  | 'limit'
  | 'parameters'
  | 'plan'
  | 'dialog';

/**
 * One problem in words for the user.
 */
export interface IProblem {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly place: ProblemPlace;
  /** The parameter that it is about, when there is one. */
  readonly parameter: string | null;
}

const PLACES: Readonly<Record<string, ProblemPlace>> = {
  profile_unknown: 'profile',
  queue_unknown: 'queue',
  parameters_invalid: 'parameters',
  snapshot_failed: 'plan',
  snapshot_too_large: 'plan',
  file_unreadable: 'plan',
  file_unstable: 'plan'
};

/**
 * Read whatever a call to the server was rejected with.
 */
export function toProblem(
  reason: unknown,
  trans: TranslationBundle,
  fallback: ProblemPlace = 'dialog'
): IProblem {
  if (!(reason instanceof BatchApiError)) {
    console.error('The submit dialog met an error of its own.', reason);
    return {
      code: 'dialog_failed',
      message: trans.__('The dialog could not read the answer.'),
      hint: reason instanceof Error ? reason.message : String(reason),
      place: fallback,
      parameter: null
    };
  }
  const named = reason.details.parameter;
  return {
    code: reason.code,
    message: reason.message,
    hint: reason.hint,
    place: PLACES[reason.code] ?? fallback,
    parameter: typeof named === 'string' ? named : null
  };
}
