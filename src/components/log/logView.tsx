import type { TranslationBundle } from '@jupyterlab/translation';
import { caretDownIcon, caretUpIcon } from '@jupyterlab/ui-components';
import React from 'react';
import { formatBytes } from '../../format';
import type { FollowState, LogFollower } from '../../log/follower';
import { findHits, type ILogHit, MAX_HITS } from '../../log/search';
import type { IAttempt } from '../../models';
import { IconButton } from '../iconButton';
import { LogBlock } from './logBlock';

/** Pixels from the end that still count as the end. */
const END_PX = 24;

/**
 * A log that follows, with search and a choice of the Attempt.
 */
export function LogView(props: ILogViewProps): React.JSX.Element {
  const { follower, trans } = props;
  const [wrap, setWrap] = React.useState(props.wrap);
  const [query, setQuery] = React.useState('');
  const [index, setIndex] = React.useState(0);
  const [follows, setFollows] = React.useState(true);
  const scroller = React.useRef<HTMLDivElement>(null);
  const { blocks } = follower.text;
  const hits = React.useMemo(() => findHits(blocks, query), [blocks, query]);
  const at = hits.length === 0 ? null : hits[index % hits.length];
  React.useEffect(() => {
    if (follows && query === '' && scroller.current !== null) {
      scroller.current.scrollTop = scroller.current.scrollHeight;
    }
  });
  const step = (by: number) => {
    setIndex((index + by + hits.length) % Math.max(1, hits.length));
  };
  return (
    <div className="jp-AiBatch-log">
      <div className="jp-AiBatch-logBar">
        <AttemptMenu {...props} />
        <input
          type="search"
          className="jp-AiBatch-input"
          placeholder={trans.__('Search…')}
          aria-label={trans.__('Search in the log')}
          value={query}
          onChange={event => {
            setQuery(event.target.value);
            setIndex(0);
          }}
          onKeyDown={event => {
            if (event.key === 'Enter') {
              step(event.shiftKey ? -1 : 1);
            }
          }}
        />
        {query !== '' && (
          <HitSteps
            count={hits.length}
            index={index}
            step={step}
            trans={trans}
          />
        )}
        <label>
          <input
            type="checkbox"
            checked={wrap}
            onChange={event => {
              setWrap(event.target.checked);
            }}
          />
          {trans.__('Wrap lines')}
        </label>
        <label>
          <input
            type="checkbox"
            checked={follows}
            onChange={event => {
              setFollows(event.target.checked);
            }}
          />
          {trans.__('Follow')}
        </label>
      </div>
      <div
        ref={scroller}
        className={`jp-AiBatch-logText${wrap ? ' jp-mod-wrap' : ''}`}
        role="log"
        aria-label={trans.__('Log')}
        aria-live="off"
        tabIndex={0}
        onScroll={event => {
          const node = event.currentTarget;
          const rest = node.scrollHeight - node.scrollTop - node.clientHeight;
          setFollows(rest < END_PX);
        }}
      >
        {follower.text.droppedChars > 0 && (
          <div className="jp-AiBatch-note">
            {trans.__(
              'The first %1 are not shown here; “jupyter ai-batch logs” prints them.',
              formatBytes(follower.text.droppedChars, trans)
            )}
          </div>
        )}
        {blocks.map(block => (
          <LogBlock
            key={block.key}
            block={block}
            hits={positionsIn(hits, block.key)}
            length={query.length}
            current={at?.block === block.key ? at.at : null}
          />
        ))}
      </div>
      <div className="jp-AiBatch-logState" role="status">
        {stateText(follower, blocks.length === 0, trans)}
      </div>
    </div>
  );
}

export interface ILogViewProps {
  readonly follower: LogFollower;
  readonly attempts: readonly IAttempt[];
  readonly onAttempt: (attempt: number) => void;
  readonly trans: TranslationBundle;
  /** Whether lines are wrapped at first. */
  readonly wrap: boolean;
}

function positionsIn(
  hits: readonly ILogHit[],
  block: number
): readonly number[] {
  return hits.filter(hit => hit.block === block).map(hit => hit.at);
}

function AttemptMenu(props: ILogViewProps): React.JSX.Element | null {
  const { attempts, follower, trans } = props;
  if (attempts.length < 2) {
    return null;
  }
  return (
    <select
      className="jp-AiBatch-input"
      aria-label={trans.__('Attempt')}
      value={follower.attempt ?? attempts.at(-1)?.number}
      onChange={event => {
        props.onAttempt(Number(event.target.value));
      }}
    >
      {attempts.map(attempt => (
        <option key={attempt.number} value={attempt.number}>
          {trans.__('Attempt %1', attempt.number)}
        </option>
      ))}
    </select>
  );
}

function HitSteps(props: {
  readonly count: number;
  readonly index: number;
  readonly step: (by: number) => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { count, index, step, trans } = props;
  const many = count >= MAX_HITS ? trans.__('%1 or more', count) : `${count}`;
  return (
    <>
      <span role="status">
        {count === 0
          ? trans.__('not found')
          : trans.__('%1 of %2', (index % count) + 1, many)}
      </span>
      <IconButton
        icon={caretUpIcon}
        label={trans.__('Previous match')}
        disabled={count === 0}
        onClick={() => {
          step(-1);
        }}
      />
      <IconButton
        icon={caretDownIcon}
        label={trans.__('Next match')}
        disabled={count === 0}
        onClick={() => {
          step(1);
        }}
      />
    </>
  );
}

function stateText(
  follower: LogFollower,
  empty: boolean,
  trans: TranslationBundle
): string {
  const state: FollowState = follower.state;
  const reason = follower.error?.message ?? '';
  switch (state) {
    case 'paused':
      return '';
    case 'connecting':
      return trans.__('Connecting to the log…');
    case 'following':
      return empty
        ? trans.__('Nothing has been printed yet.')
        : trans.__('Following the log.');
    case 'retrying':
      return reason === ''
        ? trans.__('The connection was lost. Retrying.')
        : trans.__('%1 Retrying.', reason);
    case 'complete':
      return empty
        ? trans.__('The log is empty: nothing was printed.')
        : trans.__('End of the log.');
    case 'refused':
      return reason;
  }
}
