import type { JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { ISubmissionActions } from './components/actions';
import { DetailsWidget } from './components/details/detailsWidget';
import { LogWidget } from './components/log/logWidget';
import { shortId } from './format';
import { batchIcon, logIcon } from './icons';
import type { ISubmission } from './models';
import type { IBatchSettings, ISubmissionManager } from './tokens';

export type LogPage = MainAreaWidget<LogWidget>;
export type DetailsPage = MainAreaWidget<DetailsWidget>;

/**
 * Logs and details in the main area: one page of each for a Submission.
 */
export class SubmissionPages {
  constructor(private readonly _options: SubmissionPages.IOptions) {}

  readonly logs = new WidgetTracker<LogPage>({ namespace: 'ai-batch-log' });

  readonly details = new WidgetTracker<DetailsPage>({
    namespace: 'ai-batch-details'
  });

  showLog(id: string): void {
    const open = this.logs.find(page => page.content.submissionId === id);
    if (open !== undefined) {
      this._options.app.shell.activateById(open.id);
      return;
    }
    const { manager, settings, trans } = this._options;
    const content = new LogWidget({
      submissionId: id,
      manager,
      trans,
      wrap: settings.wrapLog
    });
    const page = new MainAreaWidget({ content });
    const title = manager.find(id)?.title ?? shortId(id);
    page.id = `ai-batch-log-${id}`;
    page.title.label = trans.__('Log: %1', title);
    page.title.icon = logIcon;
    this._add(page);
    void this.logs.add(page);
  }

  showDetails(id: string): void {
    const open = this.details.find(page => page.content.submissionId === id);
    if (open !== undefined) {
      this._options.app.shell.activateById(open.id);
      return;
    }
    const { actions, manager, onDownload, trans } = this._options;
    const content = new DetailsWidget({
      submissionId: id,
      manager,
      actions,
      onDownload,
      trans
    });
    const page = new MainAreaWidget({ content });
    page.id = `ai-batch-details-${id}`;
    page.title.label = manager.find(id)?.title ?? shortId(id);
    page.title.caption = trans.__('Details of a batch job');
    page.title.icon = batchIcon;
    this._add(page);
    void this.details.add(page);
  }

  private _add(page: MainAreaWidget): void {
    const { shell } = this._options.app;
    page.content.toggleClass('jp-mod-down', this._options.area === 'down');
    page.title.closable = true;
    page.toolbar.hide();
    shell.add(page, this._options.area);
    shell.activateById(page.id);
  }
}

export namespace SubmissionPages {
  export interface IOptions {
    app: JupyterFrontEnd;
    actions: ISubmissionActions;
    /** Where pages go: Notebook 7 has room for one document only in `main`. */
    area: 'main' | 'down';
    manager: ISubmissionManager;
    onDownload: (submission: ISubmission, path: string) => void;
    settings: IBatchSettings;
    trans: TranslationBundle;
  }
}

/**
 * Hand a file to the browser's downloads.
 */
export function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement('a');
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  // Some browsers read the blob only after the click has been handled.
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 60_000);
}
