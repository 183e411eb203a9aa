import type { TranslationBundle } from '@jupyterlab/translation';
import { notebookIcon, stopIcon } from '@jupyterlab/ui-components';
import React from 'react';
import { collectIcon, detailsIcon, logIcon, resubmitIcon } from '../../icons';
import { isFinished, type ISubmission } from '../../models';
import {
  canCancel,
  canCollect,
  hasLog,
  hasResult,
  type ISubmissionActions
} from '../actions';
import { IconButton } from '../iconButton';

/**
 * The buttons that a row reveals on hover and focus.
 */
export function RowActions(props: {
  readonly submission: ISubmission;
  readonly actions: ISubmissionActions;
  readonly trans: TranslationBundle;
  /** Only the current row's buttons are in the tab order. */
  readonly reachable: boolean;
}): React.JSX.Element {
  const { submission, actions, trans } = props;
  const tabIndex = props.reachable ? 0 : -1;
  return (
    <div className="jp-AiBatch-rowActions">
      {hasResult(submission) && (
        <IconButton
          icon={notebookIcon}
          label={trans.__('Open result of %1', submission.title)}
          tabIndex={tabIndex}
          onClick={() => {
            actions.openResults(submission);
          }}
        />
      )}
      {canCollect(submission) && (
        <IconButton
          icon={collectIcon}
          label={trans.__('Collect outputs of %1', submission.title)}
          tabIndex={tabIndex}
          onClick={() => {
            actions.collect(submission);
          }}
        />
      )}
      {hasLog(submission) && (
        <IconButton
          icon={logIcon}
          label={trans.__('Show log of %1', submission.title)}
          tabIndex={tabIndex}
          onClick={() => {
            actions.showLog(submission);
          }}
        />
      )}
      <IconButton
        icon={detailsIcon}
        label={trans.__('Show details of %1', submission.title)}
        tabIndex={tabIndex}
        onClick={() => {
          actions.showDetails(submission);
        }}
      />
      {isFinished(submission.state) && (
        <IconButton
          icon={resubmitIcon}
          label={trans.__('Submit %1 again', submission.title)}
          tabIndex={tabIndex}
          onClick={() => {
            actions.resubmit(submission);
          }}
        />
      )}
      {canCancel(submission) && (
        <IconButton
          icon={stopIcon}
          label={trans.__('Cancel %1', submission.title)}
          tabIndex={tabIndex}
          onClick={() => {
            actions.cancel(submission, false);
          }}
        />
      )}
    </div>
  );
}
