import { PathExt } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import React from 'react';
import type { ISubmission } from '../../models';
import type { ISubmissionActions } from '../actions';
import { groupByNotebook, type INotebookGroup } from './groups';
import { onRovingKey } from './roving';
import { SubmissionRow } from './row';

/** Groups beyond these start folded. */
const OPEN_GROUPS = 4;

/**
 * Active Submissions, then the finished ones by notebook: one grid with one tab stop.
 */
export function SubmissionList(props: ISubmissionListProps): React.JSX.Element {
  const { active, finished, trans } = props;
  const [wanted, setCurrent] = React.useState<string | null>(null);
  const [folded, setFolded] = React.useState<ReadonlyMap<string, boolean>>(
    new Map()
  );
  const groups = React.useMemo(() => groupByNotebook(finished), [finished]);
  const isFolded = (group: INotebookGroup, index: number) =>
    folded.get(group.notebookPath) ?? index >= OPEN_GROUPS;
  const stops = [
    ...active.map(item => item.id),
    ...groups.flatMap((group, index) => [
      group.notebookPath,
      ...(isFolded(group, index) ? [] : group.submissions.map(item => item.id))
    ])
  ];
  const current =
    wanted !== null && stops.includes(wanted) ? wanted : (stops[0] ?? null);
  const row = (submission: ISubmission) => (
    <SubmissionRow
      key={submission.id}
      submission={submission}
      actions={props.actions}
      trans={trans}
      current={submission.id === current}
      onCurrent={setCurrent}
      frozen={props.stale}
    />
  );
  return (
    <div
      role="grid"
      aria-label={trans.__('Batch jobs')}
      className={`jp-AiBatch-list${props.stale ? ' jp-mod-stale' : ''}`}
      onKeyDown={onRovingKey}
    >
      {active.length > 0 && (
        <div role="rowgroup" className="jp-AiBatch-section">
          <SectionHeading label={trans.__('Active (%1)', props.activeTotal)} />
          {active.map(row)}
        </div>
      )}
      {groups.length > 0 && (
        <div role="rowgroup" className="jp-AiBatch-section">
          <SectionHeading label={trans.__('Finished')} />
          {groups.map((group, index) => {
            const fold = isFolded(group, index);
            return (
              <React.Fragment key={group.notebookPath}>
                <GroupHeading
                  group={group}
                  folded={fold}
                  current={group.notebookPath === current}
                  onCurrent={setCurrent}
                  onToggle={() => {
                    setFolded(
                      new Map([...folded, [group.notebookPath, !fold]])
                    );
                  }}
                />
                {fold ? null : group.submissions.map(row)}
              </React.Fragment>
            );
          })}
        </div>
      )}
    </div>
  );
}

export interface ISubmissionListProps {
  readonly active: readonly ISubmission[];
  /** How many are active, filtered or not. */
  readonly activeTotal: number;
  readonly finished: readonly ISubmission[];
  readonly actions: ISubmissionActions;
  readonly trans: TranslationBundle;
  /** The rows are old: nobody answers. */
  readonly stale: boolean;
}

function SectionHeading(props: { readonly label: string }): React.JSX.Element {
  return (
    <div role="row" className="jp-AiBatch-sectionHeading">
      <div role="columnheader" aria-colspan={2}>
        {props.label}
      </div>
    </div>
  );
}

function GroupHeading(props: {
  readonly group: INotebookGroup;
  readonly folded: boolean;
  readonly current: boolean;
  readonly onCurrent: (key: string) => void;
  readonly onToggle: () => void;
}): React.JSX.Element {
  const { group, folded } = props;
  const caret = folded ? caretRightIcon : caretDownIcon;
  const folder = PathExt.dirname(group.notebookPath);
  return (
    <div role="row" className="jp-AiBatch-group">
      <div role="gridcell" aria-colspan={2}>
        <button
          type="button"
          className="jp-AiBatch-groupButton"
          aria-expanded={!folded}
          data-roving={group.notebookPath}
          tabIndex={props.current ? 0 : -1}
          title={group.notebookPath}
          onFocus={() => {
            props.onCurrent(group.notebookPath);
          }}
          onClick={props.onToggle}
        >
          <caret.react tag="span" aria-hidden="true" />
          <span className="jp-AiBatch-groupName">
            {PathExt.basename(group.notebookPath)}
          </span>
          <span className="jp-AiBatch-groupCount">
            ({group.submissions.length})
          </span>
          {folder !== '' && (
            <span className="jp-AiBatch-groupFolder">{folder}</span>
          )}
        </button>
      </div>
    </div>
  );
}
