import type { TranslationBundle } from '@jupyterlab/translation';
import type { ISignal } from '@lumino/signaling';
import React from 'react';
import { formatState } from '../../format';
import type { ISubmissionManager, ITransition } from '../../tokens';

const THROTTLE_MS = 2_000;
const MAX_SPOKEN = 3;

/**
 * Speaks changes of state to screen readers, politely and not more than every two seconds.
 */
export function Announcer(props: {
  readonly transition: ISignal<ISubmissionManager, ITransition>;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { transition, trans } = props;
  const [spoken, setSpoken] = React.useState('');
  React.useEffect(() => {
    const pending = new Map<string, string>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const speak = () => {
      timer = undefined;
      setSpoken([...pending.values()].slice(-MAX_SPOKEN).join(' '));
      pending.clear();
    };
    const onTransition = (_: ISubmissionManager, { after }: ITransition) => {
      const word = formatState(after.state, trans);
      pending.set(after.id, trans.__('%1: %2.', after.title, word));
      timer ??= setTimeout(speak, THROTTLE_MS);
    };
    transition.connect(onTransition);
    return () => {
      clearTimeout(timer);
      transition.disconnect(onTransition);
    };
  }, [transition, trans]);
  return (
    <div className="jp-AiBatch-spoken" role="status" aria-live="polite">
      {spoken}
    </div>
  );
}
