/**
 * The extension of JupyterLab and Notebook 7.
 */
export * from './tokens';
