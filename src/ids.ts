/**
 * Identifiers of the commands.
 */
export namespace CommandIDs {
  /** Args: `path` (optional): an API path; the active notebook otherwise. */
  export const submitNotebook = 'ai-batch:submit-notebook';

  /** The file that was clicked or is selected in the file browser. */
  export const submitFile = 'ai-batch:submit-file';

  export const showPanel = 'ai-batch:show-panel';
  export const refreshList = 'ai-batch:refresh-list';
  export const openSettings = 'ai-batch:open-settings';
  export const showError = 'ai-batch:show-error';

  // The following take `id`: a Submission; the row under the context menu otherwise.
  export const openResults = 'ai-batch:open-results';
  export const openNotebook = 'ai-batch:open-notebook';
  export const showLog = 'ai-batch:show-log';
  export const showDetails = 'ai-batch:show-details';
  export const collect = 'ai-batch:collect-outputs';
  export const resubmit = 'ai-batch:resubmit-notebook';
  export const cancel = 'ai-batch:cancel-submission';
  export const exportManifest = 'ai-batch:export-manifest';
  export const copyId = 'ai-batch:copy-id';
}

/**
 * Classes and ids of our widgets.
 */
export const PANEL_ID = 'ai-batch-panel';
export const ROW_CLASS = 'jp-AiBatch-row';
