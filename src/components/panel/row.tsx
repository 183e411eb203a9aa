import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import {
  endedAt,
  formatClock,
  formatMoment,
  formatProgress,
  formatState,
  formatWhy
} from '../../format';
import { stateIcon } from '../../icons';
import { ROW_CLASS } from '../../ids';
import type { ISubmission } from '../../models';
import { canCancel, type ISubmissionActions } from '../actions';
import { ProgressBar } from '../progressBar';
import { Elapsed } from './elapsed';
import { RowActions } from './rowActions';

/**
 * One Submission: what it is, how far it is, and why.
 */
export const SubmissionRow = React.memo(function SubmissionRow(
  props: ISubmissionRowProps
): React.JSX.Element {
  const { submission, trans } = props;
  const why = formatWhy(submission, trans);
  return (
    <div
      role="row"
      className={ROW_CLASS}
      data-submission-id={submission.id}
      data-state={submission.state}
      data-roving={submission.id}
      tabIndex={props.current ? 0 : -1}
      onFocus={() => {
        props.onCurrent(submission.id);
      }}
      onDoubleClick={() => {
        props.actions.open(submission);
      }}
      onKeyDown={event => {
        onRowKey(event, props);
      }}
    >
      <div role="gridcell" className="jp-AiBatch-rowMain">
        <div className="jp-AiBatch-rowHead">
          <StateMark submission={submission} />
          <span className="jp-AiBatch-rowTitle" title={tooltip(submission)}>
            {submission.title}
          </span>
          <Elapsed
            submission={submission}
            frozen={props.frozen}
            trans={trans}
          />
        </div>
        <RowState submission={submission} trans={trans} />
        {why !== '' && (
          <div className="jp-AiBatch-rowWhy" title={why}>
            {why}
          </div>
        )}
      </div>
      <div role="gridcell" className="jp-AiBatch-rowButtons">
        <RowActions
          submission={submission}
          actions={props.actions}
          trans={trans}
          reachable={props.current}
        />
      </div>
    </div>
  );
});

export interface ISubmissionRowProps {
  readonly submission: ISubmission;
  readonly actions: ISubmissionActions;
  readonly trans: TranslationBundle;
  /** Whether the row is the one in the tab order. */
  readonly current: boolean;
  readonly onCurrent: (id: string) => void;
  /** Nobody answers: the row is old. */
  readonly frozen: boolean;
}

function tooltip(submission: ISubmission): string {
  return `${submission.title}\n${submission.notebook_path}`;
}

function StateMark(props: {
  readonly submission: ISubmission;
}): React.JSX.Element {
  const { state } = props.submission;
  const icon = stateIcon(state);
  return (
    <span className="jp-AiBatch-state" data-state={state}>
      <icon.react tag="span" className="jp-AiBatch-stateIcon" aria-hidden />
    </span>
  );
}

/**
 * "Running · cell 7 of 12" with its bar, "Succeeded · today 14:02".
 */
function RowState(props: {
  readonly submission: ISubmission;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { submission, trans } = props;
  const parts = [formatState(submission.state, trans)];
  const progress = formatProgress(submission, trans);
  const ended = endedAt(submission);
  if (ended !== null) {
    parts.push(formatMoment(new Date(ended), new Date(), trans));
  }
  if (progress !== null) {
    parts.push(progress.label);
  }
  if (submission.stale) {
    const seen = formatClock(new Date(submission.observed_at));
    parts.push(trans.__('as of %1', seen));
  }
  const words = parts.join(' · ');
  return (
    <div className="jp-AiBatch-rowState">
      <span className="jp-AiBatch-rowWords" title={words}>
        {words}
      </span>
      {typeof progress?.fraction === 'number' && (
        <ProgressBar label={progress.label} fraction={progress.fraction} />
      )}
    </div>
  );
}

function onRowKey(
  event: React.KeyboardEvent<HTMLElement>,
  props: ISubmissionRowProps
): void {
  if (event.target !== event.currentTarget) {
    return;
  }
  const { submission, actions } = props;
  if (event.key === 'Enter') {
    event.preventDefault();
    actions.open(submission);
  } else if (event.key === 'Delete' && canCancel(submission)) {
    event.preventDefault();
    actions.cancel(submission, true);
  }
}
