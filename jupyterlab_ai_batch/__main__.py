"""``python -m jupyterlab_ai_batch``: the same as ``jupyter ai-batch``."""

from __future__ import annotations

import gc
import sys


def run() -> int:
    """Run the command of this process.

    A capture is over in a blink, and leaves a record for each of a million files, none of them in a cycle: the garbage
    collector would take longer than all the rest. Commands that go on for long enable it.
    """
    gc.disable()
    from .cli import main

    try:
        return main()
    finally:
        gc.freeze()  # the interpreter's last look for garbage is not worth it, either


if __name__ == "__main__":
    sys.exit(run())
