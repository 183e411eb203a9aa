import { SubmissionManager } from '../manager';
import { EVENT_SCHEMAS, type ITransition } from '../tokens';
import { FakeClient, FakeEvents } from './fakeClient';
import { makeQueue, makeSubmission } from './samples';

describe('SubmissionManager', () => {
  let server: FakeClient;
  let events: FakeEvents;
  let manager: SubmissionManager;
  let emitted: number;
  let transitions: string[];

  async function start(): Promise<void> {
    manager = new SubmissionManager({
      client: server.client,
      events: events.manager,
      intervalMs: 3_600_000,
      standby: 'never'
    });
    manager.submissionsChanged.connect(() => {
      emitted += 1;
    });
    manager.transition.connect((_, { before, after }: ITransition) => {
      transitions.push(`${after.id}: ${before.state} -> ${after.state}`);
    });
    await manager.ready;
  }

  beforeEach(() => {
    server = new FakeClient();
    events = new FakeEvents();
    emitted = 0;
    transitions = [];
  });

  afterEach(() => {
    manager.dispose();
  });

  it('lists what is active and what is over', async () => {
    server.put(
      makeSubmission('a', 'running'),
      makeSubmission('b', 'succeeded')
    );
    await start();
    expect(manager.active.map(item => item.id)).toEqual(['a']);
    expect(manager.finished.map(item => item.id)).toEqual(['b']);
    expect(manager.isReady).toBe(true);
    expect(manager.problem).toBeNull();
  });

  it('emits once, even for an empty list: loading is over', async () => {
    await start();
    expect(emitted).toBe(1);
  });

  it('asks for the queues only while somebody looks', async () => {
    await start();
    const hidden = jest.spyOn(document, 'hidden', 'get').mockReturnValue(true);
    server.queueReadings = [makeQueue('batch', 'kueue')];
    server.put(makeSubmission('a', 'running'));
    await manager.refresh();
    expect(manager.active.map(item => item.id)).toEqual(['a']);
    expect(manager.queues).toEqual([]);
    hidden.mockRestore();
    await manager.refresh();
    expect(manager.queues.map(queue => queue.name)).toEqual(['batch']);
  });

  it('emits only when a value differs', async () => {
    server.put(makeSubmission('a', 'running'));
    await start();
    const before = manager.active[0];
    emitted = 0;
    server.put({ ...before, observed_at: '2026-11-20T15:00:00.000Z' });
    await manager.refresh();
    expect(emitted).toBe(0);
    expect(manager.active[0]).toBe(before);
    server.put({ ...before, title: 'renamed' });
    await manager.refresh();
    expect(emitted).toBe(1);
  });

  it('tells every change of state once', async () => {
    server.put(makeSubmission('a', 'running'));
    await start();
    server.put(makeSubmission('a', 'succeeded'), makeSubmission('n', 'queued'));
    await manager.refresh();
    await manager.refresh();
    expect(transitions).toEqual(['a: running -> succeeded']);
  });

  it('refetches when an event hints at a change', async () => {
    await start();
    server.put(makeSubmission('a', 'queued'));
    const changed = new Promise<void>(resolve => {
      manager.submissionsChanged.connect(() => {
        resolve();
      });
    });
    events.stream.emit({
      schema_id: EVENT_SCHEMAS.submission,
      submission_id: 'a',
      state: 'succeeded'
    });
    await changed;
    expect(manager.find('a')?.state).toBe('queued');
  });

  it('does not care for the events of others', async () => {
    await start();
    server.calls = [];
    events.stream.emit({ schema_id: 'https://example.org/other/v1' });
    await manager.refresh();
    expect(server.calls).toEqual(['list', 'list']);
  });

  it('keeps the last rows while nobody answers, and says why', async () => {
    server.put(makeSubmission('a', 'running'));
    await start();
    const failures: string[] = [];
    manager.connectionFailure.connect((_, error) => {
      failures.push(error.code);
    });
    server.down = true;
    emitted = 0;
    await manager.refresh();
    await manager.refresh();
    expect(manager.active.map(item => item.id)).toEqual(['a']);
    expect(manager.problem?.error.code).toBe('server_unreachable');
    expect(manager.problem?.lastSeenAt).toBeInstanceOf(Date);
    expect(failures).toHaveLength(2);
    expect(emitted).toBe(1);
    server.down = false;
    await manager.refresh();
    expect(manager.problem).toBeNull();
    expect(emitted).toBe(2);
  });

  it('is ready when the first answer is a failure', async () => {
    server.down = true;
    await start();
    expect(manager.isReady).toBe(true);
    expect(manager.problem?.lastSeenAt).toBeNull();
  });

  it('shows the list when only the queue does not answer', async () => {
    server.put(makeSubmission('a', 'running', { stale: true }));
    server.queuesDown = true;
    await start();
    expect(manager.active).toHaveLength(1);
    expect(manager.problem?.error.code).toBe('queue_unreachable');
  });

  it('loads older pages and keeps them', async () => {
    server.put(
      ...Array.from({ length: 120 }, (_, index) =>
        makeSubmission(`s${index}`, 'succeeded', {
          created_at: new Date(1_700_000_000_000 + index * 1000).toISOString()
        })
      )
    );
    await start();
    expect(manager.finished).toHaveLength(50);
    expect(manager.hasMore).toBe(true);
    await manager.loadMore();
    expect(manager.finished).toHaveLength(100);
    await manager.refresh();
    expect(manager.finished).toHaveLength(100);
    await manager.loadMore();
    expect(manager.finished).toHaveLength(120);
    expect(manager.hasMore).toBe(false);
    expect(manager.finished[0].id).toBe('s119');
  });

  it('takes over at once what a user asked for', async () => {
    server.put(makeSubmission('a', 'running'));
    await start();
    await manager.cancel('a');
    expect(manager.find('a')?.state).toBe('cancelling');
    expect(transitions).toEqual(['a: running -> cancelling']);
  });

  it('hands refusals to who asked', async () => {
    server.put(makeSubmission('a', 'succeeded'));
    await start();
    await expect(manager.cancel('a')).rejects.toMatchObject({
      code: 'submission_state'
    });
  });

  it('is silent after its end', async () => {
    await start();
    emitted = 0;
    manager.dispose();
    server.put(makeSubmission('a', 'running'));
    events.stream.emit({ schema_id: EVENT_SCHEMAS.submission });
    expect(manager.isDisposed).toBe(true);
    expect(emitted).toBe(0);
  });
});
