"""The notebook that a run executes: read, given its parameters, and written as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import nbjson

from ..errors import NotebookInvalidError
from ..parameters import INJECTED_TAG, find_parameters_cell, render_parameters

NBFORMAT = 4
FIRST_MINOR_WITH_IDS = 5


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook as nbformat 4; code cells start without outputs.

    Raises:
        NotebookInvalidError: not there, not a notebook, or of a newer major format.
    """
    try:
        problems: dict[str, Any] = {}
        notebook: nbformat.NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
            path.read_text(encoding="utf-8"), as_version=NBFORMAT, capture_validation_error=problems
        )
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as exc:
        raise NotebookInvalidError(f"The notebook {path.name} cannot be read.", details={"reason": str(exc)}) from exc
    return notebook


def inject_parameters(notebook: nbformat.NotebookNode, values: Mapping[str, Any], language: str) -> None:
    """Put a cell with ``values`` after the tagged one, in place of an earlier injected one (papermill's rule).

    Raises:
        ParametersInvalidError: the language cannot express them.
    """
    if not values:
        return
    cell = nbformat.v4.new_code_cell(  # type: ignore[no-untyped-call]
        source=render_parameters(values, language), metadata={"tags": [INJECTED_TAG]}
    )
    if notebook.nbformat_minor < FIRST_MINOR_WITH_IDS:
        cell.pop("id", None)
    for index, present in enumerate(notebook.cells):
        if present.cell_type == "code" and INJECTED_TAG in present.metadata.get("tags", []):
            notebook.cells[index] = cell
            return
    tagged = find_parameters_cell(notebook)
    notebook.cells.insert(0 if tagged is None else tagged.index + 1, cell)


def write_notebook(notebook: nbformat.NotebookNode) -> bytes:
    """The text that Jupyter itself would save."""
    text: str = nbjson.writes(notebook)  # type: ignore[no-untyped-call]
    return (text + "\n").encode("utf-8", "replace")
