import type { TranslationBundle } from '@jupyterlab/translation';

/**
 * A request that was refused or that got no answer, in words for the user.
 */
export class BatchApiError extends Error {
  constructor(message: string, options: BatchApiError.IOptions) {
    super(message);
    this.name = 'BatchApiError';
    this.code = options.code;
    this.status = options.status ?? null;
    this.hint = options.hint ?? null;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? false;
  }

  /** Stable and documented: `profile_unknown`, …; `server_unreachable` when there was no answer. */
  readonly code: string;

  /** HTTP status; `null` when there was no answer. */
  readonly status: number | null;

  /** What to do next. */
  readonly hint: string | null;

  /** Facts for programs. */
  readonly details: Readonly<Record<string, unknown>>;

  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
}

export namespace BatchApiError {
  export interface IOptions {
    code: string;
    status?: number | null;
    hint?: string | null;
    details?: Readonly<Record<string, unknown>>;
    retryable?: boolean;
  }
}

/**
 * A refusal that is not ours: a proxy, Jupyter's authentication, or a server without the extension.
 */
export function foreignRefusal(
  status: number,
  trans: TranslationBundle
): BatchApiError {
  const code = `http_${status}`;
  if (status === 401 || status === 403) {
    return new BatchApiError(
      trans.__('You are not logged in to the Jupyter server any more.'),
      { code, status, hint: trans.__('Reload the page and log in again.') }
    );
  }
  if (status === 404) {
    return new BatchApiError(
      trans.__('The batch extension does not run on this Jupyter server.'),
      {
        code,
        status,
        hint: trans.__(
          'Run “jupyter server extension list”: jupyterlab_ai_batch must be enabled. Then restart the server.'
        )
      }
    );
  }
  return new BatchApiError(
    trans.__('The Jupyter server refused the request (HTTP %1).', status),
    {
      code,
      status,
      hint: trans.__('The server’s log says more.'),
      retryable: status >= 500
    }
  );
}
