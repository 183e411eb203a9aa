import { JSONExt, type ReadonlyJSONValue } from '@lumino/coreutils';
import type { ISubmission } from './models';

/**
 * Both lists as one, newest first; where both have an id, `fresh` wins.
 */
export function mergeNewestFirst(
  fresh: readonly ISubmission[],
  old: readonly ISubmission[]
): readonly ISubmission[] {
  const ids = new Set(fresh.map(item => item.id));
  return [...fresh, ...old.filter(item => !ids.has(item.id))].sort((a, b) =>
    a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0
  );
}

/**
 * Whether two readings say the same; when they were taken does not count.
 */
export function sameValue(a: unknown, b: unknown): boolean {
  return JSONExt.deepEqual(withoutReadingTime(a), withoutReadingTime(b));
}

function withoutReadingTime(value: unknown): ReadonlyJSONValue {
  return JSON.parse(
    JSON.stringify(value, (key, item: unknown) =>
      key === 'observed_at' ? undefined : item
    )
  ) as ReadonlyJSONValue;
}
/**
 * Whether both lists hold the very same records.
 */
export function sameItems(
  a: readonly ISubmission[],
  b: readonly ISubmission[]
): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
