import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import { nullTranslator } from '@jupyterlab/translation';
import { saveNotebook, SaveResponder, serverPath } from '../saving';
import { EVENT_SCHEMAS } from '../tokens';
import { FakeEvents } from './fakeClient';

const trans = nullTranslator.load('test');

const contents = {
  driveName: (path: string) => (path.includes(':') ? path.split(':')[0] : ''),
  localPath: (path: string) => path.split(':').pop()!
} as unknown as Contents.IManager;

/**
 * An open notebook that counts how often it is saved.
 */
function makePanel(
  path: string,
  options: { dirty?: boolean; fails?: boolean; writable?: boolean } = {}
): { panel: NotebookPanel; saves: () => number } {
  let saves = 0;
  const context = {
    path,
    ready: Promise.resolve(),
    contentsModel: { writable: options.writable ?? true },
    model: { dirty: options.dirty ?? false, collaborative: false },
    save: async () => {
      saves += 1;
      if (options.fails === true) {
        throw new Error('disk full');
      }
    }
  };
  return { panel: { context } as unknown as NotebookPanel, saves: () => saves };
}

describe('serverPath', () => {
  it('leaves out what only the browser knows', () => {
    expect(serverPath('RTC:a/b.ipynb', contents, trans)).toBe('a/b.ipynb');
    expect(serverPath('a/b.ipynb', contents, trans)).toBe('a/b.ipynb');
  });

  it('refuses a drive that the server cannot read', () => {
    expect(() => serverPath('S3:b.ipynb', contents, trans)).toThrow(
      'lies on the drive “S3”'
    );
  });
});

describe('saveNotebook', () => {
  it('saves, and says so when that fails', async () => {
    const good = makePanel('a.ipynb');
    await saveNotebook(good.panel, trans);
    expect(good.saves()).toBe(1);
    const bad = makePanel('a.ipynb', { fails: true });
    await expect(saveNotebook(bad.panel, trans)).rejects.toMatchObject({
      code: 'notebook_not_saved'
    });
  });

  it.each([
    ['saves once where that is enough', false, 1],
    ['saves again what was changed meanwhile', true, 2]
  ])('%s, never twice at the same time', async (_, dirty, expected) => {
    const { panel, saves } = makePanel('a.ipynb', { dirty });
    const save = panel.context.save.bind(panel.context);
    let running = 0;
    panel.context.save = async () => {
      expect(++running).toBe(1);
      await new Promise(resolve => setTimeout(resolve));
      await save();
      running--;
    };
    await Promise.all([saveNotebook(panel, trans), saveNotebook(panel, trans)]);
    expect(saves()).toBe(expected);
  });

  it('takes a file as it is that nobody may write and nobody changed', async () => {
    const { panel, saves } = makePanel('a.ipynb', { writable: false });
    await saveNotebook(panel, trans);
    expect(saves()).toBe(0);
  });
});

describe('SaveResponder', () => {
  async function ask(
    panels: NotebookPanel[],
    data: Record<string, string>
  ): Promise<string[]> {
    const events = new FakeEvents();
    const answered: string[] = [];
    const tracker = {
      find: (test: (panel: NotebookPanel) => boolean) => panels.find(test)
    } as unknown as INotebookTracker;
    new SaveResponder({
      client: {
        notebookSaved: async id => {
          answered.push(id);
        }
      },
      contents,
      events: events.manager,
      tracker,
      trans
    });
    events.stream.emit({ schema_id: EVENT_SCHEMAS.saveRequest, ...data });
    await new Promise(resolve => setTimeout(resolve));
    return answered;
  }

  it('saves what is open and changed, then answers', async () => {
    const { panel, saves } = makePanel('RTC:a.ipynb', { dirty: true });
    const data = { request_id: 'r', notebook_path: 'a.ipynb' };
    expect(await ask([panel], data)).toEqual(['r']);
    expect(saves()).toBe(1);
  });

  it('is silent about notebooks that are not open here', async () => {
    const { panel } = makePanel('other.ipynb', { dirty: true });
    const data = { request_id: 'r', notebook_path: 'a.ipynb' };
    expect(await ask([panel], data)).toEqual([]);
  });

  it('is silent about events without sense', async () => {
    const { panel } = makePanel('a.ipynb');
    expect(await ask([panel], { request_id: 'r' })).toEqual([]);
  });

  it('does not claim to have saved what it could not save', async () => {
    const warn = jest
      .spyOn(console, 'warn')
      .mockImplementation(() => undefined);
    const { panel } = makePanel('a.ipynb', { dirty: true, fails: true });
    const data = { request_id: 'r', notebook_path: 'a.ipynb' };
    expect(await ask([panel], data)).toEqual([]);
    warn.mockRestore();
  });
});
