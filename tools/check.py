"""Run the checks: ``.venv/bin/python tools/check.py [lint] [pytest] [jest] [wheel] [browser]``; all without arguments.

Every suite runs even if an earlier one failed; the last lines say how each ended. Exit status 0 only if all passed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prepare import BIN, ROOT, environment

Command = tuple[str, ...]
SUITES: dict[str, tuple[tuple[Path, Command], ...]] = {
    "lint": (
        (ROOT, (str(BIN / "ruff"), "format", "--check", ".")),
        (ROOT, (str(BIN / "ruff"), "check", ".")),
        (ROOT, (str(BIN / "mypy"),)),
        (ROOT, (str(BIN / "lint-imports"), "--no-cache")),
        (ROOT, ("npm", "run", "--silent", "lint:check")),
    ),
    "jest": ((ROOT, ("npm", "test", "--silent")),),
    "wheel": ((ROOT, (str(BIN / "python"), "tools/check_wheel.py")),),
    "browser": ((ROOT / "ui-tests", ("npx", "playwright", "test")),),
    "pytest": ((ROOT, (str(BIN / "python"), "-m", "pytest")),),
}


def run_suite(commands: Sequence[tuple[Path, Command]]) -> bool:
    """Run all commands of a suite, also after a failure; tell whether all ended with 0."""
    passed = True
    for cwd, command in commands:
        print("\n+", " ".join(command), flush=True)
        passed &= subprocess.run(command, cwd=cwd, env=environment(), check=False).returncode == 0
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the checks of this working tree.")
    parser.add_argument(
        "suites", nargs="*", metavar="suite", help=f"any of {', '.join(SUITES)}; all when none is given"
    )
    chosen = parser.parse_args().suites or list(SUITES)
    if unknown := set(chosen) - set(SUITES):
        parser.error(f"unknown suites: {', '.join(sorted(unknown))}")
    results: list[tuple[str, bool, float]] = []
    for name in chosen:
        started = time.monotonic()
        passed = run_suite(SUITES[name])
        results.append((name, passed, time.monotonic() - started))
    print("\nSummary")
    for name, passed, seconds in results:
        print(f"  {'passed' if passed else 'FAILED'}  {name:<8} {seconds:6.0f} s")
    failed = sum(not passed for _, passed, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
