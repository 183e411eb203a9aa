import type { ISubmission } from '../models';

/**
 * What a user can do to a Submission, as callbacks: components know no commands.
 */
export interface ISubmissionActions {
  /** Open the result, or the details where there is none. */
  open(submission: ISubmission): void;
  showLog(submission: ISubmission): void;
  showDetails(submission: ISubmission): void;
  openResults(submission: ISubmission): void;
  collect(submission: ISubmission): void;
  /** Download it as YAML that `kubectl apply` takes. */
  exportManifest(submission: ISubmission): void;
  resubmit(submission: ISubmission): void;
  /** @param ask - Ask first, even where nothing would be lost. */
  cancel(submission: ISubmission, ask: boolean): void;
}

/**
 * Whether a cancel would have an effect.
 */
export function canCancel(submission: ISubmission): boolean {
  switch (submission.state) {
    case 'capturing':
    case 'queued':
    case 'blocked':
    case 'starting':
    case 'running':
    case 'evicting':
      return true;
    case 'cancelling':
    case 'collecting':
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return false;
  }
}

/**
 * Whether run time would be lost by a cancel.
 */
export function hasRunTime(submission: ISubmission): boolean {
  return submission.attempts.length > 0;
}

/**
 * Whether outputs are stored that did not come home yet.
 */
export function canCollect(submission: ISubmission): boolean {
  const state = submission.outputs?.state;
  return state === 'available' || state === 'partial';
}

/**
 * Whether a cluster has it, or had it: from the end of the capture on, and never on this machine.
 */
export function canExport(submission: ISubmission): boolean {
  return submission.backend !== 'local' && submission.snapshot !== null;
}

/**
 * Whether there is an executed notebook at home.
 */
export function hasResult(submission: ISubmission): boolean {
  return submission.executed_notebook !== null;
}

/**
 * Whether an Attempt has begun, so that there is a log.
 */
export function hasLog(submission: ISubmission): boolean {
  return submission.attempts.length > 0;
}
