/**
 * What differs between a server that runs jobs itself and one in a cluster.
 */
export interface IPlace {
  /** In the panel, before anything was submitted. */
  readonly panel: string;
  /** In the dialog and in its list of queues. */
  readonly dialog: string;
  /** On the page of a Submission. */
  readonly details: string;
  readonly hasManifest: boolean;
}

const LOCAL: IPlace = {
  panel: 'Jobs run on this machine.',
  dialog: 'this machine',
  details: 'this machine',
  hasManifest: false
};

/** As tests/cluster/test_browser.py configures its session. */
const CLUSTER: IPlace = {
  panel:
    'Jobs run in the cluster, by default in queue batch.',
  dialog: 'the cluster, queue batch',
  details: 'the cluster',
  hasManifest: true
};

export const PLACE = process.env.UI_TEST_SERVER ? CLUSTER : LOCAL;
