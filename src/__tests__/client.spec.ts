import { ServerConnection } from '@jupyterlab/services';
import { BatchApiError, BatchClient } from '../client';
import { readSample } from './samples';

interface ISeen {
  url: URL;
  method: string;
  headers: Headers;
  body: string;
}

/**
 * A server that gives one answer, and what it was asked.
 */
function makeServer(answer: () => Response | Promise<Response>): {
  client: BatchClient;
  seen: ISeen[];
} {
  const seen: ISeen[] = [];
  const serverSettings = ServerConnection.makeSettings({
    baseUrl: 'http://localhost:8888/user/ada/',
    token: '',
    fetch: async (input: RequestInfo) => {
      const request = input as Request;
      seen.push({
        url: new URL(request.url),
        method: request.method,
        headers: request.headers,
        body: await request.text()
      });
      return answer();
    }
  });
  return { client: new BatchClient({ serverSettings, timeoutMs: 50 }), seen };
}

const json = (value: unknown, status = 200) =>
  new Response(JSON.stringify(value), { status });

async function failure(promise: Promise<unknown>): Promise<BatchApiError> {
  return promise.then(
    () => {
      throw new Error('It was not refused.');
    },
    (reason: unknown) => {
      expect(reason).toBeInstanceOf(BatchApiError);
      return reason as BatchApiError;
    }
  );
}

describe('BatchClient', () => {
  it('reads the YAML of a Submission as it is', async () => {
    const yaml = 'apiVersion: batch/v1\nkind: Job\n';
    const { client, seen } = makeServer(() => new Response(yaml));
    expect(await client.manifest('a/b')).toBe(yaml);
    expect(seen[0].url.pathname).toBe(
      '/user/ada/ai-batch/v1/submissions/a%2Fb/manifest'
    );
  });

  it('submits with the key that makes it happen once', async () => {
    const sample = readSample('submission.json') as { id: string };
    const { client, seen } = makeServer(() => json(sample, 201));
    const submission = await client.submit({ notebook_path: 'a b.ipynb' }, 'k');
    expect(submission.id).toBe(sample.id);
    expect(seen[0].method).toBe('POST');
    expect(seen[0].url.pathname).toBe('/user/ada/ai-batch/v1/submissions');
    expect(seen[0].headers.get('Idempotency-Key')).toBe('k');
    expect(JSON.parse(seen[0].body)).toEqual({ notebook_path: 'a b.ipynb' });
    expect(seen[0].url.searchParams.has('no_track_activity')).toBe(false);
  });

  it('asks for a page without counting as activity', async () => {
    const { client, seen } = makeServer(() =>
      json(readSample('submissions.json'))
    );
    await client.list({
      states: ['queued', 'running'],
      notebook: 'x/y.ipynb',
      limit: 5,
      cursor: 'c'
    });
    const { searchParams } = seen[0].url;
    expect(searchParams.getAll('state')).toEqual(['queued', 'running']);
    expect(searchParams.get('notebook')).toBe('x/y.ipynb');
    expect(searchParams.get('limit')).toBe('5');
    expect(searchParams.get('cursor')).toBe('c');
    expect(searchParams.get('no_track_activity')).toBe('1');
  });

  it('keeps code, hint and details of a refusal', async () => {
    const body = readSample('error.json') as {
      message: string;
      error: { code: string; hint: string; retryable: boolean };
    };
    const { client } = makeServer(() => json(body, 409));
    const error = await failure(client.cancel('x'));
    expect(error).toMatchObject({
      message: body.message,
      code: body.error.code,
      hint: body.error.hint,
      retryable: body.error.retryable,
      status: 409
    });
  });

  const foreign: [number, string, boolean][] = [
    [403, 'You are not logged in', false],
    [404, 'does not run on this Jupyter server', false],
    [502, 'HTTP 502', true]
  ];

  it.each(foreign)(
    'says what an answer of somebody else means: %i',
    async (status, words, retryable) => {
      const { client } = makeServer(() => new Response('<html>', { status }));
      const error = await failure(client.queues());
      expect(error.message).toContain(words);
      expect(error).toMatchObject({ code: `http_${status}`, retryable });
    }
  );

  it('says that nobody answers', async () => {
    const { client } = makeServer(() => Promise.reject(new TypeError('no')));
    expect(await failure(client.get('x'))).toMatchObject({
      code: 'server_unreachable',
      retryable: true,
      status: null
    });
  });

  it('does not take an answer that is something else', async () => {
    const { client } = makeServer(() => json({ submissions: 'none' }));
    expect(await failure(client.list())).toMatchObject({
      code: 'answer_invalid'
    });
  });

  it('escapes ids and paths', async () => {
    const { client, seen } = makeServer(() =>
      json(readSample('submission.json'))
    );
    await client.get('../x');
    expect(seen[0].url.pathname).toBe(
      '/user/ada/ai-batch/v1/submissions/..%2Fx'
    );
    expect(client.outputFileUrl('i', 'a b/ü#.txt')).toBe(
      'http://localhost:8888/user/ada/ai-batch/v1/submissions/i/outputs/files/a%20b/%C3%BC%23.txt'
    );
  });

  it('gives up a plan when it is told to', async () => {
    const { client } = makeServer(() => json(readSample('plan.json')));
    const controller = new AbortController();
    controller.abort('closed');
    await expect(
      client.plan({ notebook_path: 'n.ipynb' }, controller.signal)
    ).rejects.toBe('closed');
  });
});
