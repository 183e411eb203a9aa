"""Batch jobs from notebooks: the entry points that Jupyter and IPython look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .app import BatchExtensionApp

    return [{"module": "jupyterlab_ai_batch", "app": BatchExtensionApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyterlab-ai-batch"}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext jupyterlab_ai_batch``: adds the ``%batch`` magic."""
    from .magic import register

    register(shell)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jupyterlab_ai_batch")
    except PackageNotFoundError:  # a source tree that was not installed
        return "0"
