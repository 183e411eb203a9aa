import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatPool, formatSessionsWaiting, poolParts } from '../../format';
import type { IFairShare, IPoolReading } from '../../models';

/**
 * Who holds the shared pool: a bar, and the same in words.
 */
export function PoolLine(props: {
  readonly pool: IPoolReading;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { pool, trans } = props;
  const whole = formatPool(pool, trans);
  const parts = poolParts(pool, trans);
  return (
    <div
      className="jp-AiBatch-pool"
      role="img"
      aria-label={whole}
      title={whole}
    >
      <div className="jp-AiBatch-poolBar">
        {parts
          .filter(part => part.count > 0)
          .map(part => (
            <span
              key={part.kind}
              className={`jp-AiBatch-poolPart jp-mod-${part.kind}`}
              style={{ flexGrow: part.count }}
            />
          ))}
      </div>
      <div className="jp-AiBatch-poolKey">
        {parts.map(part => (
          <span key={part.kind} className="jp-AiBatch-poolLabel">
            <span
              className={`jp-AiBatch-poolPart jp-AiBatch-poolMark jp-mod-${part.kind}`}
            />
            {part.label}
          </span>
        ))}
        {pool.interactive_waiting > 0 && (
          <span>{formatSessionsWaiting(pool, trans)}</span>
        )}
      </div>
    </div>
  );
}

/**
 * What the user's recent use does to the order.
 */
export function ShareLine(props: {
  readonly share: IFairShare;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { share, trans } = props;
  return (
    <details className="jp-AiBatch-share">
      <summary>
        {trans.__('Your recent share: %1 slots', share.used.toFixed(1))}
      </summary>
      {share.summary}
    </details>
  );
}
