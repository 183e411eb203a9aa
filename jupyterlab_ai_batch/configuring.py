"""What an admin configured for the server, read for commands that run without one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG_NAMES = ("jupyter_config", "jupyter_server_config", "jupyter_jupyterlab_ai_batch_config")
SECTION = "BatchExtensionApp"


def read_traits() -> Mapping[str, Any]:
    """The section ``BatchExtensionApp`` of Jupyter's configuration files, the user's over the system's."""
    from jupyter_core.paths import jupyter_config_path

    paths = [path for directory in reversed(jupyter_config_path()) for path in _config_files(Path(directory))]
    if any(path.suffix == ".py" for path in paths):
        return _load_with_traitlets(paths)
    found: dict[str, Any] = {}
    for path in paths:
        found.update(_section(path))
    return found


def _config_files(directory: Path) -> list[Path]:
    """Those that exist, in the order in which they count."""
    paths: list[Path] = []
    for name in CONFIG_NAMES:
        paths += sorted((directory / f"{name}.d").glob("*.json"))
        paths += [path for path in (directory / f"{name}.py", directory / f"{name}.json") if path.exists()]
    return paths


def _section(path: Path) -> dict[str, Any]:
    """As traitlets reads it, whose import takes longer than all the files."""
    section = json.loads(path.read_text(encoding="utf-8")).get(SECTION, {})
    return {name: value for name, value in section.items() if isinstance(name, str)}


def _load_with_traitlets(paths: Sequence[Path]) -> dict[str, Any]:
    from traitlets.config.loader import Config, ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

    found = Config()
    for path in paths:
        kind: Any = PyFileConfigLoader if path.suffix == ".py" else JSONFileConfigLoader
        try:
            found.merge(kind(path.name, str(path.parent)).load_config())
        except ConfigFileNotFound:
            continue
    return {name: value for name, value in found.get(SECTION, {}).items() if isinstance(name, str)}


def choose_data_dir(*named: str | Path | None) -> Path:
    """Where batch jobs are kept: the first directory that is named, else the default; absolute."""
    chosen = next((path for path in named if path), None)
    return Path.cwd() / Path(chosen or default_data_dir()).expanduser()


def default_data_dir() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "ai-batch"
