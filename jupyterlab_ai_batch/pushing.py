"""``jupyter ai-batch snapshot NOTEBOOK --to REFERENCE``: a notebook with its files and environment as one image.

A command that people run before every job, so it is over in a blink when nothing has changed: what is imported is
imported late, and a scout (see there) is out while it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .configuring import choose_data_dir, read_traits
from .errors import InvalidSubmissionError, NotebookInvalidError
from .locating import choose_notebook, choose_root, kernel_of
from .snapshot.headstart import headstart_path, sent_ahead

if TYPE_CHECKING:
    from .capture_models import CaptureProgress, CaptureRequest, EnvironmentDescription, SnapshotSummary
    from .oci.base_image import BaseImage
    from .oci.port import BlobStore
    from .snapshot.scout import Scout

DEFAULT_TAG = "latest"
DEFAULT_LIMIT_BYTES = 2 * 1024**3

_PROGRESS_S = 0.2
_MAX_NOTEBOOK_BYTES = 256 * 1024**2


def run_snapshot_to(options: Namespace, *, environ: Mapping[str, str]) -> int:
    """Capture, push, say so; returns the exit status.

    Raises:
        BatchError: whatever is in the way; nothing is named in the target then.
    """
    signal.signal(signal.SIGTERM, _end)  # temporary files go, as after Ctrl-C
    notebook = choose_notebook(Path.cwd() / options.path)
    root_dir = choose_root(notebook, options.root)
    traits = read_traits()
    data_dir = choose_data_dir(options.data_dir, traits.get("data_dir"))
    kernel_name = _kernel_name(notebook)
    layout = options.reference if _is_directory(options.reference) else ""
    place = (kernel_name, str(notebook), str(root_dir), str(data_dir), options.capture_from, layout)
    memory = headstart_path(str(data_dir / "headstarts"), *place, environ=environ)
    with sent_ahead(memory) as vanguard:
        request = _build_request(options, traits, notebook, root_dir, data_dir, vanguard.describe(kernel_name))
        summary, sent_bytes = _capture(options, request, data_dir, vanguard.scout, environ)
    vanguard.remember(request, summary.work_root)
    _say(summary, options, sent_bytes)
    return 0


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _kernel_name(notebook: Path) -> str:
    try:
        with notebook.open("rb") as stream:
            content = json.loads(stream.read(_MAX_NOTEBOOK_BYTES))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NotebookInvalidError(
            f"'{notebook.name}' cannot be read as a notebook.", hint="Open it and save it again."
        )
    return kernel_of(content)


def _build_request(
    options: Namespace,
    traits: Mapping[str, Any],
    notebook: Path,
    root_dir: Path,
    data_dir: Path,
    environment: EnvironmentDescription,
) -> CaptureRequest:
    from .capture_models import CaptureRequest
    from .words import CaptureFrom

    limit, exclude = traits.get("snapshot_limit_bytes", DEFAULT_LIMIT_BYTES), traits.get("exclude", ())
    if type(limit) is not int or not isinstance(exclude, (list, tuple)) or not all(isinstance(e, str) for e in exclude):
        raise InvalidSubmissionError("The configuration of batch jobs has a wrong value.")
    images = [Path.cwd() / name for name in (options.reference, options.base) if name and _is_directory(name)]
    return CaptureRequest(
        root_dir=root_dir,
        notebook=notebook,
        environment=environment,
        capture_from=CaptureFrom(options.capture_from),
        exclude=(*exclude, *options.exclude),
        never=(data_dir, *images),
        limit_bytes=limit,
    )


def _is_directory(reference: str) -> bool:
    return reference.startswith(("/", "./", "../"))


def _capture(
    options: Namespace, request: CaptureRequest, data_dir: Path, scout: Scout | None, environ: Mapping[str, str]
) -> tuple[SnapshotSummary, int | None]:
    """What was captured, and the bytes that were sent to a registry."""
    from datetime import datetime, timezone

    from .snapshot.capture import capture
    from .snapshot.index import SignatureIndex, push_index_path

    with _opened_store(options.reference, environ, options.mount_from) as (store, name, target):
        if target.startswith("sha256:"):
            raise InvalidSubmissionError("An image gets its digest when it is pushed.", hint="Name a tag instead.")
        with SignatureIndex(push_index_path(data_dir, name)) as index:
            summary = capture(
                request,
                store=store,
                index=index,
                tag=target,
                progress=_Progress(quiet=options.json),
                clock=lambda: datetime.now(timezone.utc),
                base=_bring_base(options.base, store, environ) if options.base else None,
                scout=scout,
            )
        return summary, getattr(store, "sent_bytes", None)


def _bring_base(reference: str, store: BlobStore, environ: Mapping[str, str]) -> BaseImage:
    """The base image, once its layers are where the Snapshot goes."""
    from .oci.base_image import copy_base, read_base_image

    with _opened_store(reference, environ) as (source, _, target):
        base = read_base_image(source, target, name=reference)
        copy_base(source, store, base)
    return base


@contextmanager
def _opened_store(
    reference: str, environ: Mapping[str, str], mount_from: Sequence[str] = ()
) -> Iterator[tuple[BlobStore, str, str]]:
    """(store, its name, tag or digest)."""
    if _is_directory(reference):
        from .oci.layout import ImageLayout

        path = Path.cwd() / reference
        yield ImageLayout(path), os.path.realpath(path), DEFAULT_TAG
        return
    from dataclasses import replace

    from .oci.reference import parse_reference
    from .oci.registry import RegistrySettings, connect

    parsed = parse_reference(reference)
    neighbours = tuple(parse_reference(f"{parsed.host}/{name}").repository for name in mount_from)
    settings = replace(RegistrySettings.of_user(environ, home=Path.home()), mount_from=neighbours)
    with connect(parsed, settings) as registry:
        yield registry, parsed.name, parsed.target


class _Progress:
    """A line of JSON on stderr now and then, or one that is rewritten where people watch."""

    def __init__(self, *, quiet: bool) -> None:
        self._json = quiet
        self._tty = sys.stderr.isatty() and not quiet
        self._told_at = time.monotonic()

    def __call__(self, progress: CaptureProgress) -> None:
        now = time.monotonic()
        if now - self._told_at < _PROGRESS_S or not (self._json or self._tty):
            return
        self._told_at = now
        from .wire import to_json

        if self._json:
            sys.stderr.write(f"{json.dumps(to_json(progress))}\n")
        else:
            done, total = progress.done_bytes / 1e6, progress.total_bytes / 1e6
            sys.stderr.write(f"\r\x1b[2K{progress.phase}: {done:.0f} of {total:.0f} MB")
        sys.stderr.flush()


def _say(summary: SnapshotSummary, options: Namespace, sent_bytes: int | None) -> None:
    from .wire import to_json

    if options.json:
        text = json.dumps({**to_json(summary), "reference": options.reference, "sent_bytes": sent_bytes})
    else:
        from .presenting import format_snapshot

        sys.stderr.write("\r\x1b[2K" if sys.stderr.isatty() else "")
        text = format_snapshot(summary)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
