import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { fireEvent, render, screen, waitFor } from '@testing-library/react';
import React from 'react';
import { SubmissionCommands, submissionActions } from '../commands';
import { DetailsView } from '../components/details/view';
import { SubmissionDetails } from '../details';
import { SubmissionManager } from '../manager';
import type { ISubmission } from '../models';
import { Notifier } from '../notify';
import { BatchSettings } from '../settings';
import { submission as read } from '../wire';
import { FakeClient } from './fakeClient';
import { makeSubmission, readSample } from './samples';

const trans = nullTranslator.load('test');
const SNAPSHOT = read(readSample('submission.json'), 'sample').snapshot;
const CLUSTER: Partial<ISubmission> = {
  backend: 'kueue',
  target: 'kueue',
  queue: 'batch',
  notebook_path: 'study/train.ipynb',
  snapshot: SNAPSHOT
};

describe('DetailsView', () => {
  let manager: SubmissionManager;
  let downloads: (readonly [string, string])[];

  async function show(fields: Partial<ISubmission>): Promise<void> {
    const server = new FakeClient();
    server.put(makeSubmission('0123456789ab', 'queued', fields));
    manager = new SubmissionManager({
      client: server.client,
      intervalMs: 3_600_000,
      standby: 'never'
    });
    await manager.ready;
    const commands = new CommandRegistry();
    const settings = new BatchSettings();
    new SubmissionCommands({
      commands,
      manager,
      notifier: new Notifier({ commands, settings, trans }),
      trans,
      idUnderMenu: () => undefined,
      showLog: () => undefined,
      showDetails: () => undefined,
      download: (text, name) => downloads.push([name, text])
    });
    render(
      <DetailsView
        details={new SubmissionDetails(manager, '0123456789ab')}
        actions={submissionActions(commands)}
        onDownload={() => undefined}
        trans={trans}
      />
    );
  }

  const fact = (name: string) =>
    screen.getByText(name, { selector: 'dt' }).nextElementSibling?.textContent;

  const exportButton = () =>
    screen.queryByRole('button', { name: 'Export YAML' });

  beforeEach(() => {
    downloads = [];
  });

  afterEach(() => {
    manager.dispose();
  });

  it('says in which queue of the cluster it runs', async () => {
    await show(CLUSTER);
    expect([fact('Runs on'), fact('Queue')]).toEqual(['the cluster', 'batch']);
  });

  it('downloads the YAML of what a cluster has', async () => {
    await show(CLUSTER);
    fireEvent.click(exportButton()!);
    await waitFor(() => {
      expect(downloads).toEqual([
        ['train.batch-01234567.yaml', 'name: 0123456789ab\n']
      ]);
    });
  });

  it.each([
    ['that runs on this machine', { snapshot: SNAPSHOT }],
    ['that is not captured yet', { ...CLUSTER, snapshot: null }]
  ])('offers no YAML of a Submission %s', async (_, fields) => {
    await show(fields);
    expect(fact('Runs on')).not.toBe('');
    expect(exportButton()).toBeNull();
  });
});
