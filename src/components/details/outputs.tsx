import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';
import { formatBytes } from '../../format';
import type { FileChange, IOutputFile, IOutputSet } from '../../models';

/**
 * Every file that came out, with a download of the job's own version.
 */
export function Outputs(props: {
  readonly outputs: IOutputSet;
  readonly onDownload: (path: string) => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { outputs, trans } = props;
  return (
    <>
      {!outputs.complete && (
        <p>{trans.__('These were saved while it ran: more may follow.')}</p>
      )}
      <table className="jp-AiBatch-table">
        <thead>
          <tr>
            <th scope="col">{trans.__('File')}</th>
            <th scope="col">{trans.__('Change')}</th>
            <th scope="col">{trans.__('Size')}</th>
            <th scope="col">{trans.__('Get')}</th>
          </tr>
        </thead>
        <tbody>
          {outputs.files.map(file => (
            <OutputLine key={file.path} file={file} {...props} />
          ))}
        </tbody>
      </table>
      {outputs.skipped.map(([path, reason]) => (
        <p key={path}>{trans.__('Not stored: %1 (%2)', path, reason)}</p>
      ))}
    </>
  );
}

function OutputLine(props: {
  readonly file: IOutputFile;
  readonly onDownload: (path: string) => void;
  readonly trans: TranslationBundle;
}): React.JSX.Element {
  const { file, trans } = props;
  const stored = file.change !== 'deleted' && file.link_target === null;
  return (
    <tr>
      <td className="jp-AiBatch-path">{file.path}</td>
      <td>{changeWord(file.change, trans)}</td>
      <td>{stored ? formatBytes(file.size_bytes, trans) : ''}</td>
      <td>
        {stored && (
          <button
            type="button"
            className="jp-AiBatch-link"
            aria-label={trans.__('Download %1', file.path)}
            onClick={() => {
              props.onDownload(file.path);
            }}
          >
            {trans.__('Download')}
          </button>
        )}
      </td>
    </tr>
  );
}

function changeWord(change: FileChange, trans: TranslationBundle): string {
  switch (change) {
    case 'new':
      return trans.__('new');
    case 'changed':
      return trans.__('changed');
    case 'deleted':
      return trans.__('deleted');
  }
}
