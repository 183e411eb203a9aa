import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import React from 'react';
import { LogFollower } from '../../log/follower';
import type { ISubmissionManager } from '../../tokens';
import { LogView } from './logView';

/**
 * The log of one Submission, for the main area. It is connected only while it can be seen.
 */
export class LogWidget extends ReactWidget {
  constructor(options: LogWidget.IOptions) {
    super();
    this.submissionId = options.submissionId;
    this._manager = options.manager;
    this._trans = options.trans;
    this._wrap = options.wrap;
    this._follower = new LogFollower({
      client: options.manager.client,
      id: options.submissionId
    });
    this.addClass('jp-AiBatch-logWidget');
    this._manager.submissionsChanged.connect(this._onChanged, this);
  }

  readonly submissionId: string;

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._manager.submissionsChanged.disconnect(this._onChanged, this);
    this._follower.dispose();
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._follower.resume();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._follower.pause();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this._follower.resume();
    }
  }

  protected override render(): React.JSX.Element {
    return (
      <UseSignal signal={this._follower.changed}>
        {() => (
          <LogView
            follower={this._follower}
            attempts={this._manager.find(this.submissionId)?.attempts ?? []}
            wrap={this._wrap}
            trans={this._trans}
            onAttempt={attempt => {
              this._chosen = true;
              this._follower.choose(attempt);
            }}
          />
        )}
      </UseSignal>
    );
  }

  /**
   * A new Attempt is shown at once, unless the user chose one.
   */
  private _onChanged(): void {
    const latest = this._manager
      .find(this.submissionId)
      ?.attempts.at(-1)?.number;
    const shown = this._follower.attempt;
    if (
      !this._chosen &&
      latest !== undefined &&
      shown !== null &&
      latest > shown &&
      this.isVisible
    ) {
      this._follower.choose(latest);
    }
    this.update();
  }

  private _chosen = false;
  private readonly _follower: LogFollower;
  private readonly _manager: ISubmissionManager;
  private readonly _trans: TranslationBundle;
  private readonly _wrap: boolean;
}

export namespace LogWidget {
  export interface IOptions {
    submissionId: string;
    manager: ISubmissionManager;
    trans: TranslationBundle;
    wrap: boolean;
  }
}
