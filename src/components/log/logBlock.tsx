import React from 'react';
import type { ILogBlock } from '../../log/text';

/**
 * A block of lines with its hits marked. `hits` are start characters, ascending.
 */
export const LogBlock = React.memo(
  function LogBlock(props: ILogBlockProps): React.JSX.Element {
    const { block, hits, length, current } = props;
    const parts: React.ReactNode[] = [];
    let done = 0;
    for (const at of hits) {
      parts.push(block.text.slice(done, at));
      parts.push(
        <mark
          key={at}
          className={at === current ? 'jp-mod-current' : undefined}
          ref={at === current ? scrollIntoView : undefined}
        >
          {block.text.slice(at, at + length)}
        </mark>
      );
      done = at + length;
    }
    parts.push(block.text.slice(done));
    return <div className="jp-AiBatch-logBlock">{parts}</div>;
  },
  (before, after) =>
    before.block.text === after.block.text &&
    before.length === after.length &&
    before.current === after.current &&
    before.hits.length === after.hits.length &&
    before.hits.every((at, index) => at === after.hits[index])
);

export interface ILogBlockProps {
  readonly block: ILogBlock;
  readonly hits: readonly number[];
  /** Characters of one hit. */
  readonly length: number;
  /** The hit that the user stands at, if it is in this block. */
  readonly current: number | null;
}

function scrollIntoView(mark: HTMLElement | null): void {
  mark?.scrollIntoView({ block: 'center' });
}
