import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents, Event } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { type BatchClient, BatchApiError } from './client';
import { EVENT_SCHEMAS } from './tokens';

/** Drives whose files are the server's own, under another name. */
const SERVER_DRIVES = ['', 'RTC'];

/**
 * The API path of a file: without the name of a drive that only the browser knows.
 *
 * @throws BatchApiError - The file lies on a drive that a batch job cannot read.
 */
export function serverPath(
  path: string,
  contents: Contents.IManager,
  trans: TranslationBundle
): string {
  const drive = contents.driveName(path);
  if (!SERVER_DRIVES.includes(drive)) {
    throw new BatchApiError(
      trans.__('This notebook lies on the drive “%1”.', drive),
      {
        code: 'notebook_elsewhere',
        hint: trans.__(
          'A batch job can only read files of the Jupyter server. Copy the notebook there first.'
        )
      }
    );
  }
  return contents.localPath(path);
}

/**
 * The open notebook with this API path.
 */
export function findNotebook(
  tracker: INotebookTracker,
  contents: Contents.IManager,
  path: string
): NotebookPanel | undefined {
  return tracker.find(
    panel =>
      SERVER_DRIVES.includes(contents.driveName(panel.context.path)) &&
      contents.localPath(panel.context.path) === path
  );
}

/**
 * Save an open notebook, so that what the user sees is what is submitted.
 *
 * @throws BatchApiError - It could not be saved.
 */
export async function saveNotebook(
  panel: NotebookPanel,
  trans: TranslationBundle
): Promise<void> {
  const { context } = panel;
  await context.ready;
  if (context.contentsModel?.writable === false && !context.model.dirty) {
    return;
  }
  try {
    await saveInTurn(context);
  } catch (reason) {
    throw new BatchApiError(
      trans.__('The notebook could not be saved, so nothing was submitted.'),
      {
        code: 'notebook_not_saved',
        hint: trans.__(
          'Save it under File → Save Notebook, or under another name, and submit it again.'
        ),
        details: { reason: String(reason) }
      }
    );
  }
}

/** By document: the save that is under way. */
const savesUnderWay = new WeakMap<object, Promise<void>>();

/**
 * Two saves of one document at the same time would make JupyterLab believe that somebody else has changed the file.
 */
async function saveInTurn(context: NotebookPanel['context']): Promise<void> {
  const before = savesUnderWay.get(context);
  const saving =
    before === undefined
      ? context.save()
      : before
          .then(
            () => context.model.dirty,
            () => true
          )
          .then(isNeeded => (isNeeded ? context.save() : undefined));
  savesUnderWay.set(context, saving);
  try {
    await saving;
  } finally {
    if (savesUnderWay.get(context) === saving) {
      savesUnderWay.delete(context);
    }
  }
}

/**
 * Answers the server's requests to save a notebook that is open here; others stay silent.
 */
export class SaveResponder {
  constructor(options: SaveResponder.IOptions) {
    this._options = options;
    options.events.stream.connect(this._onEvent, this);
  }

  private _onEvent(_: Event.IManager, emission: Event.Emission): void {
    const { request_id: requestId, notebook_path: path } = emission;
    if (
      emission.schema_id === EVENT_SCHEMAS.saveRequest &&
      typeof requestId === 'string' &&
      typeof path === 'string'
    ) {
      void this._answer(requestId, path);
    }
  }

  private async _answer(requestId: string, path: string): Promise<void> {
    const { client, contents, tracker, trans } = this._options;
    const panel = findNotebook(tracker, contents, path);
    if (panel === undefined) {
      return;
    }
    try {
      if (panel.context.model.dirty || panel.context.model.collaborative) {
        await saveNotebook(panel, trans);
      }
      await client.notebookSaved(requestId);
    } catch (reason) {
      // The server goes on with what is on disk, and says so.
      console.warn('A notebook could not be saved for a batch job.', reason);
    }
  }

  private readonly _options: SaveResponder.IOptions;
}

export namespace SaveResponder {
  export interface IOptions {
    client: Pick<BatchClient, 'notebookSaved'>;
    contents: Contents.IManager;
    events: Event.IManager;
    tracker: INotebookTracker;
    trans: TranslationBundle;
  }
}
