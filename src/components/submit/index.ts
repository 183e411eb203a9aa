/**
 * The submit dialog.
 *
 * `openSubmitDialog` hands in the notebook itself, because a refusal keeps the dialog open: it returns the accepted
 * Submission, so its callers must not submit again.
 */
import type { IStateDB } from '@jupyterlab/statedb';
import type { ITranslator } from '@jupyterlab/translation';
import type { ISubmission } from '../../models';
import type { ISubmitDefaults } from '../../tokens';
import { SubmitDialog } from './dialog';
import type { ISubmitServices } from './model';

export type { ISubmitServices } from './model';

/**
 * What the dialog is opened with.
 */
export interface ISubmitDialogOptions {
  /** An `ISubmissionManager`. */
  readonly services: ISubmitServices;
  /** API path of the saved notebook, without a drive. */
  readonly notebookPath: string;
  /** Defaults to the notebook's name without its ending. */
  readonly title?: string;
  readonly translator?: ITranslator | null;
  /** The user's settings; the choices of last time win over them. */
  readonly defaults?: ISubmitDefaults;
  /** Where the choices are remembered for each notebook. */
  readonly stateDB: IStateDB | null;
}

/**
 * Ask how a notebook is to run, and submit it.
 *
 * The dialog opens at once; profiles, parameters and the plan fill in as they arrive.
 *
 * @returns the accepted Submission; `null` when the user cancelled
 */
export function openSubmitDialog(
  options: ISubmitDialogOptions
): Promise<ISubmission | null> {
  return ask(
    new SubmitDialog({
      ...options,
      title: options.title ?? notebookTitle(options.notebookPath)
    })
  );
}

async function ask(dialog: SubmitDialog): Promise<ISubmission | null> {
  // Dialogs dispose of themselves when they close.
  await dialog.launch();
  return dialog.submission;
}

function notebookTitle(path: string): string {
  return (path.split('/').pop() ?? path).replace(/\.ipynb$/, '');
}
