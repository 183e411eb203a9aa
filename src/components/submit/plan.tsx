import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatBytes } from '../../format';
import type { ISnapshotPlan } from '../../models';
import { findTooLarge, type Loadable } from './form';
import type { IProblem } from './problem';
import { ProblemBox } from './problemBox';
import { Fact } from './row';

/** How many paths of one list are shown. */
const SHOWN_PATHS = 100;

/**
 * What would be captured, before anything is written.
 */
export function PlanView(props: PlanView.IProps): React.JSX.Element {
  const { trans, plan } = props;
  const problem =
    plan.status === 'failed' ? plan.problem : findTooLarge(plan, trans);
  return (
    <Fact label={trans.__('Will be captured')}>
      <div role="status">
        {plan.status === 'loading' &&
          trans.__('Counting the files. You can submit without waiting.')}
        {plan.status === 'ready' && problem === null && (
          <PlanSummary trans={trans} plan={plan.value} />
        )}
      </div>
      {problem !== null && <PlanProblem {...props} problem={problem} />}
      {plan.status === 'ready' && (
        <PlanDetails trans={trans} plan={plan.value} />
      )}
    </Fact>
  );
}

export namespace PlanView {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly plan: Loadable<ISnapshotPlan>;
    /** Whether the notebook's folder alone would be less. */
    readonly canNarrow: boolean;
    readonly onCaptureFolder: () => void;
    readonly onRetry: () => void;
  }
}

/**
 * A plan that failed, with the ways to go on.
 */
export function PlanProblem(
  props: Omit<PlanView.IProps, 'plan'> & { readonly problem: IProblem }
): React.JSX.Element {
  const { trans, problem } = props;
  const isTooLarge = problem.code === 'snapshot_too_large';
  return (
    <ProblemBox problem={problem}>
      {isTooLarge && (
        <div>
          {trans.__(
            'Name what the notebook does not need in a file .batchignore (same syntax as .gitignore), then check again.'
          )}
        </div>
      )}
      <div className="jp-AiBatchSubmit-ways">
        {isTooLarge && props.canNarrow && (
          <button
            type="button"
            className="jp-mod-styled jp-mod-reject"
            onClick={props.onCaptureFolder}
          >
            {trans.__('Capture the notebook’s folder only')}
          </button>
        )}
        <button
          type="button"
          className="jp-mod-styled jp-mod-reject"
          onClick={props.onRetry}
        >
          {trans.__('Check again')}
        </button>
      </div>
    </ProblemBox>
  );
}

interface IPlanProps {
  readonly trans: TranslationBundle;
  readonly plan: ISnapshotPlan;
}

function PlanSummary({ trans, plan }: IPlanProps): React.JSX.Element {
  const total = plan.work_bytes + plan.environment_bytes;
  const files = plan.work_files + plan.environment_files;
  return (
    <>
      <div>
        {trans.__(
          '%1 in %2 files, %3 new',
          formatBytes(total, trans),
          formatCount(files),
          formatBytes(plan.new_bytes, trans)
        )}
        {' · '}
        {plan.environment_unchanged
          ? trans.__('environment unchanged since last time')
          : trans.__('environment new or changed')}
      </div>
      <SecretLines trans={trans} plan={plan} />
      {plan.warnings.map(warning => (
        <Warning key={warning}>{warning}</Warning>
      ))}
    </>
  );
}

function SecretLines({ trans, plan }: IPlanProps): React.JSX.Element {
  const left = plan.secrets_excluded;
  const found = new Set(plan.findings.map(finding => finding.path)).size;
  return (
    <>
      {left.length > 0 && (
        <Warning>
          {trans._n(
            '%1 file looks like a secret and is left out: %2',
            '%1 files look like secrets and are left out: %2',
            left.length,
            abridge(left, trans)
          )}
        </Warning>
      )}
      {found > 0 && (
        <Warning>
          {trans._n(
            '%1 captured file contains what looks like a secret; the job can read it. See Details.',
            '%1 captured files contain what looks like secrets; the job can read them. See Details.',
            found
          )}
        </Warning>
      )}
    </>
  );
}

function PlanDetails({ trans, plan }: IPlanProps): React.JSX.Element {
  return (
    <details className="jp-AiBatchSubmit-details">
      <summary>{trans.__('Details')}</summary>
      <p>
        {trans.__(
          'Files: %1 in %2 files from %3 (limit %4).',
          formatBytes(plan.work_bytes, trans),
          formatCount(plan.work_files),
          plan.work_root,
          formatBytes(plan.limit_bytes, trans)
        )}
      </p>
      <p>
        {trans.__(
          'Environment: %1 in %2 files.',
          formatBytes(plan.environment_bytes, trans),
          formatCount(plan.environment_files)
        )}
      </p>
      <PathList
        trans={trans}
        title={trans.__('Looks like a secret')}
        items={plan.findings.map(finding =>
          trans.__('%1, line %2: %3', finding.path, finding.line, finding.kind)
        )}
      />
      <PathList
        trans={trans}
        title={trans.__('Secrets left out')}
        items={plan.secrets_excluded}
      />
      <PathList
        trans={trans}
        title={trans.__('Left out')}
        items={plan.excluded.map(entry =>
          entry.bytes === null
            ? trans.__('%1 (%2)', entry.path, entry.rule)
            : trans.__(
                '%1, %2 (%3)',
                entry.path,
                formatBytes(entry.bytes, trans),
                entry.rule
              )
        )}
      />
      <PathList
        trans={trans}
        title={trans.__('Largest folders')}
        items={plan.heaviest.map(([path, bytes]) =>
          trans.__('%1, %2', path, formatBytes(bytes, trans))
        )}
      />
    </details>
  );
}

function PathList(props: {
  readonly trans: TranslationBundle;
  readonly title: string;
  readonly items: readonly string[];
}): React.JSX.Element | null {
  const { trans, title, items } = props;
  if (items.length === 0) {
    return null;
  }
  return (
    <>
      <div className="jp-AiBatchSubmit-listTitle">{title}</div>
      <ul className="jp-AiBatchSubmit-list">
        {items.slice(0, SHOWN_PATHS).map((item, index) => (
          <li key={index}>{item}</li>
        ))}
        {items.length > SHOWN_PATHS && (
          <li>
            {trans.__('and %1 more', formatCount(items.length - SHOWN_PATHS))}
          </li>
        )}
      </ul>
    </>
  );
}

function Warning(props: {
  readonly children: React.ReactNode;
}): React.JSX.Element {
  return (
    <div className="jp-AiBatchSubmit-warning">
      <span aria-hidden="true">⚠ </span>
      {props.children}
    </div>
  );
}

function abridge(paths: readonly string[], trans: TranslationBundle): string {
  const shown = paths.slice(0, 3).join(', ');
  return paths.length > 3
    ? trans.__('%1 and %2 more', shown, paths.length - 3)
    : shown;
}

function formatCount(count: number): string {
  return count.toLocaleString();
}
