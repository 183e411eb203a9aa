import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import type { SubmissionDetails } from '../../details';
import { formatBackend, formatBytes, formatState } from '../../format';
import { stateIcon } from '../../icons';
import { isFinished, type ISubmission } from '../../models';
import {
  canCancel,
  canCollect,
  canExport,
  hasLog,
  hasResult,
  type ISubmissionActions
} from '../actions';
import { Timeline } from './attempts';
import { Outputs } from './outputs';

/**
 * One Submission on a page.
 */
export function DetailsView(props: IDetailsViewProps): React.JSX.Element {
  const { details, trans } = props;
  const { submission, outputs } = details;
  if (submission === null) {
    return (
      <p className="jp-AiBatch-note" role="status">
        {details.error?.message ?? trans.__('Loading the batch job…')}
      </p>
    );
  }
  return (
    <div className="jp-AiBatch-page">
      <PageHead {...props} submission={submission} />
      <h2>{trans.__('Timeline')}</h2>
      <Timeline submission={submission} trans={trans} />
      {outputs !== null && (
        <>
          <h2>{trans.__('Outputs')}</h2>
          <Outputs
            outputs={outputs}
            trans={trans}
            onDownload={path => {
              props.onDownload(submission, path);
            }}
          />
        </>
      )}
      <h2>{trans.__('Captured')}</h2>
      <Captured submission={submission} trans={trans} />
      <h2>{trans.__('Request')}</h2>
      <Request submission={submission} trans={trans} />
    </div>
  );
}

export interface IDetailsViewProps {
  readonly details: SubmissionDetails;
  readonly actions: ISubmissionActions;
  readonly onDownload: (submission: ISubmission, path: string) => void;
  readonly trans: TranslationBundle;
}

function PageHead(
  props: IDetailsViewProps & { readonly submission: ISubmission }
): React.JSX.Element {
  const { submission, trans } = props;
  const { explanation, state } = submission;
  const icon = stateIcon(state);
  return (
    <div>
      <h1 className="jp-AiBatch-pageTitle">{submission.title}</h1>
      <p>
        <span className="jp-AiBatch-state" data-state={state}>
          <icon.react tag="span" className="jp-AiBatch-stateIcon" aria-hidden />
          {formatState(state, trans)}
        </span>
      </p>
      {explanation !== null && (
        <p>
          {explanation.summary} {explanation.resolution}
          {explanation.raw_reason !== null && (
            <span className="jp-AiBatch-raw">
              {' '}
              {trans.__('(%1)', explanation.raw_reason)}
            </span>
          )}
        </p>
      )}
      <PageActions {...props} />
    </div>
  );
}

function PageActions(
  props: IDetailsViewProps & { readonly submission: ISubmission }
): React.JSX.Element {
  const { actions, submission, trans } = props;
  const offers: readonly [boolean, string, () => void][] = [
    [
      hasResult(submission),
      trans.__('Open result'),
      () => {
        actions.openResults(submission);
      }
    ],
    [
      hasLog(submission),
      trans.__('Show log'),
      () => {
        actions.showLog(submission);
      }
    ],
    [
      canCollect(submission),
      trans.__('Collect outputs'),
      () => {
        actions.collect(submission);
      }
    ],
    [
      canExport(submission),
      trans.__('Export YAML'),
      () => {
        actions.exportManifest(submission);
      }
    ],
    [
      isFinished(submission.state),
      trans.__('Submit again'),
      () => {
        actions.resubmit(submission);
      }
    ],
    [
      canCancel(submission),
      trans.__('Cancel'),
      () => {
        actions.cancel(submission, false);
      }
    ]
  ];
  return (
    <div className="jp-AiBatch-pageActions">
      {offers
        .filter(([offered]) => offered)
        .map(([, label, onClick]) => (
          <button
            key={label}
            type="button"
            className="jp-AiBatch-secondary"
            onClick={onClick}
          >
            {label}
          </button>
        ))}
    </div>
  );
}

function Captured(props: {
  readonly submission: ISubmission;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { trans } = props;
  const { snapshot } = props.submission;
  if (snapshot === null) {
    return <p>{trans.__('Nothing has been captured yet.')}</p>;
  }
  return (
    <>
      <p>
        {trans._n(
          '%1 file, %2; %3 were new.',
          '%1 files, %2; %3 were new.',
          snapshot.files,
          formatBytes(snapshot.bytes, trans),
          formatBytes(snapshot.new_bytes, trans)
        )}{' '}
        {snapshot.work_root !== '' &&
          trans.__('Your files are taken from %1.', snapshot.work_root)}
      </p>
      {snapshot.warnings.length > 0 && (
        <ul>
          {snapshot.warnings.map(warning => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <p className="jp-AiBatch-raw">{snapshot.digest}</p>
    </>
  );
}

function Request(props: {
  readonly submission: ISubmission;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { submission, trans } = props;
  const facts: readonly [string, string][] = [
    [trans.__('Notebook'), submission.notebook_path],
    [trans.__('Runs on'), formatBackend(submission.backend, trans)],
    [trans.__('Profile'), submission.profile],
    [trans.__('Queue'), submission.queue],
    [
      trans.__('If evicted'),
      submission.resume
        ? trans.__('it continues from its saved files')
        : trans.__('it starts again')
    ],
    ...Object.entries(submission.parameters).map(
      ([name, value]): [string, string] => [
        trans.__('Parameter %1', name),
        JSON.stringify(value)
      ]
    ),
    [trans.__('Id'), submission.id]
  ];
  return (
    <dl className="jp-AiBatch-facts">
      {facts.map(([name, value]) => (
        <React.Fragment key={name}>
          <dt>{name}</dt>
          <dd className="jp-AiBatch-path">{value}</dd>
        </React.Fragment>
      ))}
    </dl>
  );
}
