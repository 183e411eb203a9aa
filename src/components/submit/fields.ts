/**
 * The parameters form without its looks: typed values on one side, what people type on the other.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import type { IParameter } from '../../models';

/**
 * What a form field holds: a boolean for a check box, otherwise text as typed.
 */
export type FieldInput = string | boolean;

/**
 * A typed value, or the sentence that says why the input is none.
 */
export type ParsedField =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: string };

/** JSON up to this many characters stays on one line. */
const ONE_LINE = 40;

/**
 * The form's first content for a parameter: its default, or a value remembered from last time.
 */
export function toInput(parameter: IParameter, value: unknown): FieldInput {
  switch (parameter.type) {
    case 'bool':
      return value === true;
    case 'int':
    case 'float':
      return typeof value === 'number' ? String(value) : '';
    case 'str':
      return typeof value === 'string' ? value : '';
    case 'json':
      return writeJSON(value ?? null);
  }
}

/**
 * Read a field as the type that the notebook declares.
 */
export function parseInput(
  parameter: IParameter,
  input: FieldInput,
  trans: TranslationBundle
): ParsedField {
  if (typeof input === 'boolean') {
    return { ok: true, value: input };
  }
  switch (parameter.type) {
    case 'bool':
      return { ok: true, value: input === 'true' };
    case 'int':
      return parseInteger(input, trans);
    case 'float':
      return parseNumber(input, trans);
    case 'str':
      return { ok: true, value: input };
    case 'json':
      return parseJSON(input, trans);
  }
}

/**
 * The values that differ from the notebook's own: only these are sent.
 *
 * A field that still shows its default is never sent, so a default that JSON cannot carry does no harm.
 */
export function changedInputs(
  parameters: readonly IParameter[],
  inputs: ReadonlyMap<string, FieldInput>
): readonly IParameter[] {
  return parameters.filter(
    parameter =>
      inputs.has(parameter.name) &&
      inputs.get(parameter.name) !== toInput(parameter, parameter.default)
  );
}

/**
 * Whether a remembered value still fits the parameter of that name.
 */
export function fits(parameter: IParameter, value: unknown): boolean {
  switch (parameter.type) {
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return Number.isSafeInteger(value);
    case 'float':
      return typeof value === 'number';
    case 'str':
      return typeof value === 'string';
    case 'json':
      return true;
  }
}

function writeJSON(value: unknown): string {
  const line = JSON.stringify(value);
  return line.length <= ONE_LINE ? line : JSON.stringify(value, null, 2);
}

function parseInteger(text: string, trans: TranslationBundle): ParsedField {
  const value = Number(text.trim().replace(/_/g, ''));
  if (!/^[+-]?\d[\d_]*$/.test(text.trim())) {
    return fail(trans.__('Give a whole number, for example 20.'));
  }
  if (!Number.isSafeInteger(value)) {
    return fail(
      trans.__(
        'This number is too large to be passed exactly. Set it in the notebook instead.'
      )
    );
  }
  return { ok: true, value };
}

function parseNumber(text: string, trans: TranslationBundle): ParsedField {
  const trimmed = text.trim().replace(/(\d)_(?=\d)/g, '$1');
  const value = Number(trimmed);
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)) {
    return fail(trans.__('Give a number, for example 0.001 or 1e-3.'));
  }
  if (!Number.isFinite(value)) {
    return fail(trans.__('This number is too large.'));
  }
  return { ok: true, value };
}

function parseJSON(text: string, trans: TranslationBundle): ParsedField {
  try {
    return { ok: true, value: JSON.parse(text) as unknown };
  } catch (reason) {
    return fail(
      trans.__(
        'Give a value in JSON, for example [1, 2] or {"a": true}: %1.',
        reason instanceof Error ? reason.message : String(reason)
      )
    );
  }
}

function fail(error: string): ParsedField {
  return { ok: false, error };
}
