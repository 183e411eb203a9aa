import type { Decoder } from '../decode';
import * as wire from '../wire';
import { readSample } from './samples';

describe('wire', () => {
  const bodies: [string, Decoder<unknown>][] = [
    ['submission.json', wire.submission],
    ['submissions.json', wire.submissionPage],
    ['plan.json', wire.snapshotPlan],
    ['error.json', wire.errorBody],
    ['parameters.json', wire.notebookParameters],
    ['log.json', wire.logChunk],
    ['merge.json', wire.mergeReport],
    ['outputs.json', wire.outputSet],
    ['preflight.json', wire.preflight],
    ['profiles.json', wire.profiles],
    ['queues.json', wire.queues]
  ];

  it.each(bodies)('reads what the server sends: %s', (name, decoder) => {
    const body = readSample(name) as Record<string, unknown>;
    expect(body).toMatchObject(decoder(body, name) as object);
  });

  it('knows every state of the sample page', () => {
    const page = wire.submissionPage(readSample('submissions.json'), 'page');
    expect(page.submissions.length).toBeGreaterThan(0);
    for (const { state } of page.submissions) {
      expect(wire.SUBMISSION_STATES).toContain(state);
    }
  });

  it('ignores fields that it does not know', () => {
    const body = { ...(readSample('log.json') as object), mood: 'good' };
    expect(wire.logChunk(body, 'log')).not.toHaveProperty('mood');
  });

  it('fills in what an older server leaves out', () => {
    const later = ['attempts', 'outputs', 'capture', 'priority'];
    const body = Object.fromEntries(
      Object.entries(readSample('submission.json') as object).filter(
        ([name]) => !later.includes(name)
      )
    );
    expect(wire.submission(body, 'submission')).toMatchObject({
      attempts: [],
      outputs: null,
      capture: null,
      priority: 0
    });
  });

  const broken: [string, unknown, string][] = [
    ['not an object', 'text', 'page: expected an object'],
    ['no list', {}, 'page.submissions: expected an array'],
    [
      'a wrong record',
      { submissions: [7] },
      'page.submissions[0]: expected an object'
    ],
    [
      'a wrong field',
      { submissions: [{ id: 3 }] },
      'page.submissions[0].id: expected a string'
    ]
  ];

  it.each(broken)('names what is wrong: %s', (_, body, message) => {
    expect(() => wire.submissionPage(body, 'page')).toThrow(message);
  });

  it('refuses states and times that nobody defined', () => {
    const body = readSample('submission.json') as object;
    expect(() => wire.submission({ ...body, state: 'odd' }, 's')).toThrow(
      's.state: expected one of capturing'
    );
    expect(() => wire.submission({ ...body, created_at: 'soon' }, 's')).toThrow(
      's.created_at: expected a time'
    );
  });
});
