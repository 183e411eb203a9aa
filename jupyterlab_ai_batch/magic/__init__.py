"""``%batch``: submit the notebook that is running, from inside it."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from .magics import BatchMagics


def register(shell: InteractiveShell) -> None:
    """Add the magic to a shell."""
    shell.register_magics(BatchMagics)
