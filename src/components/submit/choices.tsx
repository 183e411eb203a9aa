import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatPlace, formatProfile, formatQueue } from '../../format';
import type {
  CaptureFrom,
  IProfile,
  IQueueReading,
  ISnapshotPlan
} from '../../models';
import { formatLimit, OFFERED_LIMITS_S } from './duration';
import type { LimitChoice, Loadable } from './form';
import type { IProblem } from './problem';
import { ProblemOnce } from './problemBox';
import { Fact, Row } from './row';

/**
 * Where it runs: a choice where there is one, otherwise the plain fact.
 */
export function QueueRow(props: QueueRow.IProps): React.JSX.Element {
  const { trans, queues, chosen, error } = props;
  const label = trans.__('Runs on');
  if (queues.status === 'failed') {
    return (
      <Fact label={label}>
        <ProblemOnce {...props} problem={queues.problem} />
      </Fact>
    );
  }
  if (queues.status === 'loading' || chosen === null) {
    return <Fact label={label}>{trans.__('Asking the queue…')}</Fact>;
  }
  if (queues.value.length < 2) {
    return (
      <Fact label={label}>
        {formatPlace(chosen, trans)}
        <span className="jp-AiBatchSubmit-aside">
          {formatQueue(chosen, trans)}
        </span>
      </Fact>
    );
  }
  return (
    <Row
      id="jp-ai-batch-queue"
      label={label}
      note={formatQueue(chosen, trans)}
      error={error}
    >
      {control => (
        <select
          {...control}
          className="jp-mod-styled"
          value={chosen.name}
          onChange={event => {
            props.onChange(event.target.value);
          }}
        >
          {queues.value.map(queue => (
            <option key={queue.name} value={queue.name}>
              {formatPlace(queue, trans)}
            </option>
          ))}
        </select>
      )}
    </Row>
  );
}

export namespace QueueRow {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly queues: Loadable<readonly IQueueReading[]>;
    readonly chosen: IQueueReading | null;
    readonly error: string | null;
    readonly distinct: ReadonlySet<IProblem>;
    readonly onChange: (name: string) => void;
  }
}

/**
 * How much of the machine it gets.
 */
export function ProfileRow(props: ProfileRow.IProps): React.JSX.Element {
  const { trans, profiles, chosen, error } = props;
  const label = trans.__('Profile');
  if (profiles.status === 'failed') {
    return (
      <Fact label={label}>
        <ProblemOnce {...props} problem={profiles.problem} />
      </Fact>
    );
  }
  if (profiles.status === 'loading' || chosen === null) {
    return <Fact label={label}>{trans.__('Asking what there is…')}</Fact>;
  }
  return (
    <Row
      id="jp-ai-batch-profile"
      label={label}
      note={profileResources(chosen, trans)}
      error={error}
    >
      {control => (
        <select
          {...control}
          className="jp-mod-styled"
          value={chosen.name}
          onChange={event => {
            props.onChange(event.target.value);
          }}
        >
          {profiles.value.map(profile => (
            <option key={profile.name} value={profile.name}>
              {profile.title}
            </option>
          ))}
        </select>
      )}
    </Row>
  );
}

export namespace ProfileRow {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly profiles: Loadable<readonly IProfile[]>;
    readonly chosen: IProfile | null;
    readonly error: string | null;
    readonly distinct: ReadonlySet<IProblem>;
    readonly onChange: (name: string) => void;
  }
}

/**
 * How long one Attempt may run.
 */
export function LimitRow(props: LimitRow.IProps): React.JSX.Element {
  const { trans, limit, profile, error } = props;
  const isCustom = typeof limit === 'object' && limit !== null;
  return (
    <Row
      id="jp-ai-batch-limit"
      label={trans.__('Time limit')}
      error={isCustom ? null : error}
    >
      {control => (
        <div className="jp-AiBatchSubmit-pair">
          <select
            {...control}
            className="jp-mod-styled"
            value={isCustom ? 'custom' : String(limit ?? 'profile')}
            onChange={event => {
              props.onChange(toLimit(event.target.value));
            }}
          >
            <option value="profile">{profileLimit(profile, trans)}</option>
            {OFFERED_LIMITS_S.map(seconds => (
              <option key={seconds} value={String(seconds)}>
                {formatLimit(seconds)}
              </option>
            ))}
            <option value="custom">{trans.__('Other…')}</option>
          </select>
          {isCustom && <CustomLimit {...props} text={limit.text} />}
        </div>
      )}
    </Row>
  );
}

export namespace LimitRow {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly limit: LimitChoice;
    readonly profile: IProfile | null;
    readonly error: string | null;
    readonly onChange: (limit: LimitChoice) => void;
  }
}

function CustomLimit(
  props: LimitRow.IProps & { readonly text: string }
): React.JSX.Element {
  const { trans, error } = props;
  return (
    <div className="jp-AiBatchSubmit-control">
      <input
        id="jp-ai-batch-limit-text"
        type="text"
        className="jp-mod-styled"
        aria-label={trans.__('Your time limit, for example 90 min or 1 d 12 h')}
        aria-invalid={error ? true : undefined}
        aria-describedby={error ? 'jp-ai-batch-limit-text-error' : undefined}
        placeholder={trans.__('90 min')}
        autoFocus={props.text === ''}
        value={props.text}
        onChange={event => {
          props.onChange({ text: event.target.value });
        }}
      />
      {error && (
        <div
          className="jp-AiBatchSubmit-error"
          id="jp-ai-batch-limit-text-error"
          role="alert"
        >
          <span aria-hidden="true">✕ </span>
          {error}
        </div>
      )}
    </div>
  );
}

/**
 * Which files go along.
 */
export function CaptureRow(props: CaptureRow.IProps): React.JSX.Element {
  const { trans, plan } = props;
  return (
    <Row
      id="jp-ai-batch-capture"
      label={trans.__('Take files from')}
      note={
        props.captureFrom === 'auto' && plan.status === 'ready'
          ? autoResult(plan.value.capture_from, trans)
          : null
      }
    >
      {control => (
        <select
          {...control}
          className="jp-mod-styled"
          value={props.captureFrom}
          onChange={event => {
            props.onChange(event.target.value as CaptureFrom);
          }}
        >
          <option value="auto">{trans.__('Automatic')}</option>
          <option value="root">
            {trans.__('Everything in the file browser')}
          </option>
          <option value="folder">{trans.__('The notebook’s folder')}</option>
        </select>
      )}
    </Row>
  );
}

export namespace CaptureRow {
  export interface IProps {
    readonly trans: TranslationBundle;
    readonly captureFrom: CaptureFrom;
    readonly plan: Loadable<ISnapshotPlan>;
    readonly onChange: (captureFrom: CaptureFrom) => void;
  }
}

function toLimit(value: string): LimitChoice {
  switch (value) {
    case 'profile':
      return null;
    case 'custom':
      return { text: '' };
    default:
      return Number(value);
  }
}

function autoResult(resolved: CaptureFrom, trans: TranslationBundle): string {
  return resolved === 'root'
    ? trans.__('Everything in the file browser: it is small enough.')
    : trans.__(
        'The notebook’s folder only: everything together is above the limit.'
      );
}

function profileLimit(
  profile: IProfile | null,
  trans: TranslationBundle
): string {
  const seconds = profile?.default_max_duration_s ?? null;
  return seconds === null
    ? trans.__('None')
    : trans.__('%1, as the profile says', formatLimit(seconds));
}

function profileResources(profile: IProfile, trans: TranslationBundle): string {
  const resources =
    formatProfile(profile, trans) || trans.__('No limit on CPU and memory');
  const facts =
    profile.available === null
      ? resources
      : trans.__('%1 · %2 free now', resources, profile.available);
  return profile.hint === '' ? facts : `${facts}. ${profile.hint}`;
}
