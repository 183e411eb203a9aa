import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

const NAME = 'jp-ai-batch-resume';

/**
 * What happens after an interruption: from the start, or with the files that were saved.
 */
export function ResumeRow(props: {
  readonly trans: TranslationBundle;
  readonly resume: boolean;
  readonly onChange: (resume: boolean) => void;
}): React.JSX.Element {
  const { trans, resume } = props;
  const choices: readonly (readonly [boolean, string])[] = [
    [false, trans.__('start again')],
    [true, trans.__('continue from saved files')]
  ];
  return (
    <div className="jp-AiBatchSubmit-row">
      <div className="jp-AiBatchSubmit-label" id={`${NAME}-label`}>
        {trans.__('If evicted')}
      </div>
      <div className="jp-AiBatchSubmit-control">
        <div
          role="radiogroup"
          className="jp-AiBatchSubmit-choices"
          aria-labelledby={`${NAME}-label`}
          aria-describedby={`${NAME}-note`}
        >
          {choices.map(([value, label]) => (
            <label key={label} className="jp-AiBatchSubmit-check">
              <input
                type="radio"
                name={NAME}
                checked={resume === value}
                onChange={() => {
                  props.onChange(value);
                }}
              />
              {label}
            </label>
          ))}
        </div>
        <div className="jp-AiBatchSubmit-note" id={`${NAME}-note`}>
          {resume
            ? trans.__(
                'All cells run again, with the files of the last try in place: the notebook has to look for its own checkpoints.'
              )
            : trans.__('All cells run again, with the files of now.')}
        </div>
      </div>
    </div>
  );
}
