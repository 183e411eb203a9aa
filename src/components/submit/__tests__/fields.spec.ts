import { nullTranslator } from '@jupyterlab/translation';
import type { IParameter, ParameterType } from '../../../models';
import { formatLimit, parseDuration } from '../duration';
import { changedInputs, fits, parseInput, toInput } from '../fields';

const trans = nullTranslator.load('test');

function parameter(type: ParameterType, value: unknown): IParameter {
  return { name: 'p', type, default: value, help: '' };
}

describe('parseInput', () => {
  it.each<[ParameterType, string | boolean, unknown]>([
    ['bool', true, true],
    ['int', ' 20 ', 20],
    ['int', '-1_000', -1000],
    ['float', '1e-3', 0.001],
    ['float', '.5', 0.5],
    ['float', '1_000.5', 1000.5],
    ['str', ' kept as typed ', ' kept as typed '],
    ['json', '[1, {"a": null}]', [1, { a: null }]]
  ])('reads %s from %j', (type, input, value) => {
    expect(parseInput(parameter(type, null), input, trans)).toEqual({
      ok: true,
      value
    });
  });

  it.each<[ParameterType, string]>([
    ['int', ''],
    ['int', '1.5'],
    ['int', '_1'],
    ['int', '0x10'],
    ['int', '9007199254740993'],
    ['float', 'nan'],
    ['float', 'Infinity'],
    ['float', '1e999'],
    ['float', '1,5'],
    ['json', '{']
  ])('says why %s cannot be read from %j', (type, input) => {
    const parsed = parseInput(parameter(type, null), input, trans);
    expect(parsed.ok).toBe(false);
  });
});

describe('changedInputs', () => {
  it('leaves out what still shows its default', () => {
    const list = [
      parameter('float', 0.1),
      { ...parameter('int', 1), name: 'q' }
    ];
    const inputs = new Map([
      ['p', '0.1'],
      ['q', '2']
    ]);
    expect(changedInputs(list, inputs).map(item => item.name)).toEqual(['q']);
  });

  it.each<[ParameterType, unknown]>([
    ['bool', false],
    ['int', 3],
    ['float', 1e21],
    ['float', null],
    ['str', null],
    ['json', { a: [1] }],
    ['json', null]
  ])('sees no change in an untouched %s of %j', (type, value) => {
    const item = parameter(type, value);
    const inputs = new Map([['p', toInput(item, value)]]);
    expect(changedInputs([item], inputs)).toEqual([]);
  });
});

describe('fits', () => {
  it('takes a remembered value only when it has the type that the notebook now asks for', () => {
    expect(fits(parameter('int', 1), 2)).toBe(true);
    expect(fits(parameter('int', 1), 2.5)).toBe(false);
    expect(fits(parameter('bool', true), 'true')).toBe(false);
  });
});

describe('parseDuration', () => {
  it.each([
    ['90 min', 5400],
    ['2h', 7200],
    ['1 d 12 h', 129600],
    ['1:30', 5400],
    ['45', 2700],
    ['1,5 hours', 5400],
    ['30 s', 30]
  ])('reads %s', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each(['', 'soon', '0', '2 fortnights', '-1 h', '400 d', '1h foo'])(
    'refuses %j',
    text => {
      expect(parseDuration(text)).toBeNull();
    }
  );

  it.each([90, 5400, 129600, 14400])(
    'reads back what formatLimit writes',
    s => {
      expect(parseDuration(formatLimit(s))).toBe(s);
    }
  );
});
