import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import React from 'react';
import { CaptureRow, LimitRow, ProfileRow, QueueRow } from './choices';
import {
  chosenProfile,
  chosenQueue,
  chosenResume,
  distinctProblems
} from './form';
import type { SubmitModel } from './model';
import { ParametersForm } from './parameters';
import { PlanProblem, PlanView } from './plan';
import type { IProblem, ProblemPlace } from './problem';
import { ProblemBox } from './problemBox';
import { ResumeRow } from './resume';
import { Row } from './row';

/**
 * The body of the submit dialog.
 */
export class SubmitBody extends ReactWidget {
  constructor(private readonly _model: SubmitModel) {
    super();
    this.addClass('jp-AiBatchSubmit-body');
  }

  protected override render(): React.JSX.Element {
    return (
      <UseSignal signal={this._model.changed}>
        {() => <SubmitView model={this._model} />}
      </UseSignal>
    );
  }
}

/**
 * The form as it is now.
 */
export function SubmitView(props: {
  readonly model: SubmitModel;
}): React.JSX.Element {
  const { model } = props;
  const { state, trans, errors } = model;
  const { form, refusal } = state;
  const distinct = distinctProblems(state);
  return (
    <div className="jp-AiBatchSubmit">
      <Row id="jp-ai-batch-title" label={trans.__('Title')}>
        {control => (
          <input
            {...control}
            type="text"
            className="jp-mod-styled"
            maxLength={200}
            value={form.title}
            onChange={event => {
              model.update({ title: event.target.value });
            }}
          />
        )}
      </Row>
      <QueueRow
        trans={trans}
        queues={state.queues}
        chosen={chosenQueue(state)}
        distinct={distinct}
        error={refusalAt(refusal, 'queue')}
        onChange={queue => {
          model.update({ queue });
        }}
      />
      <ProfileRow
        trans={trans}
        profiles={state.profiles}
        chosen={chosenProfile(state)}
        distinct={distinct}
        error={refusalAt(refusal, 'profile')}
        onChange={profile => {
          model.update({ profile });
        }}
      />
      <ParametersForm
        trans={trans}
        parameters={state.parameters}
        inputs={form.inputs}
        errors={errors}
        distinct={distinct}
        refusal={refusal?.place === 'parameters' ? refusal : null}
        onChange={(name, input) => {
          model.setParameter(name, input);
        }}
      />
      <LimitRow
        trans={trans}
        limit={form.limit}
        profile={chosenProfile(state)}
        error={errors.get('limit') ?? null}
        onChange={limit => {
          model.update({ limit });
        }}
      />
      <ResumeRow
        trans={trans}
        resume={chosenResume(state)}
        onChange={resume => {
          model.update({ resume });
        }}
      />
      <ReplaceRow model={model} />
      <CaptureSection model={model} />
      {refusal?.place === 'dialog' && <ProblemBox problem={refusal} />}
      <div className="jp-AiBatchSubmit-note" role="status">
        {state.submitting ? trans.__('Submitting…') : ''}
      </div>
    </div>
  );
}

function ReplaceRow(props: { readonly model: SubmitModel }): React.JSX.Element {
  const { model } = props;
  const { trans } = model;
  return (
    <Row
      id="jp-ai-batch-replace"
      label={trans.__('Executed notebook')}
      note={
        model.state.form.replaceNotebook
          ? trans.__(
              'It comes back in place of this one, unless you change this one in the meantime.'
            )
          : trans.__('It comes back beside this one, under a name of its own.')
      }
    >
      {control => (
        <label className="jp-AiBatchSubmit-check" htmlFor={control.id}>
          <input
            {...control}
            type="checkbox"
            checked={model.state.form.replaceNotebook}
            onChange={event => {
              model.update({ replaceNotebook: event.target.checked });
            }}
          />
          {trans.__('Replace this notebook')}
        </label>
      )}
    </Row>
  );
}

function CaptureSection(props: {
  readonly model: SubmitModel;
}): React.JSX.Element {
  const { model } = props;
  const { state, trans } = model;
  const ways = {
    trans,
    // Automatic has tried the folder already.
    canNarrow: state.form.captureFrom === 'root',
    onCaptureFolder: () => {
      model.update({ captureFrom: 'folder' });
    },
    onRetry: () => {
      void model.plan();
    }
  };
  return (
    <>
      <CaptureRow
        trans={trans}
        captureFrom={state.form.captureFrom}
        plan={state.plan}
        onChange={captureFrom => {
          model.update({ captureFrom });
        }}
      />
      <PlanView {...ways} plan={state.plan} />
      {state.refusal?.place === 'plan' && (
        <PlanProblem {...ways} problem={state.refusal} />
      )}
    </>
  );
}

function refusalAt(
  refusal: IProblem | null,
  place: ProblemPlace
): string | null {
  if (refusal?.place !== place) {
    return null;
  }
  return refusal.hint ? `${refusal.message} ${refusal.hint}` : refusal.message;
}
