import { BatchApiError } from '../client';
import { LogFollower } from '../log/follower';
import { findHits, MAX_HITS } from '../log/search';
import { LogText, plainText } from '../log/text';
import type { ILogChunk } from '../models';

describe('plainText', () => {
  it.each([
    ['\u001b[31mred\u001b[0m', 'red'],
    ['10 %\r20 %\r30 %', '30 %'],
    ['one\r\ntwo\r\n', 'one\ntwo\n'],
    ['\u001b]0;title\u0007x', 'x'],
    ['bell\u0007', 'bell'],
    ['tab\tstays', 'tab\tstays']
  ])('%j is read as %j', (raw, words) => {
    expect(plainText(raw)).toBe(words);
  });
});

describe('LogText', () => {
  const all = (text: LogText) => text.blocks.map(block => block.text).join('');

  it('puts pieces together where a line or a colour was cut', () => {
    const text = new LogText();
    text.append('he');
    text.append('llo\n\u001b[3');
    text.append('1mred\u001b[0m');
    expect(all(text)).toBe('hello\nred');
  });

  it('keeps a bounded amount and counts what it drops', () => {
    const text = new LogText(100_000);
    for (let index = 0; index < 50; index++) {
      text.append(`${'x'.repeat(9_999)}\n`);
    }
    const kept = all(text).length;
    expect(kept).toBeLessThanOrEqual(100_000);
    expect(kept + text.droppedChars).toBe(500_000);
  });

  it('does not wait for the end of a line without end', () => {
    const text = new LogText(100_000);
    for (let index = 0; index < 50; index++) {
      text.append('y'.repeat(10_000));
    }
    expect(all(text).length).toBeLessThanOrEqual(200_000);
  });
});

describe('findHits', () => {
  it('finds every place, whatever its case, up to a limit', () => {
    const blocks = [
      { key: 0, text: 'Loss and loss' },
      { key: 1, text: 'a'.repeat(2 * MAX_HITS) }
    ];
    expect(findHits(blocks, 'LOSS')).toEqual([
      { block: 0, at: 0 },
      { block: 0, at: 9 }
    ]);
    expect(findHits(blocks, 'a')).toHaveLength(MAX_HITS);
    expect(findHits(blocks, '')).toEqual([]);
  });
});

/**
 * A websocket whose other end is the test.
 */
class FakeSocket {
  constructor(readonly query: object) {}
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  closed = false;

  close(): void {
    this.closed = true;
  }

  send(chunk: Partial<ILogChunk>): void {
    const data = JSON.stringify({
      attempt: 1,
      text: '',
      offset: 0,
      next_offset: 0,
      complete: false,
      ...chunk
    });
    this.onmessage?.({ data });
  }
}

describe('LogFollower', () => {
  let sockets: FakeSocket[];
  let timers: (() => void)[];
  let answer: () => Promise<ILogChunk>;
  let follower: LogFollower;

  const nothing: ILogChunk = {
    attempt: 1,
    text: '',
    offset: 0,
    next_offset: 0,
    complete: false
  };
  const text = () => follower.text.blocks.map(block => block.text).join('');
  const settle = async () => {
    for (let turn = 0; turn < 5; turn++) {
      await Promise.resolve();
    }
  };

  beforeEach(() => {
    sockets = [];
    timers = [];
    answer = () => Promise.resolve(nothing);
    follower = new LogFollower({
      id: 's',
      client: {
        log: () => answer(),
        openLogStream: (_, query) => {
          const socket = new FakeSocket(query ?? {});
          sockets.push(socket);
          return socket as unknown as WebSocket;
        }
      },
      setTimeout: callback => timers.push(callback),
      clearTimeout: () => undefined
    });
    follower.resume();
    sockets[0].onopen?.();
  });

  afterEach(() => {
    follower.dispose();
  });

  it('shows pieces as they come, until the last', () => {
    sockets[0].send({ text: 'one\n', next_offset: 4 });
    expect(follower.state).toBe('following');
    sockets[0].send({
      text: 'two\n',
      offset: 4,
      next_offset: 8,
      complete: true
    });
    expect(text()).toBe('one\ntwo\n');
    expect(follower.state).toBe('complete');
    expect(sockets[0].closed).toBe(true);
  });

  it('goes on at the same byte after a break, and shows nothing twice', async () => {
    sockets[0].send({ text: 'one\n', next_offset: 4 });
    answer = () => Promise.resolve({ ...nothing, offset: 4, next_offset: 4 });
    sockets[0].onclose?.();
    await settle();
    expect(follower.state).toBe('retrying');
    timers[0]();
    expect(sockets[1].query).toEqual({ offset: 4, attempt: 1 });
    sockets[1].send({ text: 'one\n', next_offset: 4 });
    sockets[1].send({ text: 'two\n', offset: 4, next_offset: 8 });
    expect(text()).toBe('one\ntwo\n');
  });

  it('says why it is refused, and stops asking', async () => {
    answer = () =>
      Promise.reject(
        new BatchApiError('No such Submission.', {
          code: 'submission_not_found',
          status: 404
        })
      );
    sockets[0].onclose?.();
    await settle();
    expect(follower.state).toBe('refused');
    expect(follower.error?.message).toBe('No such Submission.');
    expect(timers).toHaveLength(0);
  });

  it('starts over with another Attempt', () => {
    sockets[0].send({ attempt: 2, text: 'two\n', next_offset: 4 });
    follower.choose(1);
    expect(text()).toBe('');
    expect(sockets[0].closed).toBe(true);
    expect(sockets[1].query).toEqual({ offset: 0, attempt: 1 });
  });

  it('does not mind nonsense', () => {
    const spy = jest
      .spyOn(console, 'error')
      .mockImplementation(() => undefined);
    sockets[0].onmessage?.({ data: 'nonsense' });
    sockets[0].onmessage?.({ data: 7 });
    expect(follower.state).toBe('following');
    expect(spy).toHaveBeenCalledTimes(1);
    spy.mockRestore();
  });

  it('has no connection while it cannot be seen', () => {
    follower.pause();
    expect(sockets[0].closed).toBe(true);
    expect(follower.state).toBe('paused');
    follower.resume();
    expect(sockets).toHaveLength(2);
  });
});
