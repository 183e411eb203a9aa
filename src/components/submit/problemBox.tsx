import type { TranslationBundle } from '@jupyterlab/translation';
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

/**
 * The same where it may have been shown before: then one word is enough.
 */
export function ProblemOnce(props: ProblemOnce.IProps): React.JSX.Element {
  return props.distinct.has(props.problem) ? (
    <ProblemBox problem={props.problem} />
  ) : (
    <span className="jp-AiBatchSubmit-note">
      {props.trans.__('Not known, for the same reason.')}
    </span>
  );
}

export namespace ProblemOnce {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly problem: IProblem;
    readonly distinct: ReadonlySet<IProblem>;
  }
}

export namespace ProblemBox {
  export interface IProps {
    readonly problem: IProblem;
    /** Ways to go on. */
    readonly children?: React.ReactNode;
  }
}
