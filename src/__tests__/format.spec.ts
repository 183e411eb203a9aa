import { nullTranslator } from '@jupyterlab/translation';
import {
  elapsedSeconds,
  formatAttemptEnd,
  formatAttempts,
  formatPool,
  formatBytes,
  formatDuration,
  formatMoment,
  formatOutputs,
  formatPlace,
  formatPlaces,
  formatPosition,
  formatProgress,
  formatQueue,
  formatState,
  formatWhy,
  manifestName,
  shorten
} from '../format';
import { type IAttempt, SUBMISSION_STATES } from '../models';
import { makeQueue, makeSubmission } from './samples';

const trans = nullTranslator.load('test');

function attempt(
  number: number,
  ended_by: string | null = null,
  ended_because = ''
): IAttempt {
  return {
    number,
    admitted_at: '2026-11-20T14:00:00Z',
    started_at: '2026-11-20T14:00:10Z',
    ended_at: ended_by === null ? null : '2026-11-20T14:05:10Z',
    ended_by,
    ended_because,
    saved_at: null,
    time_lost_s: 0
  };
}

describe('format', () => {
  it.each([
    ['nothing', [], ''],
    ['the machine', [makeQueue('local', 'local')], 'Jobs run on this machine.'],
    [
      'a queue of the cluster',
      [makeQueue('batch', 'kueue')],
      'Jobs run in the cluster, in queue batch of the shared pool.'
    ],
    [
      'the first of several queues',
      [makeQueue('batch', 'kueue'), makeQueue('night', 'kueue')],
      'Jobs run in the cluster, by default in queue batch.'
    ],
    ['another', [makeQueue('gpu', 'Leonardo')], 'Jobs run on Leonardo.']
  ])('where jobs run: %s', (_, queues, words) => {
    expect(formatPlaces(queues, trans)).toBe(words);
  });

  it('names the queue of a place only where it means something', () => {
    const place = (name: string, backend: string) =>
      formatPlace(makeQueue(name, backend), trans);
    expect(place('local', 'local')).toBe('this machine');
    expect(place('batch', 'kueue')).toBe('the cluster, queue batch');
    expect(place('gpu', 'Leonardo')).toBe('Leonardo, queue gpu');
  });

  it('exports a Submission under the name of its notebook', () => {
    const submission = makeSubmission('0123456789', 'queued', {
      notebook_path: 'study/größe #1.ipynb'
    });
    expect(manifestName(submission)).toBe('größe #1.batch-01234567.yaml');
  });

  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1500, '1.5 kB'],
    [41_000_000, '41 MB'],
    [1_283_457_102, '1.3 GB'],
    [-5, '0 B']
  ])('sizes: %d is %s', (bytes, words) => {
    expect(formatBytes(bytes, trans)).toBe(words);
  });

  it.each([
    [0, '0 s'],
    [59.9, '59 s'],
    [252, '4 min 12 s'],
    [900, '15 min'],
    [7500, '2 h 5 min'],
    [7200, '2 h'],
    [273_600, '3 d 4 h'],
    [-3, '0 s']
  ])('durations: %d is %s', (seconds, words) => {
    expect(formatDuration(seconds, trans)).toBe(words);
  });

  it('names days as people do', () => {
    const now = new Date(2026, 10, 20, 9, 0);
    const at = (...parts: [number, number, number, number, number]) =>
      formatMoment(new Date(...parts), now, trans);
    expect(at(2026, 10, 20, 0, 1)).toMatch(/^today /);
    expect(at(2026, 10, 19, 23, 59)).toMatch(/^yesterday /);
    expect(at(2026, 10, 18, 23, 59)).not.toMatch(/day /);
    expect(at(2025, 10, 18, 23, 59)).toContain('2025');
  });

  it('has a word for every state', () => {
    const words = SUBMISSION_STATES.map(state => formatState(state, trans));
    expect(new Set(words).size).toBe(SUBMISSION_STATES.length);
  });

  it.each([
    [0, 0, 'next in the queue'],
    [1, 1, '2nd in the queue'],
    [2, 7, '3rd in your queue, 8th in the pool'],
    [10, 10, '11th in the queue'],
    [20, 20, '21st in the queue']
  ])('positions: %d and %d are %s', (own, pool, words) => {
    const position = {
      in_local_queue: own,
      in_cluster_queue: pool,
      observed_at: '2026-11-20T14:00:00Z'
    };
    expect(formatPosition(position, trans)).toBe(words);
  });

  it('counts the cells that are done, not the one that runs', () => {
    const progress = { cell: 7, of: 12, cell_started_at: null };
    const running = makeSubmission('a', 'running', { progress });
    expect(formatProgress(running, trans)).toEqual({
      label: 'cell 7 of 12',
      fraction: 0.5
    });
    expect(
      formatProgress({ ...running, state: 'succeeded' }, trans)
    ).toBeNull();
  });

  it('does not divide by nothing', () => {
    const capture = {
      phase: 'plan',
      done_bytes: 0,
      total_bytes: 0,
      new_bytes: 0
    };
    const capturing = makeSubmission('a', 'capturing', { capture });
    expect(formatProgress(capturing, trans)?.fraction).toBe(0);
  });

  it('says how often it was interrupted, and by what', () => {
    expect(formatAttempts([attempt(1)], trans)).toBe('');
    expect(formatAttempts([attempt(1, 'WorkerLost'), attempt(2)], trans)).toBe(
      'attempt 2 · the worker was lost once'
    );
    expect(
      formatAttempts(
        [attempt(1, 'Preempted'), attempt(2, 'Preempted'), attempt(3)],
        trans
      )
    ).toBe('attempt 3 · evicted 2 times to make room');
  });

  it('says for whom it was interrupted, where the cluster says so', () => {
    const because = 'to make room for an interactive session';
    const interrupted = [
      attempt(1, 'Preempted', because),
      attempt(2, 'NodeFailures', 'because its node failed'),
      attempt(3, 'Preempted', because),
      attempt(4)
    ];
    expect(formatAttempts(interrupted, trans)).toBe(
      `attempt 4 · evicted 2 times ${because} · evicted once because its node failed`
    );
    expect(formatAttemptEnd(interrupted[0], trans)).toBe(`evicted ${because}`);
    expect(formatAttemptEnd(attempt(1, 'Preempted'), trans)).toBe(
      'evicted to make room'
    );
    expect(formatAttemptEnd(attempt(1, 'New'), trans)).toBe('evicted (New)');
  });

  it.each([
    [
      { mine: 3, others_batch: 2, interactive: 1, free: 1 },
      'Pool of 7 slots (gpu): 3 yours, 2 batch of others, 1 interactive, 1 free'
    ],
    [
      { interactive: 7, interactive_waiting: 1 },
      'Pool of 7 slots (gpu): 7 interactive, 0 free; 1 session waiting'
    ],
    [{ free: 7, resource: '' }, 'Pool of 7 slots: 7 free']
  ])('says who holds the pool: %j', (fields, words) => {
    const nobody = { mine: 0, others_batch: 0, interactive: 0, free: 0 };
    const pool = {
      ...nobody,
      resource: 'gpu',
      slots: 7,
      interactive_waiting: 0,
      observed_at: '2026-11-20T14:00:00Z',
      ...fields
    };
    expect(formatPool(pool, trans)).toBe(words);
  });

  it('explains a failure in the words of the server', () => {
    const failed = makeSubmission('a', 'failed', {
      explanation: {
        code: 'cell_failed',
        summary: 'Failed in cell 5: ValueError: no.',
        resolution: '',
        raw_reason: null,
        since: null
      }
    });
    expect(formatWhy(failed, trans)).toBe('Failed in cell 5: ValueError: no.');
  });

  it('says what came home', () => {
    const outputs = {
      state: 'collected',
      files: 3,
      bytes: 9,
      conflicts: 1
    } as const;
    expect(
      formatOutputs(makeSubmission('a', 'succeeded', { outputs }), trans)
    ).toBe('3 files home · 1 kept twice');
  });

  it('says how busy a queue is', () => {
    expect(
      formatQueue(
        {
          name: 'local',
          slots: 2,
          busy: 1,
          waiting: 3,
          gpu_slots: 4,
          gpu_busy: 0,
          observed_at: null
        },
        trans
      )
    ).toBe('1 of 2 slots busy · 0 of 4 GPUs busy · 3 waiting');
  });

  it('counts no slots of a pool that does not tell', () => {
    expect(
      formatQueue(
        {
          name: 'batch',
          slots: null,
          busy: 1,
          waiting: 3,
          gpu_slots: 0,
          gpu_busy: 1,
          observed_at: null
        },
        trans
      )
    ).toBe('1 running · 3 waiting');
  });

  it('counts run time of the present Attempt, and waiting time before', () => {
    const now = new Date('2026-11-20T14:01:10Z');
    expect(elapsedSeconds(makeSubmission('a', 'queued'), now)).toBe(70);
    const running = makeSubmission('a', 'running', { attempts: [attempt(1)] });
    expect(elapsedSeconds(running, now)).toBe(60);
    const ended = makeSubmission('a', 'failed', {
      attempts: [attempt(1, 'failed')]
    });
    expect(elapsedSeconds(ended, now)).toBe(300);
    expect(elapsedSeconds({ ...running, stale: true }, now)).toBe(50);
  });

  it('cuts long texts with an ellipsis', () => {
    expect(shorten('abcdef', 4)).toBe('abc…');
    expect(shorten('abcd', 4)).toBe('abcd');
  });
});
