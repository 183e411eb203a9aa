import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatQueue } from '../../format';
import type { IQueueReading } from '../../models';
import { PoolLine, ShareLine } from './poolLine';

/** More slots than these are drawn as one bar. */
const DRAWN_SLOTS = 8;

/**
 * How busy a queue is: one box for each slot, and the same in words.
 */
export function QueueLine(props: {
  readonly queue: IQueueReading;
  /** Only where there are several queues. */
  readonly named: boolean;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { queue, trans } = props;
  return (
    <div className="jp-AiBatch-queue">
      {props.named && (
        <span className="jp-AiBatch-queueName" title={queue.name}>
          {queue.name}
        </span>
      )}
      {queue.slots !== null && queue.slots <= DRAWN_SLOTS && (
        <span className="jp-AiBatch-slots" aria-hidden="true">
          {Array.from({ length: queue.slots }, (_, slot) => (
            <span
              key={slot}
              className={
                slot < queue.busy
                  ? 'jp-AiBatch-slot jp-mod-busy'
                  : 'jp-AiBatch-slot'
              }
            />
          ))}
        </span>
      )}
      <span className="jp-AiBatch-queueText">{formatQueue(queue, trans)}</span>
      {queue.pool !== null && <PoolLine pool={queue.pool} trans={trans} />}
      {queue.share !== null && <ShareLine share={queue.share} trans={trans} />}
    </div>
  );
}
