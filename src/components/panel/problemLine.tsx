import type { TranslationBundle } from '@jupyterlab/translation';
import { offlineBoltIcon } from '@jupyterlab/ui-components';
import React from 'react';
import { formatClock } from '../../format';
import type { IConnectionProblem } from '../../tokens';

/**
 * Since when the list is old, why, and what happens next.
 */
export function ProblemLine(props: {
  readonly problem: IConnectionProblem;
  readonly onRetry: () => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { problem, trans } = props;
  const { lastSeenAt, error } = problem;
  return (
    <div className="jp-AiBatch-problem" role="status">
      <offlineBoltIcon.react tag="span" aria-hidden="true" />
      <div>
        <div>
          {lastSeenAt !== null && (
            <strong>{trans.__('As of %1.', formatClock(lastSeenAt))} </strong>
          )}
          {error.message}
        </div>
        {error.hint !== null && (
          <div className="jp-AiBatch-problemHint">{error.hint}</div>
        )}
        <div>
          {trans.__('Retrying.')}{' '}
          <button
            type="button"
            className="jp-AiBatch-link"
            onClick={props.onRetry}
          >
            {trans.__('Try now')}
          </button>
        </div>
      </div>
    </div>
  );
}
