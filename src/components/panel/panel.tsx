import {
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import React from 'react';
import { batchIcon } from '../../icons';
import { PANEL_ID } from '../../ids';
import { TRANSLATION_DOMAIN } from '../../tokens';
import { type IPanelViewProps, PanelView } from './view';

/**
 * The sidebar panel.
 */
export class SubmissionsPanel extends ReactWidget {
  constructor(options: SubmissionsPanel.IOptions) {
    super();
    this._trans = options.trans ?? nullTranslator.load(TRANSLATION_DOMAIN);
    this._props = { ...options, trans: this._trans };
    this.id = PANEL_ID;
    this.addClass('jp-AiBatch-panel');
    this.title.icon = batchIcon;
    this.title.caption = this._trans.__('Batch');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this._trans.__('Batch jobs'));
  }

  protected override render(): React.JSX.Element {
    return (
      <UseSignal signal={this._props.manager.submissionsChanged}>
        {() => <PanelView {...this._props} />}
      </UseSignal>
    );
  }

  private readonly _props: IPanelViewProps;
  private readonly _trans: TranslationBundle;
}

export namespace SubmissionsPanel {
  export type IOptions = Omit<IPanelViewProps, 'trans'> & {
    trans?: TranslationBundle;
  };
}
