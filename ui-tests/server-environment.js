const path = require('path');

/**
 * Environment of a test server: everything that Jupyter, IPython or we would write goes below `home`.
 *
 * @param {string} home An existing directory of the test's own
 * @param {number} port
 */
function serverEnvironment(home, port) {
  return {
    ...process.env,
    UI_TEST_HOME: home,
    UI_TEST_PORT: String(port),
    HOME: home,
    XDG_CACHE_HOME: path.join(home, '.cache'),
    JUPYTER_CONFIG_DIR: path.join(home, '.jupyter'),
    JUPYTER_DATA_DIR: path.join(home, '.local', 'share', 'jupyter'),
    JUPYTER_RUNTIME_DIR: path.join(home, '.runtime'),
    IPYTHONDIR: path.join(home, '.ipython'),
    MPLCONFIGDIR: path.join(home, '.config', 'matplotlib'),
    JUPYTERLAB_GALATA_ROOT_DIR: path.join(home, 'notebooks')
  };
}

module.exports = { serverEnvironment };
