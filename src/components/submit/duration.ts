/**
 * Time limits: the offered choices, and what people type for their own.
 */

const UNITS: Readonly<Record<string, number>> = {
  d: 86400,
  h: 3600,
  m: 60,
  s: 1
};

const WORDS: readonly [RegExp, string][] = [
  [/^d(ays?)?$/, 'd'],
  [/^h((ou)?rs?)?$/, 'h'],
  [/^m(in(ute)?s?)?$/, 'm'],
  [/^s(ec(ond)?s?)?$/, 's']
];

/**
 * The longest limit that can be asked for: a year.
 */
const MAX_DURATION_S = 365 * 86400;

/**
 * Offered time limits, in seconds.
 */
export const OFFERED_LIMITS_S: readonly number[] = [
  15 * 60,
  3600,
  4 * 3600,
  12 * 3600,
  24 * 3600,
  3 * 86400,
  7 * 86400
];

/**
 * Read "90 min", "2h", "1d 12h", "1:30" (hours and minutes); a bare number counts minutes.
 *
 * @returns seconds, at least 1; null when the text is no such duration
 */
export function parseDuration(text: string): number | null {
  const compact = text.trim().toLowerCase();
  const clock = /^(\d{1,4}):([0-5]\d)$/.exec(compact);
  if (clock) {
    return accept(Number(clock[1]) * 3600 + Number(clock[2]) * 60);
  }
  if (/^\d+([.,]\d+)?$/.test(compact)) {
    return accept(Number(compact.replace(',', '.')) * 60);
  }
  if (!/^(\d+([.,]\d+)?\s*[a-z]+[\s,]*)+$/.test(compact)) {
    return null;
  }
  let seconds = 0;
  for (const [, amount, word] of compact.matchAll(
    /(\d+(?:[.,]\d+)?)\s*([a-z]+)/g
  )) {
    const unit = WORDS.find(([pattern]) => pattern.test(word))?.[1];
    if (unit === undefined) {
      return null;
    }
    seconds += Number(amount.replace(',', '.')) * UNITS[unit];
  }
  return accept(seconds);
}

/**
 * Write a limit the way that `parseDuration` reads it: "1 d 12 h", "4 h", "90 s".
 */
export function formatLimit(seconds: number): string {
  const parts: string[] = [];
  let rest = seconds;
  for (const [unit, size] of [
    ['d', 86400],
    ['h', 3600],
    ['min', 60],
    ['s', 1]
  ] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) {
      parts.push(`${count} ${unit}`);
      rest -= count * size;
    }
  }
  return parts.join(' ');
}

function accept(seconds: number): number | null {
  const whole = Math.round(seconds);
  return whole >= 1 && whole <= MAX_DURATION_S ? whole : null;
}
