"""What an OutputSet may say: a job wrote it, so nothing in it is trusted."""

from __future__ import annotations

import hashlib
import re

from ..errors import SnapshotCorruptError
from ..models import OutputFile, OutputSet, Usage
from ..words import FileChange

MAX_FILES = 1_000_000
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_FILE_BYTES = 1 << 62
MAX_LOG_BYTES = 1 << 30
MAX_MODE = 0o7777
MAX_CPU_S = 1e12

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def check_path(path: str) -> None:
    """Refuse a path that is not a plain relative one.

    Raises:
        SnapshotCorruptError: absolute, empty or dotted components, NUL, or too long.
    """
    encoded = path.encode("utf-8", "surrogateescape")
    names = encoded.split(b"/")
    if len(encoded) > MAX_PATH_BYTES or b"\0" in encoded:
        raise corrupt("a path is too long or holds a NUL")
    if any(name in (b"", b".", b"..") or len(name) > MAX_NAME_BYTES for name in names):
        raise corrupt("a path is not relative to the work root")


def check_output_set(output_set: OutputSet) -> OutputSet:
    """Hold an OutputSet against the limits.

    Raises:
        SnapshotCorruptError: too many files, a path twice, or a file or a log that is not sound.
    """
    if len(output_set.files) > MAX_FILES or len(output_set.skipped) > MAX_FILES:
        raise corrupt("it names too many files")
    try:
        check_path(output_set.executed_notebook)
        for file in output_set.files:
            _check_file(file)
    except UnicodeEncodeError as exc:
        raise corrupt("a path is not text") from exc
    if len({file.path for file in output_set.files}) != len(output_set.files):
        raise corrupt("it names a path twice")
    if output_set.log_sha256 and not _SHA256.match(output_set.log_sha256):
        raise corrupt("its log has no digest")
    if not 0 <= output_set.log_bytes <= MAX_LOG_BYTES:
        raise corrupt("its log's size is out of range")
    _check_usage(output_set.usage)
    return output_set


def corrupt(what: str) -> SnapshotCorruptError:
    """The error of an OutputSet that cannot be read; ``what`` says why."""
    return SnapshotCorruptError(f"The outputs of this Submission cannot be read: {what}.", details={"reason": what})


def _check_usage(usage: Usage | None) -> None:
    if usage is None:
        return
    if not 0 <= (usage.peak_memory_bytes or 0) <= MAX_FILE_BYTES or not 0 <= usage.cpu_s <= MAX_CPU_S:
        raise corrupt("what it says to have used is out of range")


def _check_file(file: OutputFile) -> None:
    check_path(file.path)
    if not 0 <= file.size_bytes <= MAX_FILE_BYTES or not -MAX_FILE_BYTES <= file.mtime_ns <= MAX_FILE_BYTES:
        raise corrupt("a file's size or time is out of range")
    if not 0 <= file.mode <= MAX_MODE:
        raise corrupt("a file's mode is out of range")
    if file.change is FileChange.DELETED:
        return
    if not _SHA256.match(file.sha256):
        raise corrupt("a file has no digest")
    if file.base_sha256 is not None and not _SHA256.match(file.base_sha256):
        raise corrupt("a file's base is not a digest")
    if file.link_target is not None:
        target = file.link_target.encode("utf-8", "surrogateescape")
        if not 0 < len(target) <= MAX_PATH_BYTES or b"\0" in target:
            raise corrupt("a link's target is out of range")
        if hashlib.sha256(target).hexdigest() != file.sha256:
            raise corrupt("a link's digest is not its target's")
