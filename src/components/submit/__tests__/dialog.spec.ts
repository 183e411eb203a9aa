import { fireEvent, waitFor, within } from '@testing-library/dom';
import { BatchApiError } from '../../../errors';
import type { ISubmission } from '../../../models';
import { makeQueue } from '../../../__tests__/samples';
import { openSubmitDialog } from '..';
import { FakeServices, PARAMETERS, PLAN, SUBMISSION } from './fakes';

/** Lab's dialogs have no `open` attribute: to jsdom, which knows none of Lab's styles, they are hidden. */
const HIDDEN = { hidden: true };

let services: FakeServices;

function open(): Promise<ISubmission | null> {
  return openSubmitDialog({
    services,
    notebookPath: 'digits/train digits é.ipynb',
    stateDB: null
  });
}

async function dialogNode(): Promise<HTMLElement> {
  return waitFor(() => {
    const node = document.querySelector<HTMLElement>('.jp-Dialog');
    expect(node?.querySelector('#jp-ai-batch-title')).toBeTruthy();
    return node!;
  });
}

function press(node: Element, key: string): void {
  fireEvent.keyDown(node, { key });
}

describe('openSubmitDialog', () => {
  beforeEach(() => {
    services = new FakeServices();
  });

  afterEach(async () => {
    document.querySelectorAll('.jp-Dialog').forEach(node => {
      press(node, 'Escape');
    });
  });

  it('submits on Enter with the defaults, and returns the Submission', async () => {
    const result = open();
    const node = await dialogNode();
    const title = node.querySelector<HTMLInputElement>('#jp-ai-batch-title')!;
    expect(title.value).toBe('train digits é');
    press(title, 'Enter');
    expect(await result).toEqual(SUBMISSION);
    expect(document.querySelector('.jp-Dialog')).toBeNull();
  });

  it.each([
    [false, null],
    [true, false]
  ])(
    'asks what an interruption means; the notebook says %s',
    async (resume, unticked) => {
      services.answerParameters = () =>
        Promise.resolve({ ...PARAMETERS, resume });
      const result = open();
      const node = await dialogNode();
      const group = within(node).getByRole('radiogroup', {
        name: 'If evicted',
        ...HIDDEN
      });
      const choice = (name: string) =>
        within(group).getByRole<HTMLInputElement>('radio', { name, ...HIDDEN });
      await waitFor(() => {
        expect(choice('continue from saved files').checked).toBe(resume);
      });
      expect(choice('start again').checked).toBe(!resume);
      if (unticked === false) {
        fireEvent.click(choice('start again'));
      }
      press(node.querySelector('#jp-ai-batch-title')!, 'Enter');
      await result;
      expect(services.submitted[0].request.resume).toBe(unticked);
    }
  );

  it('returns null on Escape and submits nothing', async () => {
    const result = open();
    press(await dialogNode(), 'Escape');
    expect(await result).toBeNull();
    expect(services.submitted).toEqual([]);
  });

  it('says that it runs on this machine', async () => {
    void open();
    const node = await dialogNode();
    await waitFor(() => {
      expect(node.textContent).toContain('Runs onthis machine');
    });
  });

  it('names the queue of the cluster, and sends the one that is chosen', async () => {
    services.answerQueues = () =>
      Promise.resolve([
        makeQueue('batch', 'kueue'),
        makeQueue('night', 'kueue')
      ]);
    const result = open();
    const dialog = within(await dialogNode());
    const choice = await dialog.findByLabelText<HTMLSelectElement>('Runs on');
    expect([...choice.options].map(option => option.text)).toEqual([
      'the cluster, queue batch',
      'the cluster, queue night'
    ]);
    fireEvent.change(choice, { target: { value: 'night' } });
    press(choice, 'Enter');
    await result;
    expect(services.submitted[0].request.queue).toBe('night');
  });

  it('shows a typed field for each parameter', async () => {
    void open();
    const view = within(await dialogNode());
    await view.findByLabelText('epochs');
    const kinds = PARAMETERS.parameters.map(parameter => {
      const field = view.getByLabelText(parameter.name);
      return field instanceof HTMLInputElement ? field.type : field.tagName;
    });
    expect(kinds).toEqual(['checkbox', 'text', 'text', 'text', 'TEXTAREA']);
    expect(
      view.getByLabelText('layers').getAttribute('aria-describedby')
    ).toBeTruthy();
  });

  it('does not submit on Enter in a text area', async () => {
    void open();
    const view = within(await dialogNode());
    const area = await view.findByLabelText('layers');
    area.focus();
    press(area, 'Enter');
    await Promise.resolve();
    expect(services.submitted).toEqual([]);
  });

  it('marks and focuses a field that cannot be read', async () => {
    void open();
    const node = await dialogNode();
    const field = await within(node).findByLabelText('epochs');
    fireEvent.change(field, { target: { value: 'many' } });
    press(field, 'Enter');
    const alert = await within(node).findByRole('alert', HIDDEN);
    expect(alert.textContent).toContain('whole number');
    expect(field.getAttribute('aria-invalid')).toBe('true');
    expect(field.getAttribute('aria-describedby')).toContain(alert.id);
    await waitFor(() => {
      expect(document.activeElement).toBe(field);
    });
  });

  it('says size, new bytes, secrets and findings of the plan', async () => {
    void open();
    const node = await dialogNode();
    await waitFor(() => {
      expect(node.textContent).toContain('environment unchanged');
    });
    expect(node.textContent).toContain('31,204 files');
    expect(node.textContent).toContain('2 files look like secrets');
    expect(node.textContent).toContain('.aws/credentials, .netrc');
    expect(node.textContent).toContain('notes/keys.txt, line 3: password');
    expect(node.querySelector('details')?.open).toBe(false);
  });

  it('offers the notebook’s folder when everything is too large', async () => {
    services.answerPlan = () =>
      Promise.resolve({ ...PLAN, work_bytes: 9e9, limit_bytes: 2e9 });
    void open();
    const node = await dialogNode();
    const view = within(node);
    const alert = await view.findByRole('alert', HIDDEN);
    expect(alert.textContent).toContain('9.0 GB');
    expect(alert.textContent).toContain('data, 61 MB');
    expect(alert.textContent).toContain('.batchignore');
    expect(view.queryByText(/folder only/)).toBeNull();

    press(view.getByLabelText('Title'), 'Enter');
    await waitFor(() => {
      expect(services.planned).toHaveLength(2);
    });
    expect(services.submitted).toEqual([]);

    fireEvent.change(view.getByLabelText('Take files from'), {
      target: { value: 'root' }
    });
    const way = await view.findByText(/folder only/);
    services.answerPlan = () => Promise.resolve(PLAN);
    fireEvent.click(way);
    await view.findByText(/environment unchanged/);
    expect(services.planned.at(-1)?.capture_from).toBe('folder');
  });

  it('stays open with message and hint when the server refuses', async () => {
    services.answerSubmit = () =>
      Promise.reject(
        new BatchApiError('There is no notebook here.', {
          code: 'notebook_missing',
          hint: 'Save it first.'
        })
      );
    void open();
    const node = await dialogNode();
    fireEvent.click(within(node).getByText('Submit'));
    const alert = await within(node).findByRole('alert', HIDDEN);
    expect(alert.textContent).toContain('There is no notebook here.');
    expect(alert.textContent).toContain('Save it first.');
  });

  it('says once what several calls fail of', async () => {
    const unreachable = () =>
      Promise.reject(
        new BatchApiError('The server cannot be reached.', {
          code: 'server_unreachable'
        })
      );
    services.answerParameters = unreachable;
    services.answerPlan = unreachable;
    services.client.profiles = unreachable;
    services.client.queues = unreachable;
    void open();
    const node = await dialogNode();
    await within(node).findByRole('button', { name: 'Check again', ...HIDDEN });
    const alerts = within(node).getAllByText('The server cannot be reached.');
    expect(alerts).toHaveLength(2);
    expect(within(node).getAllByText(/for the same reason/)).toHaveLength(2);
  });

  it('does not close on a click beside it', async () => {
    void open();
    const node = await dialogNode();
    fireEvent.mouseDown(node);
    fireEvent.click(node);
    expect(node.isConnected).toBe(true);
  });
});
