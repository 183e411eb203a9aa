import React from 'react';
import type { IProblem } from './problem';

/**
 * A refusal and what to do about it, announced when it appears.
 */
export function ProblemBox(props: ProblemBox.IProps): React.JSX.Element {
  const { problem } = props;
  return (
    <div className="jp-AiBatchSubmit-problem" role="alert">
      <div>
        <span aria-hidden="true">✕ </span>
        {problem.message}
      </div>
      {problem.hint && <div>{problem.hint}</div>}
      {props.children}
      <div className="jp-AiBatchSubmit-code">{problem.code}</div>
    </div>
  );
}

export namespace ProblemBox {
  export interface IProps {
    readonly problem: IProblem;
    /** Ways to go on. */
    readonly children?: React.ReactNode;
  }
}
