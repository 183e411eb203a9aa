/**
 * Small decoders: `unknown` in, a typed value out, or a `WireError` that names the field.
 *
 * Unknown fields are ignored, as the contract asks of every reader.
 */

/**
 * A value from the server that does not have the shape of the contract.
 */
export class WireError extends Error {
  /**
   * @param where - The field, such as `submissions[2].state`.
   * @param expected - What should have been there.
   */
  constructor(
    readonly where: string,
    readonly expected: string
  ) {
    super(`${where}: expected ${expected}`);
    this.name = 'WireError';
  }
}

/**
 * Turn an untrusted value into a `T`, or throw a `WireError` naming `where`.
 */
export type Decoder<T> = (value: unknown, where: string) => T;

/**
 * A decoder for every member of `T`: leaving one out is a compile error.
 */
export type Shape<T> = { readonly [K in keyof T]-?: Decoder<T[K]> };

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const text: Decoder<string> = (value, where) => {
  if (typeof value !== 'string') {
    throw new WireError(where, 'a string');
  }
  return value;
};

export const number: Decoder<number> = (value, where) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new WireError(where, 'a number');
  }
  return value;
};

export const flag: Decoder<boolean> = (value, where) => {
  if (typeof value !== 'boolean') {
    throw new WireError(where, 'true or false');
  }
  return value;
};

/**
 * An RFC 3339 time, kept as text: values stay comparable and serialisable.
 */
export const time: Decoder<string> = (value, where) => {
  if (typeof value !== 'string' || Number.isNaN(Date.parse(value))) {
    throw new WireError(where, 'a time');
  }
  return value;
};

/**
 * Any JSON value; parameters are the user's own.
 */
export const anything: Decoder<unknown> = value => value;

/**
 * One of a few words.
 */
export function oneOf<T extends string>(words: readonly T[]): Decoder<T> {
  return (value, where) => {
    const word = words.find(candidate => candidate === value);
    if (word === undefined) {
      throw new WireError(where, `one of ${words.join(', ')}`);
    }
    return word;
  };
}

/**
 * `null`, or what the inner decoder accepts; a missing field is `null`.
 */
export function nullable<T>(inner: Decoder<T>): Decoder<T | null> {
  return (value, where) =>
    value === null || value === undefined ? null : inner(value, where);
}

/**
 * A field that older servers may leave out.
 */
export function withDefault<T>(inner: Decoder<T>, fallback: T): Decoder<T> {
  return (value, where) =>
    value === undefined ? fallback : inner(value, where);
}

export function array<T>(inner: Decoder<T>): Decoder<readonly T[]> {
  return (value, where) => {
    if (!Array.isArray(value)) {
      throw new WireError(where, 'an array');
    }
    return value.map((item: unknown, index) =>
      inner(item, `${where}[${index}]`)
    );
  };
}

export function pair<A, B>(
  first: Decoder<A>,
  second: Decoder<B>
): Decoder<readonly [A, B]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length !== 2) {
      throw new WireError(where, 'a pair');
    }
    const [a, b] = value as unknown[];
    return [first(a, `${where}[0]`), second(b, `${where}[1]`)];
  };
}

export function mapping<T>(
  inner: Decoder<T>
): Decoder<Readonly<Record<string, T>>> {
  return (value, where) => {
    if (!isRecord(value)) {
      throw new WireError(where, 'an object');
    }
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        key,
        inner(item, `${where}.${key}`)
      ])
    );
  };
}

export function object<T extends object>(shape: Shape<T>): Decoder<T> {
  const keys = Object.keys(shape) as (keyof T & string)[];
  return (value, where) => {
    if (!isRecord(value)) {
      throw new WireError(where, 'an object');
    }
    const decoded: Partial<T> = {};
    for (const key of keys) {
      decoded[key] = shape[key](value[key], `${where}.${key}`);
    }
    return decoded as T;
  };
}
