import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatAttemptEnd, formatDuration, formatMoment } from '../../format';
import type { IAttempt, ISubmission } from '../../models';
import { useNow } from '../now';

/**
 * What happened when: submitted, captured, every Attempt.
 */
export function Timeline(props: {
  readonly submission: ISubmission;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { submission, trans } = props;
  const { attempts, snapshot } = submission;
  const latest = attempts.at(-1);
  const now = useNow(latest?.ended_at === null);
  const when = (at: string) => formatMoment(new Date(at), now, trans);
  return (
    <table className="jp-AiBatch-table">
      <thead>
        <tr>
          <th scope="col">{trans.__('What')}</th>
          <th scope="col">{trans.__('When')}</th>
          <th scope="col">{trans.__('How long')}</th>
          <th scope="col">{trans.__('How it ended')}</th>
        </tr>
      </thead>
      <tbody>
        <tr>
          <td>{trans.__('Submitted')}</td>
          <td>{when(submission.created_at)}</td>
          <td />
          <td />
        </tr>
        {snapshot !== null && (
          <tr>
            <td>{trans.__('Captured')}</td>
            <td>{when(snapshot.captured_from)}</td>
            <td>
              {formatDuration(
                seconds(snapshot.captured_from, snapshot.captured_until),
                trans
              )}
            </td>
            <td>{trans.__('later edits do not reach the job')}</td>
          </tr>
        )}
        {attempts.map(attempt => (
          <AttemptLine
            key={attempt.number}
            attempt={attempt}
            now={now}
            trans={trans}
          />
        ))}
      </tbody>
    </table>
  );
}

function AttemptLine(props: {
  readonly attempt: IAttempt;
  readonly now: Date;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { attempt, now, trans } = props;
  const from = attempt.started_at ?? attempt.admitted_at;
  const until = attempt.ended_at ?? now.toISOString();
  const lost =
    attempt.time_lost_s > 0
      ? trans.__(
          '; %1 of work were lost',
          formatDuration(attempt.time_lost_s, trans)
        )
      : '';
  return (
    <tr>
      <td>{trans.__('Attempt %1', attempt.number)}</td>
      <td>{formatMoment(new Date(from), now, trans)}</td>
      <td>{formatDuration(seconds(from, until), trans)}</td>
      <td>
        {formatAttemptEnd(attempt, trans)}
        {lost}
      </td>
    </tr>
  );
}

function seconds(from: string, until: string): number {
  return Math.max(0, (Date.parse(until) - Date.parse(from)) / 1000);
}
