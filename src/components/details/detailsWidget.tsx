import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import React from 'react';
import { SubmissionDetails } from '../../details';
import type { ISubmission } from '../../models';
import type { ISubmissionManager } from '../../tokens';
import type { ISubmissionActions } from '../actions';
import { DetailsView } from './view';

/**
 * The page of one Submission, for the main area.
 */
export class DetailsWidget extends ReactWidget {
  constructor(private readonly _options: DetailsWidget.IOptions) {
    super();
    this.submissionId = _options.submissionId;
    this._details = new SubmissionDetails(
      _options.manager,
      _options.submissionId
    );
    this.addClass('jp-AiBatch-details');
  }

  readonly submissionId: string;

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._details.dispose();
    super.dispose();
  }

  protected override render(): React.JSX.Element {
    const { actions, onDownload, trans } = this._options;
    return (
      <UseSignal signal={this._details.changed}>
        {() => (
          <DetailsView
            details={this._details}
            actions={actions}
            onDownload={onDownload}
            trans={trans}
          />
        )}
      </UseSignal>
    );
  }

  private readonly _details: SubmissionDetails;
}

export namespace DetailsWidget {
  export interface IOptions {
    submissionId: string;
    manager: ISubmissionManager;
    actions: ISubmissionActions;
    onDownload: (submission: ISubmission, path: string) => void;
    trans: TranslationBundle;
  }
}
