import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import type { INotebookParameters, IParameter } from '../../models';
import type { FieldInput } from './fields';
import { type FieldErrors, type Loadable, parameterField } from './form';
import type { IProblem } from './problem';
import { ProblemBox, ProblemOnce } from './problemBox';
import { Fact, type IControlProps, Row } from './row';

/**
 * One typed field for every parameter of the notebook's tagged cell.
 */
export function ParametersForm(
  props: ParametersForm.IProps
): React.JSX.Element {
  const { trans, parameters } = props;
  const label = trans.__('Parameters');
  switch (parameters.status) {
    case 'loading':
      return <Fact label={label}>{trans.__('Reading the notebook…')}</Fact>;
    case 'failed':
      return (
        <Fact label={label}>
          <ProblemOnce {...props} problem={parameters.problem} />
        </Fact>
      );
    case 'ready':
      return parameters.value.parameters.length === 0 ? (
        <Fact label={label}>
          <span className="jp-AiBatchSubmit-note">
            {trans.__(
              'None. Tag a cell “parameters” to set its values here for each run.'
            )}
          </span>
        </Fact>
      ) : (
        <ParameterFields {...props} list={parameters.value.parameters} />
      );
  }
}

export namespace ParametersForm {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly parameters: Loadable<INotebookParameters>;
    readonly inputs: ReadonlyMap<string, FieldInput>;
    readonly errors: FieldErrors;
    readonly distinct: ReadonlySet<IProblem>;
    /** What the server says about parameters. */
    readonly refusal: IProblem | null;
    readonly onChange: (name: string, input: FieldInput) => void;
  }
}

function ParameterFields(
  props: ParametersForm.IProps & { readonly list: readonly IParameter[] }
): React.JSX.Element {
  const { trans, refusal } = props;
  return (
    <fieldset className="jp-AiBatchSubmit-parameters">
      <legend>{trans.__('Parameters')}</legend>
      {props.list.map((parameter, index) => (
        <ParameterField
          key={parameter.name}
          id={`jp-ai-batch-parameter-${index}`}
          parameter={parameter}
          input={props.inputs.get(parameter.name) ?? ''}
          error={
            props.errors.get(parameterField(parameter.name)) ??
            (refusal?.parameter === parameter.name ? refusal.message : null)
          }
          onChange={props.onChange}
        />
      ))}
      {refusal?.parameter === null && <ProblemBox problem={refusal} />}
    </fieldset>
  );
}

function ParameterField(props: IParameterFieldProps): React.JSX.Element {
  const { parameter, error } = props;
  return (
    <Row
      id={props.id}
      label={parameter.name}
      note={parameter.help}
      error={error}
    >
      {control => <ParameterControl {...props} control={control} />}
    </Row>
  );
}

function ParameterControl(
  props: IParameterFieldProps & { readonly control: IControlProps }
): React.JSX.Element {
  const { parameter, input, control, onChange } = props;
  const text = typeof input === 'string' ? input : '';
  switch (parameter.type) {
    case 'bool':
      return (
        <input
          {...control}
          type="checkbox"
          checked={input === true}
          onChange={event => {
            onChange(parameter.name, event.target.checked);
          }}
        />
      );
    case 'json':
      return (
        <textarea
          {...control}
          className="jp-mod-styled jp-AiBatchSubmit-json"
          rows={Math.min(8, Math.max(1, text.split('\n').length))}
          spellCheck={false}
          value={text}
          onChange={event => {
            onChange(parameter.name, event.target.value);
          }}
        />
      );
    case 'int':
    case 'float':
    case 'str':
      return (
        <input
          {...control}
          type="text"
          className="jp-mod-styled"
          // Text, not number: a browser hides what it cannot read as a number, and the user could not correct it.
          inputMode={INPUT_MODES[parameter.type]}
          autoComplete="off"
          spellCheck={false}
          value={text}
          onChange={event => {
            onChange(parameter.name, event.target.value);
          }}
        />
      );
  }
}

const INPUT_MODES = { int: 'numeric', float: 'decimal', str: 'text' } as const;

interface IParameterFieldProps {
  readonly id: string;
  readonly parameter: IParameter;
  readonly input: FieldInput;
  readonly error: string | null;
  readonly onChange: (name: string, input: FieldInput) => void;
}
