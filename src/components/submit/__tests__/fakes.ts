import type { IStateDB } from '@jupyterlab/statedb';
import type { ReadonlyPartialJSONValue } from '@lumino/coreutils';
import parametersJSON from '../../../../tests/wire/parameters.json';
import planJSON from '../../../../tests/wire/plan.json';
import profilesJSON from '../../../../tests/wire/profiles.json';
import queuesJSON from '../../../../tests/wire/queues.json';
import submissionJSON from '../../../../tests/wire/submission.json';
import type {
  INotebookParameters,
  IProfile,
  IQueueReading,
  ISnapshotPlan,
  ISubmission,
  ISubmissionRequest
} from '../../../models';
import * as wire from '../../../wire';
import type { ISubmitServices } from '../model';

export const SUBMISSION: ISubmission = wire.submission(
  submissionJSON,
  'submission'
);
export const PLAN: ISnapshotPlan = wire.snapshotPlan(planJSON, 'plan');
export const PARAMETERS: INotebookParameters = wire.notebookParameters(
  parametersJSON,
  'parameters'
);

/**
 * A server that answers from the sample bodies, and keeps what it was asked.
 */
export class FakeServices implements ISubmitServices {
  readonly submitted: { request: ISubmissionRequest; key: string }[] = [];
  readonly planned: ISubmissionRequest[] = [];
  readonly cancelled: string[] = [];

  /** Replace any of these to refuse, or to answer later. */
  answerSubmit = (): Promise<ISubmission> => Promise.resolve(SUBMISSION);
  answerPlan = (): Promise<ISnapshotPlan> => Promise.resolve(PLAN);
  answerParameters = (): Promise<INotebookParameters> =>
    Promise.resolve(PARAMETERS);

  answerQueues = (): Promise<readonly IQueueReading[]> =>
    Promise.resolve(wire.queues(queuesJSON, 'queues').queues);

  readonly client: ISubmitServices['client'] = {
    parameters: () => this.answerParameters(),
    plan: (request: ISubmissionRequest) => {
      this.planned.push(request);
      return this.answerPlan();
    },
    profiles: (): Promise<readonly IProfile[]> =>
      Promise.resolve(wire.profiles(profilesJSON, 'profiles').profiles),
    queues: () => this.answerQueues()
  };

  submit(request: ISubmissionRequest, key: string): Promise<ISubmission> {
    this.submitted.push({ request, key });
    return this.answerSubmit();
  }

  cancel(id: string): Promise<ISubmission> {
    this.cancelled.push(id);
    return Promise.resolve({ ...SUBMISSION, state: 'cancelling' });
  }
}

/**
 * A state database in memory.
 */
export function fakeStateDB(): IStateDB {
  const entries = new Map<string, ReadonlyPartialJSONValue>();
  return {
    fetch: id => Promise.resolve(entries.get(id)),
    list: () => Promise.resolve({ ids: [], values: [] }),
    remove: id => {
      entries.delete(id);
      return Promise.resolve();
    },
    save: (id, value) => {
      entries.set(id, value);
      return Promise.resolve();
    },
    toJSON: () => Promise.resolve({})
  };
}
