import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { elapsedSeconds, formatDuration, formatMoment } from '../../format';
import { isFinished, type ISubmission } from '../../models';
import { useNow } from '../now';

/**
 * How long it waits or runs; ticks without asking the server.
 */
export function Elapsed(props: {
  readonly submission: ISubmission;
  /** Nobody answers: time does not go on for a row that is old. */
  readonly frozen: boolean;
  readonly trans: TranslationBundle;
}): React.JSX.Element | null {
  const { submission, trans } = props;
  const now = useNow(
    !isFinished(submission.state) && !submission.stale && !props.frozen
  );
  if (isFinished(submission.state) && submission.attempts.length === 0) {
    return null;
  }
  const created = formatMoment(new Date(submission.created_at), now, trans);
  return (
    <span
      className="jp-AiBatch-elapsed"
      title={trans.__('Submitted %1', created)}
    >
      {formatDuration(elapsedSeconds(submission, now), trans)}
    </span>
  );
}
