"""What is measured: a notebook of about ten seconds and work trees of a given size."""

from __future__ import annotations

import json
import random
from pathlib import Path

CELL_COUNT = 10
MEBIBYTE = 1024 * 1024

SETUP = "import json, math, time\nfrom pathlib import Path\nresults = []"
# Busy for a fixed time rather than for fixed work: the overhead around it is measured, not this machine's mood.
STEP = """\
until = time.monotonic() + {seconds}
count = 0
while time.monotonic() < until:
    math.fsum(math.sin(i) for i in range(1000))
    count += 1
results.append(count)
print("step", len(results))"""
FINISH = "Path('results.json').write_text(json.dumps(results))"


def _code(source: str) -> dict[str, object]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def write_notebook(path: Path, *, seconds: float) -> Path:
    """A notebook that computes for ``seconds`` in ten cells, prints, and writes ``results.json``."""
    cells = [
        _code(SETUP),
        *(_code(STEP.format(seconds=seconds / CELL_COUNT)) for _ in range(CELL_COUNT)),
        _code(FINISH),
    ]
    notebook = {
        "cells": [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook))
    return path


def fill_tree(folder: Path, *, files: int, file_bytes: int, seed: int) -> None:
    """Write ``files`` incompressible files of ``file_bytes``, a hundred per directory; another seed changes all."""
    generator = random.Random(seed)  # noqa: S311 - reproducible bytes, not secrets
    for number in range(files):
        path = folder / f"part-{number // 100:03d}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generator.randbytes(file_bytes))
