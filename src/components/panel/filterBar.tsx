import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { type IFilter, STATE_FILTERS, type StateFilter } from './groups';

/**
 * Search field and state menu.
 */
export function FilterBar(props: {
  readonly filter: IFilter;
  readonly onFilter: (filter: IFilter) => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { filter, onFilter, trans } = props;
  return (
    <div className="jp-AiBatch-filter" role="search">
      <input
        type="search"
        className="jp-AiBatch-input"
        placeholder={trans.__('Search…')}
        aria-label={trans.__('Search batch jobs')}
        value={filter.text}
        onChange={event => {
          onFilter({ ...filter, text: event.target.value });
        }}
      />
      <select
        className="jp-AiBatch-input"
        aria-label={trans.__('State')}
        value={filter.state}
        onChange={event => {
          const state = STATE_FILTERS.find(
            known => known === event.target.value
          );
          onFilter({ ...filter, state: state ?? '' });
        }}
      >
        {STATE_FILTERS.map(state => (
          <option key={state} value={state}>
            {filterLabel(state, trans)}
          </option>
        ))}
      </select>
    </div>
  );
}

function filterLabel(state: StateFilter, trans: TranslationBundle): string {
  switch (state) {
    case '':
      return trans.__('All states');
    case 'waiting':
      return trans.__('Waiting');
    case 'running':
      return trans.__('Running');
    case 'succeeded':
      return trans.__('Succeeded');
    case 'failed':
      return trans.__('Failed');
    case 'cancelled':
      return trans.__('Cancelled');
  }
}
