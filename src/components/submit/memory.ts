/**
 * The last choices for each notebook, kept in Lab's state database.
 */
import type { IStateDB } from '@jupyterlab/statedb';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { CaptureFrom } from '../../models';
import type { ISubmitDefaults } from '../../tokens';

const PREFIX = 'jupyterlab-ai-batch:submit:';

const CAPTURE_FROM: readonly CaptureFrom[] = ['auto', 'root', 'folder'];

/**
 * Read what was chosen for this notebook last time; an entry of another shape counts as none.
 */
export async function recall(
  state: IStateDB | null,
  notebookPath: string
): Promise<ISubmitDefaults> {
  try {
    return parseChoice(await state?.fetch(PREFIX + notebookPath));
  } catch (reason) {
    console.warn('Cannot read the last choices for this notebook.', reason);
    return {};
  }
}

/**
 * Keep the choices of a Submission that was accepted.
 */
export async function remember(
  state: IStateDB | null,
  notebookPath: string,
  choice: ISubmitDefaults
): Promise<void> {
  try {
    await state?.save(
      PREFIX + notebookPath,
      choice as unknown as ReadonlyPartialJSONObject
    );
  } catch (reason) {
    console.warn('Cannot keep the choices for this notebook.', reason);
  }
}

/**
 * Take the fields that have the right type, ignore the others.
 */
export function parseChoice(value: unknown): ISubmitDefaults {
  if (typeof value !== 'object' || value === null) {
    return {};
  }
  const entry = value as Readonly<Record<string, unknown>>;
  const { title, profile, queue, max_duration_s: limit, parameters } = entry;
  const captureFrom = CAPTURE_FROM.find(name => name === entry.capture_from);
  return {
    ...(typeof title === 'string' && { title }),
    ...(typeof profile === 'string' && { profile }),
    ...(typeof queue === 'string' && { queue }),
    ...(typeof limit === 'number' && limit >= 1 && { max_duration_s: limit }),
    ...(captureFrom !== undefined && { capture_from: captureFrom }),
    ...(typeof entry.replace_notebook === 'boolean' && {
      replace_notebook: entry.replace_notebook
    }),
    ...(typeof entry.resume === 'boolean' && { resume: entry.resume }),
    ...(typeof parameters === 'object' &&
      parameters !== null &&
      !Array.isArray(parameters) && {
        parameters: parameters as Readonly<Record<string, unknown>>
      })
  };
}
