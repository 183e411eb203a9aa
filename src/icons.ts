import {
  checkIcon,
  closeIcon,
  errorIcon,
  LabIcon,
  runIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { SubmissionState } from './models';

function draw(name: string, paths: string): LabIcon {
  return new LabIcon({
    name: `jupyterlab-ai-batch:${name}`,
    svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><g class="jp-icon3" fill="#616161">${paths}</g></svg>`
  });
}

/**
 * The product: sheets that leave to the right.
 */
export const batchIcon = draw(
  'batch',
  '<path d="M3 4h10v2H5v10H3z"/><path d="M7 8h8v2H9v8h6v2H7z"/><path d="M15.5 9.5 20 14l-4.5 4.5-1.4-1.4 2.1-2.1H11v-2h5.2l-2.1-2.1z"/>'
);

/**
 * Lines of text.
 */
export const logIcon = draw(
  'log',
  '<path d="M4 5h16v2H4zm0 4h11v2H4zm0 4h16v2H4zm0 4h9v2H4z"/>'
);

/**
 * Start the same again.
 */
export const resubmitIcon = draw(
  'resubmit',
  '<path d="M12 5V2L7.5 6 12 10V7a5 5 0 1 1-5 5H5a7 7 0 1 0 7-7z"/>'
);

/**
 * Bring home.
 */
export const collectIcon = draw(
  'collect',
  '<path d="M12 3 3 10.5h2.5V20H10v-2H7.5V9.4L12 5.6l4.5 3.8V18H14v2h4.5v-9.5H21z"/><path d="M11 10h2v6h2.5L12 20l-3.5-4H11z"/>'
);

/**
 * All about one.
 */
export const detailsIcon = draw(
  'details',
  '<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14z"/><path d="M11 7h2v2h-2zm0 4h2v6h-2z"/>'
);

const captureIcon = draw(
  'capture',
  '<path d="M11 3h2v8h3.5L12 16l-4.5-5H11z"/><path d="M4 14h2v5h12v-5h2v7H4z"/>'
);

const queuedIcon = draw(
  'queued',
  '<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14z"/><path d="M11 7h2v5.2l3.3 2-1 1.6L11 13.2z"/>'
);

const blockedIcon = draw(
  'blocked',
  '<path d="M8 3h8l5 5v8l-5 5H8l-5-5V8zm.8 2L5 8.8v6.4L8.8 19h6.4l3.8-3.8V8.8L15.2 5z"/><path d="M8 9h2.5v6H8zm5.5 0H16v6h-2.5z"/>'
);

const startingIcon = draw(
  'starting',
  '<path d="M7 4.5 19 12 7 19.5zM9 8v8l6.3-4z"/>'
);

const evictingIcon = draw(
  'evicting',
  '<path d="M10 6 4 12l6 6v-4h4V10h-4z"/><path d="M16 5h4v14h-4v-2h2V7h-2z"/>'
);

/**
 * The icon of a state; always shown with the state's word.
 */
export function stateIcon(state: SubmissionState): LabIcon {
  switch (state) {
    case 'capturing':
      return captureIcon;
    case 'queued':
      return queuedIcon;
    case 'blocked':
      return blockedIcon;
    case 'starting':
      return startingIcon;
    case 'running':
      return runIcon;
    case 'evicting':
      return evictingIcon;
    case 'cancelling':
      return stopIcon;
    case 'collecting':
      return collectIcon;
    case 'succeeded':
      return checkIcon;
    case 'failed':
      return errorIcon;
    case 'cancelled':
      return closeIcon;
  }
}
