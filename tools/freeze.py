"""Write ``constraints.txt`` from the packages of ``.venv``: run with its interpreter after a deliberate upgrade.

A release that needs a newer Python than our oldest gets a marker, so that the same file serves all versions.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
OURS = {"jupyterlab-ai-batch", "jupyterlab_ai_batch"}
NOT_PINNED = {"pip", "setuptools", "wheel"} | OURS
OLDEST = (3, 10)
HEADER = "# Versions that make setup installs; written by tools/freeze.py\n"


def marker(requires_python: str) -> str:
    """An environment marker when ``requires_python`` excludes our oldest Python; else nothing."""
    found = re.search(r">=\s*(\d+)\.(\d+)(\.[1-9]\d*)?", requires_python)
    if not found:
        return ""
    major, minor, patch = found.groups("")
    if patch and (int(major), int(minor)) >= OLDEST:
        return f' ; python_full_version >= "{major}.{minor}{patch}"'
    return f' ; python_version >= "{major}.{minor}"' if (int(major), int(minor)) > OLDEST else ""


def main() -> int:
    lines = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name.lower() not in NOT_PINNED:
            requires = str(distribution.metadata.json.get("requires_python", ""))
            lines[name.lower()] = f"{name}=={distribution.version}{marker(requires)}\n"
    TARGET.write_text(HEADER + "".join(lines[name] for name in sorted(lines)))
    print(f"{len(lines)} versions in {TARGET.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
