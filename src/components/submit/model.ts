import type { IStateDB } from '@jupyterlab/statedb';
import {
  type ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { UUID } from '@lumino/coreutils';
import type { IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';
import type { BatchClient } from '../../client';
import type {
  INotebookParameters,
  ISubmission,
  ISubmissionRequest
} from '../../models';
import { type ISubmitDefaults, TRANSLATION_DOMAIN } from '../../tokens';
import { type FieldInput, fits, toInput } from './fields';
import {
  buildChoice,
  buildRequest,
  type FieldErrors,
  findErrors,
  findTooLarge,
  initialForm,
  type ISubmitForm,
  type ISubmitState,
  LOADING,
  type Loadable
} from './form';
import { recall, remember } from './memory';
import { type ProblemPlace, toProblem } from './problem';

/**
 * What the dialog needs of the rest of the extension; an `ISubmissionManager` is one.
 */
export interface ISubmitServices {
  readonly client: Pick<
    BatchClient,
    'parameters' | 'plan' | 'profiles' | 'queues'
  >;
  submit(request: ISubmissionRequest, key: string): Promise<ISubmission>;
  cancel(id: string): Promise<ISubmission>;
}

/**
 * The submit dialog without its looks.
 *
 * It can be submitted at any moment: what has not arrived by then is left to the server.
 */
export class SubmitModel implements IDisposable {
  constructor(options: SubmitModel.IOptions) {
    this._services = options.services;
    this._stateDB = options.stateDB;
    this.notebookPath = options.notebookPath;
    this.trans = (options.translator ?? nullTranslator).load(
      TRANSLATION_DOMAIN
    );
    this._defaultTitle = options.title;
    this._state = {
      form: initialForm(options.title, options.defaults ?? {}),
      profiles: LOADING,
      queues: LOADING,
      parameters: LOADING,
      plan: LOADING,
      refusal: null,
      checked: false,
      submitting: false
    };
    this._wanted = { ...options.defaults?.parameters };
  }

  readonly notebookPath: string;
  readonly trans: TranslationBundle;

  /** Emitted when `state` is another record than before. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get state(): ISubmitState {
    return this._state;
  }

  /** Sentences for the fields that cannot be read; empty before the first try to submit. */
  get errors(): FieldErrors {
    return this._state.checked
      ? findErrors(this._state, this.trans)
      : new Map<string, string>();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /**
   * Give up everything that is under way.
   *
   * A Submission that the server accepts after this is cancelled: the user has closed the dialog.
   */
  dispose(): void {
    this._isDisposed = true;
    this._planning?.abort();
    Signal.clearData(this);
  }

  /**
   * Ask for everything at once; each part shows when it arrives. Never rejects.
   */
  load(): Promise<void> {
    this._loaded ??= this._load();
    return this._loaded;
  }

  /**
   * Change what is chosen.
   */
  update(patch: Partial<ISubmitForm>): void {
    for (const field of Object.keys(patch)) {
      this._touched.add(field);
    }
    const recapture =
      patch.captureFrom !== undefined &&
      patch.captureFrom !== this._state.form.captureFrom;
    this._set({ form: { ...this._state.form, ...patch }, refusal: null });
    if (recapture) {
      void this.plan();
    }
  }

  /**
   * Change one parameter.
   */
  setParameter(name: string, input: FieldInput): void {
    const inputs = new Map(this._state.form.inputs).set(name, input);
    this._set({ form: { ...this._state.form, inputs }, refusal: null });
  }

  /**
   * Ask, again, what would be captured. Never rejects.
   */
  async plan(): Promise<void> {
    this._planning?.abort();
    const planning = (this._planning = new AbortController());
    this._set({ plan: LOADING });
    const request: ISubmissionRequest = {
      notebook_path: this.notebookPath,
      capture_from: this._state.form.captureFrom
    };
    const plan = await this._settle(
      this._services.client.plan(request, planning.signal),
      'plan'
    );
    if (!planning.signal.aborted) {
      this._set({ plan });
    }
  }

  /**
   * Hand in the notebook.
   *
   * @returns the Submission; `null` when a field cannot be read, the files are too large, the server refused, or a try is already under way:
   * then `errors` and `state.refusal` say why, and nothing that was typed is lost.
   */
  async submit(): Promise<ISubmission | null> {
    if (this._state.submitting || this._isDisposed) {
      return null;
    }
    this._set({ submitting: true, refusal: null });
    await this._fieldsReady;
    this._set({ checked: true });
    if (this.errors.size > 0 || !(await this._fits())) {
      this._set({ submitting: false });
      return null;
    }
    const choice = buildChoice(this._state, this.trans);
    try {
      return await this._accepted(
        await this._services.submit(
          buildRequest(this.notebookPath, choice),
          this._key
        ),
        choice
      );
    } catch (reason) {
      this._set({
        submitting: false,
        refusal: toProblem(reason, this.trans)
      });
      return null;
    }
  }

  /**
   * Whether a capture can succeed as far as is known; asks again where it could not when the dialog last looked.
   */
  private async _fits(): Promise<boolean> {
    if (findTooLarge(this._state.plan, this.trans) === null) {
      return true;
    }
    await this.plan();
    const { plan } = this._state;
    return plan.status === 'ready' && findTooLarge(plan, this.trans) === null;
  }

  private async _accepted(
    submission: ISubmission,
    choice: Required<ISubmitDefaults>
  ): Promise<ISubmission | null> {
    if (this._isDisposed) {
      await this._services.cancel(submission.id);
      return null;
    }
    const { title, ...kept } = choice;
    await remember(this._stateDB, this.notebookPath, {
      ...kept,
      ...(title !== this._defaultTitle && { title })
    });
    return submission;
  }

  private async _load(): Promise<void> {
    const { client } = this._services;
    this._fieldsReady = this._loadFields();
    await Promise.all([
      this._fieldsReady,
      this._settle(client.profiles(this.notebookPath), 'profile').then(
        profiles => {
          this._set({ profiles });
        }
      ),
      this._settle(client.queues(), 'queue').then(queues => {
        this._set({ queues });
      }),
      // A remembered capture root must be known before the plan is worth computing.
      this._recalled.then(() => this.plan())
    ]);
  }

  private async _loadFields(): Promise<void> {
    this._recalled = recall(this._stateDB, this.notebookPath).then(choice => {
      this._recall(choice);
    });
    const [parameters] = await Promise.all([
      this._settle(
        this._services.client.parameters(this.notebookPath),
        'parameters'
      ),
      this._recalled
    ]);
    this._set({ parameters });
    if (parameters.status === 'ready') {
      this._fill(parameters.value);
    }
  }

  /**
   * Take over what was chosen last time, except where the user was faster.
   */
  private _recall(choice: ISubmitDefaults): void {
    const last = initialForm(this._state.form.title, choice);
    const patch: Partial<Record<keyof ISubmitForm, unknown>> = {
      ...(choice.title !== undefined && { title: choice.title }),
      ...(choice.profile !== undefined && { profile: last.profile }),
      ...(choice.queue !== undefined && { queue: last.queue }),
      ...(choice.max_duration_s !== undefined && { limit: last.limit }),
      ...(choice.capture_from !== undefined && {
        captureFrom: last.captureFrom
      }),
      ...(choice.replace_notebook !== undefined && {
        replaceNotebook: last.replaceNotebook
      }),
      ...(choice.resume !== undefined && { resume: last.resume })
    };
    const kept = Object.entries(patch).filter(
      ([field]) => !this._touched.has(field)
    );
    this._wanted = { ...this._wanted, ...choice.parameters };
    this._set({
      form: {
        ...this._state.form,
        ...(Object.fromEntries(kept) as Partial<ISubmitForm>)
      }
    });
  }

  private _fill(notebook: INotebookParameters): void {
    const inputs = new Map<string, FieldInput>();
    for (const parameter of notebook.parameters) {
      const wanted = this._wanted[parameter.name];
      const usable = wanted !== undefined && fits(parameter, wanted);
      inputs.set(
        parameter.name,
        toInput(parameter, usable ? wanted : parameter.default)
      );
    }
    this._set({ form: { ...this._state.form, inputs } });
  }

  private async _settle<T>(
    answer: Promise<T>,
    place: ProblemPlace
  ): Promise<Loadable<T>> {
    try {
      return { status: 'ready', value: await answer };
    } catch (reason) {
      // An aborted call is nobody's problem: its result is dropped.
      return this._isDisposed || isAbort(reason)
        ? LOADING
        : { status: 'failed', problem: toProblem(reason, this.trans, place) };
    }
  }

  private _set(patch: Partial<ISubmitState>): void {
    if (this._isDisposed) {
      return;
    }
    this._state = { ...this._state, ...patch };
    this._changed.emit();
  }

  private readonly _services: ISubmitServices;
  private readonly _stateDB: IStateDB | null;
  private readonly _defaultTitle: string;
  private readonly _key = UUID.uuid4();
  private readonly _touched = new Set<string>();
  private readonly _changed = new Signal<this, void>(this);
  private _state: ISubmitState;
  private _wanted: Readonly<Record<string, unknown>>;
  private _loaded: Promise<void> | null = null;
  private _fieldsReady: Promise<void> = Promise.resolve();
  private _recalled: Promise<void> = Promise.resolve();
  private _planning: AbortController | null = null;
  private _isDisposed = false;
}

export namespace SubmitModel {
  export interface IOptions {
    services: ISubmitServices;
    /** API path, without a drive. */
    notebookPath: string;
    /** Title to start from. */
    title: string;
    translator?: ITranslator | null;
    /** The user's settings. */
    defaults?: ISubmitDefaults;
    /** Where the last choices are kept; `null` to forget them. */
    stateDB: IStateDB | null;
  }
}

function isAbort(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === 'AbortError';
}
