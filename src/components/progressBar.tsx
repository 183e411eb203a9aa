import React from 'react';

/**
 * A bar with its meaning as accessible name.
 */
export function ProgressBar(props: {
  readonly label: string;
  /** 0 to 1. */
  readonly fraction: number;
}): React.JSX.Element {
  const percent = Math.round(props.fraction * 100);
  return (
    <div
      className="jp-AiBatch-bar"
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
    >
      <div className="jp-AiBatch-barFill" style={{ width: `${percent}%` }} />
    </div>
  );
}
