"""Which notebook a command means, from where its path counts, and which kernel it wants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidSubmissionError, NotebookMissingError

DEFAULT_KERNEL = "python3"


def choose_notebook(path: Path) -> Path:
    """The notebook itself, or the one in a folder that was changed last.

    Raises:
        NotebookMissingError: there is none.
    """
    found = sorted(path.glob("*.ipynb"), key=lambda item: item.stat().st_mtime) if path.is_dir() else [path]
    if not found or not found[-1].is_file():
        raise NotebookMissingError(f"There is no notebook at '{path}'.", details={"path": str(path)})
    return found[-1]


def choose_root(notebook: Path, given: Path | None) -> Path:
    """The directory that API paths are relative to.

    Raises:
        NotebookMissingError: no such file.
        InvalidSubmissionError: the notebook is not below the directory that was given.
    """
    if not notebook.is_file():
        raise NotebookMissingError(f"There is no notebook '{notebook}'.", details={"path": str(notebook)})
    root = Path.cwd() / given if given is not None else Path.cwd()
    if notebook.is_relative_to(root) and ".." not in notebook.relative_to(root).parts:
        return root
    if given is not None:
        raise InvalidSubmissionError("The notebook is not below the directory given with --root.")
    return notebook.parent


def kernel_of(notebook: Mapping[str, Any]) -> str:
    """The name of the kernelspec that a notebook's metadata names, or the default one."""
    metadata = notebook.get("metadata")
    named = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) and name else DEFAULT_KERNEL
