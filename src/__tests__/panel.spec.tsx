import { nullTranslator } from '@jupyterlab/translation';
import { UseSignal } from '@jupyterlab/ui-components';
import { act, fireEvent, render, screen, within } from '@testing-library/react';
import React from 'react';
import type { ISubmissionActions } from '../components/actions';
import { PanelView } from '../components/panel/view';
import { SubmissionManager } from '../manager';
import { FakeClient } from './fakeClient';
import { queues } from '../wire';
import { makeQueue, makeSubmission, readSample } from './samples';

const trans = nullTranslator.load('test');

/**
 * Actions that note what they were asked for.
 */
function makeActions(): { actions: ISubmissionActions; asked: string[] } {
  const asked: string[] = [];
  const note = (verb: string) => (submission: { id: string }) => {
    asked.push(`${verb} ${submission.id}`);
  };
  return {
    asked,
    actions: {
      open: note('open'),
      openResults: note('openResults'),
      showLog: note('showLog'),
      showDetails: note('showDetails'),
      collect: note('collect'),
      exportManifest: note('exportManifest'),
      resubmit: note('resubmit'),
      cancel: (submission, ask) => {
        asked.push(`cancel ${submission.id}${ask ? ' asking' : ''}`);
      }
    }
  };
}

describe('PanelView', () => {
  let server: FakeClient;
  let manager: SubmissionManager;

  async function show(): Promise<string[]> {
    manager = new SubmissionManager({
      client: server.client,
      intervalMs: 3_600_000,
      standby: 'never'
    });
    await manager.ready;
    const { actions, asked } = makeActions();
    const note = (verb: string) => () => {
      asked.push(verb);
    };
    render(
      <UseSignal signal={manager.submissionsChanged}>
        {() => (
          <PanelView
            manager={manager}
            actions={actions}
            onRefresh={note('refresh')}
            onSettings={note('settings')}
            onSubmit={note('submit')}
            onLoadMore={note('more')}
            trans={trans}
          />
        )}
      </UseSignal>
    );
    return asked;
  }

  const rowOf = (title: string) => {
    const row = screen.getAllByText(title)[0].closest('[role="row"]');
    expect(row).not.toBeNull();
    return row as HTMLElement;
  };

  beforeEach(() => {
    server = new FakeClient();
  });

  afterEach(() => {
    manager.dispose();
  });

  it('says in one sentence what to do when there is nothing', async () => {
    const asked = await show();
    expect(screen.getByText(/You have no batch jobs yet/)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Submit as batch' }));
    expect(asked).toEqual(['submit']);
  });

  it.each([
    ['local', 'Jobs run on this machine.'],
    ['kueue', 'Jobs run in the cluster, in queue first of the shared pool.']
  ])(
    'says before anything else where jobs of %s run',
    async (backend, words) => {
      server.queueReadings = [makeQueue('first', backend)];
      await show();
      expect(screen.getByText(words)).toBeTruthy();
      expect(screen.getByText(/You have no batch jobs yet/)).toBeTruthy();
    }
  );

  it('keeps saying it while the queue does not answer', async () => {
    server.queueReadings = [makeQueue('first', 'kueue')];
    await show();
    server.queuesDown = true;
    await act(() => manager.refresh());
    expect(screen.getByText('The queue does not answer.')).toBeTruthy();
    expect(screen.getByText(/^Jobs run in the cluster/)).toBeTruthy();
  });

  it('draws who holds the pool, and says it to who cannot see it', async () => {
    server.queueReadings = queues(readSample('queues.json'), 'sample').queues;
    await show();
    const pool = screen.getByRole('img', { name: /^Pool of 7 slots/ });
    expect(pool.getAttribute('aria-label')).toBe(
      'Pool of 7 slots (nvidia.com/mig-1g.5gb): 3 yours, 2 batch of others, 1 interactive, 1 free'
    );
    for (const label of ['3 yours', '2 batch of others', '1 free']) {
      expect(within(pool).getByText(label)).toBeTruthy();
    }
    expect(screen.getByText('Your recent share: 0.9 slots')).toBeTruthy();
    expect(screen.getByText(/half of that is forgotten/)).toBeTruthy();
    expect(screen.getAllByRole('img', { name: /^Pool/ })).toHaveLength(1);
  });

  it('shows the state as a word, progress as text and bar', async () => {
    server.put(
      makeSubmission('a', 'running', {
        title: 'train',
        progress: { cell: 7, of: 12, cell_started_at: null }
      })
    );
    await show();
    const row = rowOf('train');
    expect(within(row).getByText('Running · cell 7 of 12')).toBeTruthy();
    expect(
      within(row)
        .getByRole('progressbar', { name: 'cell 7 of 12' })
        .getAttribute('aria-valuenow')
    ).toBe('50');
  });

  it('offers what a state allows, and nothing else', async () => {
    server.put(
      makeSubmission('q', 'queued'),
      makeSubmission('f', 'failed', {
        executed_notebook: 'x.ipynb',
        attempts: [
          {
            number: 1,
            admitted_at: '2026-11-20T14:00:00Z',
            started_at: null,
            ended_at: null,
            ended_by: 'failed',
            ended_because: '',
            saved_at: null,
            time_lost_s: 0
          }
        ]
      })
    );
    const asked = await show();
    const names = (title: string) =>
      within(rowOf(title))
        .getAllByRole('button')
        .map(button => button.getAttribute('aria-label'));
    expect(names('q')).toEqual(['Show details of q', 'Cancel q']);
    expect(names('f')).toEqual([
      'Open result of f',
      'Show log of f',
      'Show details of f',
      'Submit f again'
    ]);
    fireEvent.click(screen.getByRole('button', { name: 'Cancel q' }));
    expect(asked).toEqual(['cancel q']);
  });

  it('has one tab stop and moves it with the arrows', async () => {
    server.put(
      makeSubmission('a', 'running', { created_at: '2026-11-20T14:00:03Z' }),
      makeSubmission('b', 'queued', { created_at: '2026-11-20T14:00:02Z' }),
      makeSubmission('c', 'failed', { created_at: '2026-11-20T14:00:01Z' })
    );
    await show();
    const stops = [
      ...screen.getByRole('grid').querySelectorAll<HTMLElement>('[data-roving]')
    ];
    expect(stops.map(stop => stop.tabIndex)).toEqual([0, -1, -1, -1]);
    act(() => {
      stops[0].focus();
    });
    fireEvent.keyDown(stops[0], { key: 'ArrowDown' });
    expect(document.activeElement).toBe(stops[1]);
    expect(stops.map(stop => stop.tabIndex)).toEqual([-1, 0, -1, -1]);
    fireEvent.keyDown(stops[1], { key: 'End' });
    expect(document.activeElement).toBe(stops[3]);
    fireEvent.keyDown(stops[3], { key: 'Home' });
    fireEvent.keyDown(stops[0], { key: 'ArrowRight' });
    expect(document.activeElement?.getAttribute('aria-label')).toBe(
      'Show details of a'
    );
  });

  it('opens with Enter and asks to cancel with Delete', async () => {
    server.put(makeSubmission('a', 'running'), makeSubmission('f', 'failed'));
    const asked = await show();
    fireEvent.keyDown(rowOf('a'), { key: 'Enter' });
    fireEvent.keyDown(rowOf('a'), { key: 'Delete' });
    fireEvent.keyDown(rowOf('f'), { key: 'Delete' });
    expect(asked).toEqual(['open a', 'cancel a asking']);
  });

  it('groups what is over by notebook and folds a group', async () => {
    server.put(
      makeSubmission('x', 'failed', { notebook_path: 'one.ipynb' }),
      makeSubmission('y', 'succeeded', { notebook_path: 'one.ipynb' })
    );
    await show();
    const group = screen.getByRole('button', { name: /one\.ipynb \(2\)/ });
    expect(group.getAttribute('aria-expanded')).toBe('true');
    fireEvent.click(group);
    expect(screen.queryByText('x')).toBeNull();
    expect(group.getAttribute('aria-expanded')).toBe('false');
  });

  it('finds by words and by state, and says when nothing matches', async () => {
    server.put(
      makeSubmission('alpha', 'failed'),
      makeSubmission('beta', 'running')
    );
    await show();
    const search = screen.getByRole('searchbox');
    fireEvent.change(search, { target: { value: 'ALP train' } });
    expect(screen.queryByText('beta')).toBeNull();
    expect(screen.getByText('alpha')).toBeTruthy();
    fireEvent.change(screen.getByRole('combobox'), {
      target: { value: 'running' }
    });
    expect(screen.getByText(/No batch job here matches/)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Show all' }));
    expect(screen.getByText('beta')).toBeTruthy();
  });

  it('says since when the rows are old, and why', async () => {
    server.put(makeSubmission('a', 'running'));
    server.queuesDown = true;
    const asked = await show();
    expect(screen.getByText(/The queue does not answer/)).toBeTruthy();
    expect(screen.getByRole('grid').className).toContain('jp-mod-stale');
    fireEvent.click(screen.getByRole('button', { name: 'Try now' }));
    expect(asked).toEqual(['refresh']);
  });
});
