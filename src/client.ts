import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import {
  type ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import type { Decoder } from './decode';
import { BatchApiError, foreignRefusal } from './errors';
import { TRANSLATION_DOMAIN } from './tokens';
import * as wire from './wire';

export { BatchApiError } from './errors';

const API_ROOT = 'ai-batch/v1';

/**
 * The REST API of the server extension, one method per call.
 *
 * Every method rejects with a `BatchApiError` and nothing else, except that an aborted `signal` rejects with the
 * signal's reason. Reads of the monitor carry `no_track_activity=1`, so that looking does not keep an idle session alive.
 */
export class BatchClient {
  constructor(options: BatchClient.IOptions = {}) {
    this.serverSettings =
      options.serverSettings ?? ServerConnection.makeSettings();
    this._trans = (options.translator ?? nullTranslator).load(
      TRANSLATION_DOMAIN
    );
    this._timeoutMs = options.timeoutMs ?? 30_000;
  }

  readonly serverSettings: ServerConnection.ISettings;

  /**
   * Hand in a notebook; the same `key` with the same request creates one Submission only.
   */
  submit(
    request: wire.ISubmissionRequest,
    key: string
  ): Promise<wire.ISubmission> {
    return this._call(wire.submission, 'submissions', {
      body: request,
      headers: { 'Idempotency-Key': key }
    });
  }

  /**
   * One page of Submissions, newest first.
   */
  list(query: BatchClient.IListQuery = {}): Promise<wire.ISubmissionPage> {
    const search = new URLSearchParams();
    for (const state of query.states ?? []) {
      search.append('state', state);
    }
    if (query.notebook !== undefined) {
      search.set('notebook', query.notebook);
    }
    if (query.limit !== undefined) {
      search.set('limit', String(query.limit));
    }
    if (query.cursor !== undefined) {
      search.set('cursor', query.cursor);
    }
    return this._call(wire.submissionPage, 'submissions', {
      search,
      background: true
    });
  }

  get(id: string): Promise<wire.ISubmission> {
    return this._call(wire.submission, submissionPath(id), {
      background: true
    });
  }

  cancel(id: string): Promise<wire.ISubmission> {
    return this._call(wire.submission, submissionPath(id, 'cancel'), {
      body: {}
    });
  }

  resubmit(id: string): Promise<wire.ISubmission> {
    return this._call(wire.submission, submissionPath(id, 'resubmit'), {
      body: {}
    });
  }

  /**
   * The Submission as YAML for `kubectl apply`; refused where it runs on no cluster.
   */
  async manifest(id: string): Promise<string> {
    const response = await this._request(submissionPath(id, 'manifest'), {});
    return response.text();
  }

  /**
   * A piece of an Attempt's log; without `attempt`, of the latest.
   */
  log(id: string, query: BatchClient.ILogQuery = {}): Promise<wire.ILogChunk> {
    return this._call(wire.logChunk, submissionPath(id, 'logs'), {
      search: logSearch(query),
      background: true
    });
  }

  /**
   * A websocket that sends `ILogChunk`s as JSON text and closes after the last one.
   */
  openLogStream(id: string, query: BatchClient.ILogQuery = {}): WebSocket {
    const { wsUrl, token, appendToken } = this.serverSettings;
    const search = logSearch(query);
    search.set('no_track_activity', '1');
    if (appendToken && token !== '') {
      search.set('token', token);
    }
    const url = URLExt.join(
      wsUrl,
      API_ROOT,
      submissionPath(id, 'logs', 'stream')
    );
    return new this.serverSettings.WebSocket(`${url}?${search.toString()}`);
  }

  /**
   * Every file that the latest Attempt with stored results produced.
   */
  outputs(id: string): Promise<wire.IOutputSet> {
    return this._call(wire.outputSet, submissionPath(id, 'outputs'));
  }

  /**
   * Merge the outputs into the home, or with `dry_run` say what would happen.
   */
  collect(
    id: string,
    options: { dry_run?: boolean; replace_notebook?: boolean } = {}
  ): Promise<wire.IMergeReport> {
    return this._call(
      wire.mergeReport,
      submissionPath(id, 'outputs', 'collect'),
      { body: options, unlimited: true }
    );
  }

  /**
   * Where one output file can be downloaded from.
   */
  outputFileUrl(id: string, path: string): string {
    return URLExt.join(
      this.serverSettings.baseUrl,
      API_ROOT,
      submissionPath(id, 'outputs', 'files'),
      ...path.split('/').map(encodeURIComponent)
    );
  }

  /**
   * The bytes of one output file.
   */
  async outputFile(id: string, path: string): Promise<Blob> {
    const response = await this._fetch(this.outputFileUrl(id, path), {}, null);
    if (!response.ok) {
      throw await this._refusal(response);
    }
    return response.blob();
  }

  /**
   * What would be captured. Large trees take a while: pass a `signal` to give up.
   */
  plan(
    request: wire.ISubmissionRequest,
    signal?: AbortSignal
  ): Promise<wire.ISnapshotPlan> {
    return this._call(wire.snapshotPlan, 'snapshot/plan', {
      body: request,
      signal,
      unlimited: true
    });
  }

  async queues(): Promise<readonly wire.IQueueReading[]> {
    return (await this._call(wire.queues, 'queues', { background: true }))
      .queues;
  }

  async profiles(notebookPath: string): Promise<readonly wire.IProfile[]> {
    const query = new URLSearchParams({ notebook: notebookPath }).toString();
    return (await this._call(wire.profiles, `profiles?${query}`)).profiles;
  }

  preflight(): Promise<wire.IPreflight> {
    return this._call(wire.preflight, 'preflight');
  }

  /**
   * Parameters of the notebook's tagged cell, with their types and defaults.
   */
  parameters(notebookPath: string): Promise<wire.INotebookParameters> {
    return this._call(wire.notebookParameters, 'parameters', {
      search: new URLSearchParams({ notebook_path: notebookPath })
    });
  }

  /**
   * Answer a request to save: what is on disk now is what the user sees.
   */
  async notebookSaved(requestId: string): Promise<void> {
    await this._request('notebooks/saved', {
      body: { request_id: requestId }
    });
  }

  private async _call<T>(
    decoder: Decoder<T>,
    path: string,
    options: BatchClient.ICallOptions = {}
  ): Promise<T> {
    const response = await this._request(path, options);
    let value: unknown;
    try {
      value = await response.json();
      return decoder(value, path);
    } catch (reason) {
      throw this._misunderstood(reason);
    }
  }

  private async _request(
    path: string,
    options: BatchClient.ICallOptions
  ): Promise<Response> {
    const search = options.search ?? new URLSearchParams();
    if (options.background === true) {
      search.set('no_track_activity', '1');
    }
    const query = search.toString();
    const url =
      URLExt.join(this.serverSettings.baseUrl, API_ROOT, path) +
      (query === '' ? '' : `?${query}`);
    const init: RequestInit =
      options.body === undefined
        ? { method: 'GET' }
        : {
            method: 'POST',
            body: JSON.stringify(options.body),
            headers: { 'Content-Type': 'application/json', ...options.headers }
          };
    const response = await this._fetch(
      url,
      { ...init, signal: options.signal },
      options.unlimited === true ? null : this._timeoutMs
    );
    if (!response.ok) {
      throw await this._refusal(response);
    }
    return response;
  }

  private async _fetch(
    url: string,
    init: RequestInit,
    timeoutMs: number | null
  ): Promise<Response> {
    const controller = new AbortController();
    const given = init.signal;
    if (isAborted(given)) {
      throw given?.reason;
    }
    const abort = () => {
      controller.abort(given?.reason);
    };
    given?.addEventListener('abort', abort);
    const timer =
      timeoutMs === null
        ? undefined
        : setTimeout(() => {
            controller.abort();
          }, timeoutMs);
    try {
      return await ServerConnection.makeRequest(
        url,
        { ...init, signal: controller.signal },
        this.serverSettings
      );
    } catch {
      if (isAborted(given)) {
        throw given?.reason;
      }
      throw this._unreachable(controller.signal.aborted);
    } finally {
      clearTimeout(timer);
      given?.removeEventListener('abort', abort);
    }
  }

  private _unreachable(timedOut: boolean): BatchApiError {
    return new BatchApiError(
      timedOut
        ? this._trans.__('The Jupyter server does not answer.')
        : this._trans.__('The Jupyter server cannot be reached.'),
      {
        code: 'server_unreachable',
        hint: this._trans.__(
          'Check that the server still runs. Batch jobs go on without it.'
        ),
        retryable: true
      }
    );
  }

  private _misunderstood(reason: unknown): BatchApiError {
    return new BatchApiError(
      this._trans.__('The server’s answer does not fit this page.'),
      {
        code: 'answer_invalid',
        hint: this._trans.__(
          'Reload the page; the server may have been upgraded.'
        ),
        details: { reason: String(reason) }
      }
    );
  }

  /**
   * Read the body of a refusal; core's `ResponseError` would lose `code` and `hint`.
   */
  private async _refusal(response: Response): Promise<BatchApiError> {
    try {
      const body = wire.errorBody(await response.json(), 'error');
      return new BatchApiError(body.message, {
        ...body.error,
        status: response.status
      });
    } catch {
      return foreignRefusal(response.status, this._trans);
    }
  }

  private readonly _trans: TranslationBundle;
  private readonly _timeoutMs: number;
}

export namespace BatchClient {
  export interface IOptions {
    serverSettings?: ServerConnection.ISettings;
    translator?: ITranslator;
    /** How long an answer may take, in milliseconds. */
    timeoutMs?: number;
  }

  export interface IListQuery {
    readonly states?: readonly wire.SubmissionState[];
    /** API path of a notebook. */
    readonly notebook?: string;
    readonly limit?: number;
    readonly cursor?: string;
  }

  export interface ILogQuery {
    readonly attempt?: number;
    /** Byte to start at. */
    readonly offset?: number;
    readonly limitBytes?: number;
  }

  /**
   * How one call is made.
   */
  export interface ICallOptions {
    body?: unknown;
    headers?: Readonly<Record<string, string>>;
    search?: URLSearchParams;
    signal?: AbortSignal;
    /** Not an action of the user: must not count as activity. */
    background?: boolean;
    /** Without a time limit. */
    unlimited?: boolean;
  }
}

/**
 * A function, because the answer changes while a request is under way.
 */
function isAborted(signal: AbortSignal | null | undefined): boolean {
  return signal?.aborted === true;
}

function submissionPath(id: string, ...rest: readonly string[]): string {
  return ['submissions', encodeURIComponent(id), ...rest].join('/');
}

function logSearch(query: BatchClient.ILogQuery): URLSearchParams {
  const search = new URLSearchParams();
  if (query.attempt !== undefined) {
    search.set('attempt', String(query.attempt));
  }
  search.set('offset', String(query.offset ?? 0));
  if (query.limitBytes !== undefined) {
    search.set('limit_bytes', String(query.limitBytes));
  }
  return search;
}
