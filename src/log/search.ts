import type { ILogBlock } from './text';

/** More hits than these are counted as "many". */
export const MAX_HITS = 1000;

/**
 * A place in a log: block and character.
 */
export interface ILogHit {
  readonly block: number;
  readonly at: number;
}

/**
 * Every place where `query` occurs, whatever its case, up to `MAX_HITS`.
 */
export function findHits(
  blocks: readonly ILogBlock[],
  query: string
): readonly ILogHit[] {
  const hits: ILogHit[] = [];
  const needle = query.toLowerCase();
  if (needle === '') {
    return hits;
  }
  for (const block of blocks) {
    const text = block.text.toLowerCase();
    let at = text.indexOf(needle);
    while (at !== -1) {
      hits.push({ block: block.key, at });
      if (hits.length >= MAX_HITS) {
        return hits;
      }
      at = text.indexOf(needle, at + needle.length);
    }
  }
  return hits;
}
