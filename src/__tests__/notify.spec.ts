import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { BatchApiError } from '../client';
import type { SubmissionState } from '../models';
import { Notifier } from '../notify';
import { BatchSettings } from '../settings';
import { makeSubmission } from './samples';

const trans = nullTranslator.load('test');

describe('Notifier', () => {
  let notifier: Notifier;
  let settings: BatchSettings;

  const shown = () =>
    Notification.manager.notifications.map(item => item.message);
  const change = (before: SubmissionState, after: SubmissionState) => {
    notifier.transition({
      before: makeSubmission('job', before),
      after: makeSubmission('job', after)
    });
  };

  beforeEach(() => {
    Notification.manager.dismiss();
    settings = new BatchSettings();
    notifier = new Notifier({
      commands: new CommandRegistry(),
      settings,
      trans
    });
  });

  it('tells of ends and interruptions, not of every step', () => {
    change('queued', 'starting');
    change('starting', 'running');
    change('running', 'collecting');
    change('running', 'cancelling');
    expect(shown()).toEqual([]);
    change('collecting', 'succeeded');
    change('running', 'failed');
    change('evicting', 'queued');
    expect(shown()).toHaveLength(3);
  });

  it('obeys the settings', () => {
    Object.defineProperty(settings, 'notifyOnSuccess', { value: false });
    change('running', 'succeeded');
    expect(shown()).toEqual([]);
  });

  it('says in the same toast when the capture is done', () => {
    const submission = makeSubmission('job', 'capturing');
    notifier.submitted(submission);
    expect(shown()[0]).toContain('being captured');
    change('capturing', 'queued');
    expect(shown()).toEqual([
      '“job” is captured: edits from now on do not reach the job.'
    ]);
  });

  it('keeps messages short enough to be read whole', () => {
    notifier.transition({
      before: makeSubmission('job', 'running'),
      after: makeSubmission('job', 'failed', {
        title: 'n'.repeat(300),
        explanation: {
          code: 'cell_failed',
          summary: 'w'.repeat(300),
          resolution: '',
          raw_reason: null,
          since: null
        }
      })
    });
    expect(shown()[0].length).toBeLessThanOrEqual(120);
  });

  it('offers to try again only what may succeed later', () => {
    const labels = () =>
      Notification.manager.notifications[0].options.actions?.map(
        action => action.label
      );
    notifier.failure(
      new BatchApiError('No.', { code: 'x', hint: 'Do this.' }),
      () => undefined
    );
    expect(labels()).toEqual(['Details']);
    notifier.failure(
      new BatchApiError('Not now.', { code: 'x', retryable: true }),
      () => undefined
    );
    expect(labels()).toEqual(['Try again']);
  });
});
