"""What an admin configured for the server, read for commands that run without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG_NAMES = ("jupyter_config", "jupyter_server_config", "jupyter_jupyterlab_ai_batch_config")
SECTION = "BatchExtensionApp"


def read_traits() -> Mapping[str, Any]:
    """The section ``BatchExtensionApp`` of Jupyter's configuration files, the user's over the system's."""
    from jupyter_core.paths import jupyter_config_path
    from traitlets.config import Config

    found = Config()
    for directory in reversed(jupyter_config_path()):
        for name in CONFIG_NAMES:
            _merge_directory(found, Path(directory), name)
    section = found.get(SECTION, {})
    return {name: value for name, value in section.items() if isinstance(name, str)}


def _merge_directory(found: Any, directory: Path, name: str) -> None:
    from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

    fragments = sorted((directory / f"{name}.d").glob("*.json"))
    loaders: list[Any] = [JSONFileConfigLoader(path.name, str(path.parent)) for path in fragments]
    loaders += [PyFileConfigLoader(f"{name}.py", str(directory)), JSONFileConfigLoader(f"{name}.json", str(directory))]
    for loader in loaders:
        try:
            found.merge(loader.load_config())
        except ConfigFileNotFound:  # noqa: PERF203
            continue


def default_data_dir() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "ai-batch"
