import type { TranslationBundle } from '@jupyterlab/translation';
import { refreshIcon, settingsIcon } from '@jupyterlab/ui-components';
import React from 'react';
import { formatPlaces } from '../../format';
import { batchIcon } from '../../icons';
import type { IQueueReading } from '../../models';
import type { ISubmissionManager } from '../../tokens';
import type { ISubmissionActions } from '../actions';
import { IconButton } from '../iconButton';
import { Announcer } from './announcer';
import { FilterBar } from './filterBar';
import { type IFilter, matches, NO_FILTER } from './groups';
import { SubmissionList } from './list';
import { ProblemLine } from './problemLine';
import { QueueLine } from './queueLine';

/**
 * The whole panel, from the manager's present values.
 */
export function PanelView(props: IPanelViewProps): React.JSX.Element {
  const { manager, trans } = props;
  return (
    <div className="jp-AiBatch-view">
      <div className="jp-AiBatch-header">
        <h2 className="jp-AiBatch-heading">{trans.__('Batch')}</h2>
        <IconButton
          icon={refreshIcon}
          label={trans.__('Refresh the list')}
          onClick={props.onRefresh}
        />
        <IconButton
          icon={settingsIcon}
          label={trans.__('Batch settings')}
          onClick={props.onSettings}
        />
      </div>
      <Place queues={manager.queues} trans={trans} />
      {manager.queues.map(queue => (
        <QueueLine
          key={queue.name}
          queue={queue}
          named={manager.queues.length > 1}
          trans={trans}
        />
      ))}
      {manager.problem !== null && (
        <ProblemLine
          problem={manager.problem}
          onRetry={props.onRefresh}
          trans={trans}
        />
      )}
      <PanelBody {...props} />
      <Announcer transition={manager.transition} trans={trans} />
    </div>
  );
}

export interface IPanelViewProps {
  readonly manager: ISubmissionManager;
  readonly actions: ISubmissionActions;
  readonly onRefresh: () => void;
  readonly onSettings: () => void;
  readonly onSubmit: () => void;
  readonly onLoadMore: () => void;
  readonly trans: TranslationBundle;
}

/**
 * Where jobs will run, also before any was submitted.
 */
function Place(props: {
  readonly queues: readonly IQueueReading[];
  readonly trans: TranslationBundle;
}): React.JSX.Element | null {
  const place = formatPlaces(props.queues, props.trans);
  return place === '' ? null : <p className="jp-AiBatch-place">{place}</p>;
}

function PanelBody(props: IPanelViewProps): React.JSX.Element | null {
  const { manager, trans } = props;
  const [filter, setFilter] = React.useState<IFilter>(NO_FILTER);
  const { active, finished } = manager;
  const shownActive = React.useMemo(
    () => active.filter(item => matches(item, filter)),
    [active, filter]
  );
  const shownFinished = React.useMemo(
    () => finished.filter(item => matches(item, filter)),
    [finished, filter]
  );
  if (!manager.isReady) {
    return (
      <p className="jp-AiBatch-note" role="status">
        {trans.__('Loading your batch jobs…')}
      </p>
    );
  }
  if (active.length + finished.length === 0) {
    return manager.problem === null ? <EmptyState {...props} /> : null;
  }
  return (
    <>
      <FilterBar filter={filter} onFilter={setFilter} trans={trans} />
      <div className="jp-AiBatch-scroll">
        {shownActive.length + shownFinished.length === 0 ? (
          <NothingFound
            trans={trans}
            onClear={() => {
              setFilter(NO_FILTER);
            }}
          />
        ) : (
          <SubmissionList
            active={shownActive}
            activeTotal={active.length}
            finished={shownFinished}
            actions={props.actions}
            stale={manager.problem !== null}
            trans={trans}
          />
        )}
        {manager.hasMore && (
          <button
            type="button"
            className="jp-AiBatch-more"
            onClick={props.onLoadMore}
          >
            {trans.__('Load older')}
          </button>
        )}
      </div>
    </>
  );
}

function NothingFound(props: {
  readonly onClear: () => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  return (
    <p className="jp-AiBatch-note" role="status">
      {props.trans.__('No batch job here matches your search.')}{' '}
      <button type="button" className="jp-AiBatch-link" onClick={props.onClear}>
        {props.trans.__('Show all')}
      </button>
    </p>
  );
}

function EmptyState(props: IPanelViewProps): React.JSX.Element {
  const { trans } = props;
  return (
    <div className="jp-AiBatch-empty">
      <p>
        {trans.__(
          'You have no batch jobs yet: submit a notebook and it runs on, even when you close everything.'
        )}
      </p>
      <button
        type="button"
        className="jp-AiBatch-primary"
        onClick={props.onSubmit}
      >
        <batchIcon.react tag="span" aria-hidden="true" />
        {trans.__('Submit as batch')}
      </button>
    </div>
  );
}
