import { Dialog } from '@jupyterlab/apputils';
import type { ISubmission } from '../../models';
import { SubmitModel } from './model';
import { SubmitBody } from './view';

/**
 * A dialog that closes only when the server has accepted the Submission, or on Cancel.
 */
export class SubmitDialog extends Dialog<void> {
  constructor(options: SubmitModel.IOptions) {
    const model = new SubmitModel(options);
    const title = model.trans.__(
      'Submit %1 as a batch job',
      model.notebookPath.split('/').pop() ?? model.notebookPath
    );
    super({
      title,
      body: new SubmitBody(model),
      buttons: [
        Dialog.cancelButton({ label: model.trans.__('Cancel') }),
        Dialog.okButton({
          label: model.trans.__('Submit'),
          caption: model.trans.__('Submit (Enter)')
        })
      ],
      focusNodeSelector: '#jp-ai-batch-title'
    });
    this.addClass('jp-AiBatchSubmitDialog');
    this.node.setAttribute('aria-label', title);
    this._model = model;
    model.changed.connect(this._onChanged, this);
    void model.load();
  }

  /** The Submission that the server has accepted; `null` before that. */
  get submission(): ISubmission | null {
    return this._submission;
  }

  override dispose(): void {
    this._model.dispose();
    super.dispose();
  }

  /**
   * Cancel closes; Submit asks the server first.
   */
  override resolve(index?: number): void {
    if (index === CANCEL) {
      super.resolve(index);
      return;
    }
    void this._submit();
  }

  /**
   * Enter submits from every field, but does what it should in a text area, on a button of the form and on Details.
   */
  protected override _evtKeydown(event: KeyboardEvent): void {
    if (event.key === 'Enter' && event.isComposing) {
      return;
    }
    const isOwn =
      event.target instanceof Element &&
      event.target.closest('.jp-AiBatchSubmit-body') !== null &&
      event.target.matches('textarea, button, summary');
    if (isOwn && KEYS_OF_CONTROLS.has(event.key)) {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.resolve();
      }
      return;
    }
    super._evtKeydown(event);
  }

  /**
   * A click beside the dialog does not throw away what was typed.
   */
  protected override _evtClick(event: MouseEvent): void {
    const content = this.node.querySelector('.jp-Dialog-content');
    if (content?.contains(event.target as Node) === true) {
      super._evtClick(event);
      return;
    }
    event.stopPropagation();
    event.preventDefault();
  }

  private async _submit(): Promise<void> {
    const submission = await this._model.submit();
    if (this.isDisposed) {
      return;
    }
    if (submission !== null) {
      this._submission = submission;
      super.resolve(SUBMIT);
      return;
    }
    this._showProblem();
  }

  /**
   * Bring the problem into view, once React has drawn it: usually by the next
   * frame, later on a busy machine.
   */
  private _showProblem(frames = MAX_FRAMES): void {
    requestAnimationFrame(() => {
      const shown = this.node.querySelector<HTMLElement>(
        '[aria-invalid="true"], [role="alert"]'
      );
      if (shown === null) {
        if (frames > 0 && !this.isDisposed) {
          this._showProblem(frames - 1);
        }
        return;
      }
      const field = this.node.querySelector<HTMLElement>(
        '[aria-invalid="true"]'
      );
      if (field !== null) {
        field.focus();
      } else {
        shown.scrollIntoView({ block: 'nearest' });
      }
    });
  }

  private _onChanged(): void {
    const submit = this.node.querySelector<HTMLButtonElement>(
      '.jp-Dialog-footer .jp-mod-accept'
    );
    submit?.setAttribute('aria-disabled', String(this._model.state.submitting));
  }

  private readonly _model: SubmitModel;
  private _submission: ISubmission | null = null;
}

const MAX_FRAMES = 60;
const CANCEL = 0;
const SUBMIT = 1;

const KEYS_OF_CONTROLS: ReadonlySet<string> = new Set([
  'Enter',
  'ArrowLeft',
  'ArrowRight'
]);
