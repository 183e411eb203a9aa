"""Run the main job on a real example and show what comes home: ``.venv/bin/python tools/demo.py``.

The example is copied to ``demo-results/work``, with a data directory of its own beside it, and submitted there by the
command line, exactly as a user would. Ends with 0 only if the Submission succeeded and its files are there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from prepare import BIN, ROOT, environment

RESULTS = ROOT / "demo-results"
NOTEBOOK = "train-digits.ipynb"


def fresh_directory() -> Path:
    """``demo-results/<time>/work``, with nothing in it but the example."""
    work = RESULTS / time.strftime("%Y%m%d-%H%M%S") / "work"
    work.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / NOTEBOOK, work / NOTEBOOK)
    return work


def submit(work: Path) -> int:
    """Submit, wait, and return the command's exit status."""
    command = [str(BIN / "jupyter"), "ai-batch", "submit", NOTEBOOK, "--param", "quick=true", "--wait"]
    print("$ jupyter ai-batch", " ".join(command[2:]), flush=True)
    env = environment() | {"JUPYTER_DATA_DIR": str(work.parent / "jupyter-data")}
    return subprocess.run(command, cwd=work, env=env, check=False).returncode


def show(work: Path) -> list[str]:
    """Print every file in ``work`` and the metrics; return the names that the job brought home."""
    files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
    print(f"\nIn {os.path.relpath(work, ROOT)}:")
    for name in files:
        print(f"  {(work / name).stat().st_size:>9} bytes  {name}{'' if name != NOTEBOOK else '   (the original)'}")
    for path in sorted(work.rglob("metrics.json")):
        print(f"\n{path.name}:")
        for name, value in json.loads(path.read_text()).items():
            print(f"  {name}: {f'{len(value)} entries' if isinstance(value, list) else value}")
    return [name for name in files if name != NOTEBOOK]


def main() -> int:
    started = time.monotonic()
    work = fresh_directory()
    status = submit(work)
    home = show(work)
    executed = [name for name in home if name.endswith(".ipynb") and ".batch-" in name]
    if status != 0 or not executed or home == executed:
        print(f"\nDemo failed: exit status {status}, {len(home)} files came home.", file=sys.stderr)
        return status or 1
    print(f"\nDemo succeeded: {len(home)} files came home in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
