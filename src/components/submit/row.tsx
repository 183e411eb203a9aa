import React from 'react';

/**
 * What a control needs to be tied to its label, its description and its error.
 */
export interface IControlProps {
  readonly id: string;
  readonly 'aria-describedby': string | undefined;
  readonly 'aria-invalid': true | undefined;
}

/**
 * One line of the form: label, control, and below it a description and what is wrong.
 */
export function Row(props: Row.IProps): React.JSX.Element {
  const { id, label, note, error } = props;
  const noteId = `${id}-note`;
  const errorId = `${id}-error`;
  const describedBy = [note ? noteId : '', error ? errorId : '']
    .filter(part => part !== '')
    .join(' ');
  const control: IControlProps = {
    id,
    'aria-describedby': describedBy === '' ? undefined : describedBy,
    'aria-invalid': error ? true : undefined
  };
  return (
    <div className="jp-AiBatchSubmit-row">
      <label className="jp-AiBatchSubmit-label" htmlFor={id}>
        {label}
      </label>
      <div className="jp-AiBatchSubmit-control">
        {props.children(control)}
        {note && (
          <div className="jp-AiBatchSubmit-note" id={noteId}>
            {note}
          </div>
        )}
        {error && <FieldError id={errorId} message={error} />}
      </div>
    </div>
  );
}

export namespace Row {
  export interface IProps {
    readonly id: string;
    readonly label: string;
    readonly note?: React.ReactNode;
    readonly error?: string | null;
    readonly children: (control: IControlProps) => React.ReactNode;
  }
}

/**
 * A line whose content is text: nothing to choose.
 */
export function Fact(props: {
  readonly label: string;
  readonly children: React.ReactNode;
}): React.JSX.Element {
  return (
    <div className="jp-AiBatchSubmit-row">
      <div className="jp-AiBatchSubmit-label">{props.label}</div>
      <div className="jp-AiBatchSubmit-control">{props.children}</div>
    </div>
  );
}

/**
 * What is wrong with one field, announced when it appears.
 */
export function FieldError(props: {
  readonly id: string;
  readonly message: string;
}): React.JSX.Element {
  return (
    <div className="jp-AiBatchSubmit-error" id={props.id} role="alert">
      <span aria-hidden="true">✕ </span>
      {props.message}
    </div>
  );
}
