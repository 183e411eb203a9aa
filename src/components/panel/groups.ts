import {
  isFinished,
  type ISubmission,
  type SubmissionState
} from '../../models';

/**
 * What the state menu offers; `''` shows all.
 */
export const STATE_FILTERS = [
  '',
  'waiting',
  'running',
  'succeeded',
  'failed',
  'cancelled'
] as const;

export type StateFilter = (typeof STATE_FILTERS)[number];

/**
 * What the user looks for.
 */
export interface IFilter {
  readonly text: string;
  readonly state: StateFilter;
}

export const NO_FILTER: IFilter = { text: '', state: '' };

/**
 * The finished Submissions of one notebook, newest first.
 */
export interface INotebookGroup {
  readonly notebookPath: string;
  readonly submissions: readonly ISubmission[];
}

/**
 * Whether a Submission is among what the user looks for: every word occurs in title, path, profile, id or explanation.
 */
export function matches(submission: ISubmission, filter: IFilter): boolean {
  if (filter.state !== '' && filterOf(submission.state) !== filter.state) {
    return false;
  }
  const text = [
    submission.title,
    submission.notebook_path,
    submission.profile,
    submission.id,
    submission.explanation?.summary ?? ''
  ]
    .join('\n')
    .toLowerCase();
  return filter.text
    .toLowerCase()
    .split(/\s+/)
    .every(word => text.includes(word));
}

function filterOf(state: SubmissionState): StateFilter {
  switch (state) {
    case 'capturing':
    case 'queued':
    case 'blocked':
      return 'waiting';
    case 'starting':
    case 'running':
    case 'evicting':
    case 'cancelling':
    case 'collecting':
      return 'running';
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return state;
  }
}

/**
 * Grouped by notebook; the group with the newest Submission comes first.
 */
export function groupByNotebook(
  submissions: readonly ISubmission[]
): readonly INotebookGroup[] {
  const groups = new Map<string, ISubmission[]>();
  for (const submission of submissions) {
    if (isFinished(submission.state)) {
      const group = groups.get(submission.notebook_path);
      if (group === undefined) {
        groups.set(submission.notebook_path, [submission]);
      } else {
        group.push(submission);
      }
    }
  }
  return [...groups].map(([notebookPath, members]) => ({
    notebookPath,
    submissions: members
  }));
}
