import * as fs from 'fs';
import * as path from 'path';
import type { IQueueReading, ISubmission, SubmissionState } from '../models';
import { submission } from '../wire';

/**
 * A sample body that the Python tests read too.
 */
export function readSample(name: string): unknown {
  const file = path.resolve(__dirname, '../../tests/wire', name);
  return JSON.parse(fs.readFileSync(file, 'utf-8')) as unknown;
}

/**
 * A reading of a queue that is idle.
 */
export function makeQueue(
  name: string,
  backend: string,
  fields: Partial<IQueueReading> = {}
): IQueueReading {
  return {
    name,
    backend,
    slots: backend === 'local' ? 1 : null,
    busy: 0,
    waiting: 0,
    gpu_slots: 0,
    gpu_busy: 0,
    observed_at: null,
    pool: null,
    share: null,
    ...fields
  };
}

/**
 * A Submission as the server sends it, with the given fields.
 */
export function makeSubmission(
  id: string,
  state: SubmissionState,
  fields: Partial<ISubmission> = {}
): ISubmission {
  return {
    ...submission(
      {
        id,
        state,
        title: id,
        notebook_path: 'work/train.ipynb',
        backend: 'local',
        target: 'local',
        profile: 'default',
        queue: 'local',
        created_at: '2026-11-20T14:00:00.000Z',
        observed_at: '2026-11-20T14:01:00.000Z'
      },
      'sample'
    ),
    ...fields
  };
}
