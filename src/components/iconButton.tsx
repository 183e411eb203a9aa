import type { LabIcon } from '@jupyterlab/ui-components';
import React from 'react';

/**
 * A small button with an icon; its label is the tooltip and the accessible name.
 */
export function IconButton(props: IIconButtonProps): React.JSX.Element {
  return (
    <button
      type="button"
      className="jp-AiBatch-iconButton"
      title={props.label}
      aria-label={props.label}
      disabled={props.disabled}
      tabIndex={props.tabIndex}
      onClick={event => {
        event.stopPropagation();
        props.onClick();
      }}
    >
      <props.icon.react tag="span" aria-hidden="true" />
    </button>
  );
}

export interface IIconButtonProps {
  readonly icon: LabIcon;
  readonly label: string;
  readonly onClick: () => void;
  readonly disabled?: boolean;
  readonly tabIndex?: number;
}
