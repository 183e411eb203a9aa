"""Proves of a store that every Snapshot in it is whole and true. It reads layers with the standard library alone.

Whole: every manifest names only blobs that are there, with the right digest and size; every layer decompresses to its
diff id; links lead to files of their layer; lists of files agree with the layers. True: each file is what it was at one
moment of the capture.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jupyterlab_ai_batch.oci.port import BlobStore
from jupyterlab_ai_batch.oci.work_index import read_work_index
from jupyterlab_ai_batch.snapshot.environment_index import read_environment_index

from .history import ABSENT, History, State

ENVIRONMENT_MTIME_NS = 315532800 * 10**9
MAX_BLOB_BYTES = 1 << 30
Member = tuple[tarfile.TarInfo, bytes]


class ViolationError(AssertionError):
    """What must never be."""


@dataclass(frozen=True)
class Window:
    """The moments of one capture, both included, and absolute paths that it said it left out."""

    first: int
    last: int
    left_out: tuple[str, ...] = ()


@dataclass
class Snapshot:
    """A stored Snapshot as any OCI tool would see it: absolute paths to states, the mtimes of the layers."""

    work_root: str
    notebook: str
    work: dict[str, State] = field(default_factory=dict)
    environment: dict[str, State] = field(default_factory=dict)
    work_index: dict[str, Any] = field(default_factory=dict)
    environment_index: dict[str, Any] = field(default_factory=dict)


def check_store(
    store: BlobStore,
    history: History,
    windows: Mapping[str, Collection[Window]],
    *,
    ignored: Callable[[str], bool] = lambda _path: False,
) -> dict[str, Snapshot]:
    """Check every tag of a store, and return what they hold.

    Args:
        windows: By tag, the captures that may have written it.
        ignored: Absolute paths that no Snapshot holds.

    Raises:
        ViolationError: with the tag and the path.
    """
    found: dict[str, Snapshot] = {}
    for tag, digest in store.tags():
        try:
            found[tag] = snapshot = read_snapshot(store, digest)
            check_lists(snapshot)
            _check_any(snapshot, history, windows[tag], ignored)
        except ViolationError as exc:
            raise ViolationError(f"{tag} ({digest}): {exc}") from exc
    return found


def read_snapshot(store: BlobStore, digest: str) -> Snapshot:
    """Read a Snapshot, checking digests, sizes and diff ids on the way."""
    content, found = store.get_manifest(digest)
    _expect(found == digest == _digest(content), "a manifest is not what its digest says")
    manifest = json.loads(content)
    config = json.loads(_blob(store, manifest["config"]))
    diff_ids = config["rootfs"]["diff_ids"]
    _expect(len(diff_ids) == len(manifest["layers"]), "the config has another number of layers")
    about = json.loads(config["config"]["Labels"]["ai-batch.snapshot"])
    snapshot = Snapshot(work_root=about["work_root"], notebook=about["notebook"])
    for descriptor, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        members = _read_layer(_blob(store, descriptor), diff_id)
        _add_layer(snapshot, descriptor["annotations"]["ai-batch.role"], members)
    return snapshot


def _blob(store: BlobStore, descriptor: Mapping[str, Any]) -> bytes:
    content = store.read_blob(descriptor["digest"], limit_bytes=MAX_BLOB_BYTES)
    _expect(len(content) == descriptor["size"], f"the blob {descriptor['digest']} has another size")
    _expect(_digest(content) == descriptor["digest"], f"the blob {descriptor['digest']} has another digest")
    return content


@lru_cache(maxsize=256)
def _read_layer(blob: bytes, diff_id: str) -> dict[str, Member]:
    stream = gzip.decompress(blob)
    _expect(_digest(stream) == diff_id, f"a layer is not its diff id {diff_id}")
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape") as tar:
        members = {member.name: (member, _content(tar, member)) for member in tar}
        _expect(len(members) == len(tar.getmembers()), "a layer has an entry twice")
    return members


def _add_layer(snapshot: Snapshot, role: str, members: Mapping[str, Member]) -> None:
    if role == "work":
        _overlay(snapshot.work, members)
    elif role == "environment":
        _overlay(snapshot.environment, members)
    elif role == "environment-index":
        ((_, content),) = members.values()
        snapshot.environment_index = {f"/{entry.path}": entry for entry in read_environment_index(content)}
    elif role == "control":
        ((_, content),) = members.values()
        snapshot.work_index = {f"{snapshot.work_root}/{entry.path}": entry for entry in read_work_index(content)}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member) if member.isreg() else None
    return stream.read() if stream is not None else b""


def _overlay(tree: dict[str, State], members: Mapping[str, Member]) -> None:
    """Apply a layer as the specification says: whiteouts first, then its own entries."""
    for name in members:
        parent, _, base = name.rpartition("/")
        if base.startswith(".wh."):
            _remove(tree, f"/{parent}/{base.removeprefix('.wh.')}")
    for name, (member, content) in members.items():
        path = f"/{name}"
        if name.rpartition("/")[2].startswith(".wh."):
            continue
        state = _state(member, content, members)
        if state[0] != "dir" or tree.get(path, ("dir",))[0] != "dir":
            _remove(tree, path)
        tree[path] = state


def _remove(tree: dict[str, State], path: str) -> None:
    for gone in [other for other in tree if other == path or other.startswith(f"{path}/")]:
        del tree[gone]


def _state(member: tarfile.TarInfo, content: bytes, members: Mapping[str, Member]) -> State:
    if member.isdir():
        return ("dir", member.mode)
    if member.issym():
        return ("link", member.linkname)
    if member.islnk():
        _expect(member.linkname in members, f"{member.name} is a link out of its layer")
        target, content = members[member.linkname]
        _expect(target.isreg(), f"{member.name} is a link to no file")
        return ("file", target.mode, _mtime_ns(target), content)
    _expect(member.isreg(), f"{member.name} is of an unknown type")
    return ("file", member.mode, _mtime_ns(member), content)


def _mtime_ns(member: tarfile.TarInfo) -> int:
    text = member.pax_headers.get("mtime")
    if text is None:
        return int(member.mtime) * 10**9
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


# --- the lists of files agree with the layers ---------------------------------------------------------------------


def check_lists(snapshot: Snapshot) -> None:
    """The lists of files that a Snapshot holds name what its layers hold, and nothing else.

    Raises:
        ViolationError
    """
    work = {path: state for path, state in snapshot.work.items() if path != snapshot.work_root}
    work = {path: state for path, state in work.items() if path.startswith(f"{snapshot.work_root}/")}
    _expect(work.keys() == snapshot.work_index.keys(), _difference("the work list", work, snapshot.work_index))
    for path, entry in snapshot.work_index.items():
        _expect(_as_listed(work[path]) == _as_entry(entry), f"{path} is not what the work list says")
    environment = snapshot.environment
    names = [path for path in snapshot.environment_index if path not in environment]
    _expect(not names, f"the environment's list names {names[:3]}, which no layer holds")
    names = [path for path, state in environment.items() if path not in snapshot.environment_index]
    _expect(not names, f"the environment's list lacks {names[:3]}")


def _as_listed(state: State) -> tuple[Any, ...]:
    if state[0] == "file":
        return ("file", state[1], state[2], len(state[3]), hashlib.sha256(state[3]).hexdigest())
    return ("symlink", state[1]) if state[0] == "link" else ("dir", state[1])


def _as_entry(entry: Any) -> tuple[Any, ...]:
    if entry.type == "file":
        return ("file", entry.mode, entry.mtime_ns, entry.size, entry.sha256)
    return ("symlink", entry.target) if entry.type == "symlink" else ("dir", entry.mode)


def _difference(what: str, left: Collection[str], right: Collection[str]) -> str:
    return f"{what} has not {sorted(set(left) - set(right))[:3]}, but {sorted(set(right) - set(left))[:3]}"


# --- each file is what it was at one moment -----------------------------------------------------------------------


def _check_any(snapshot: Snapshot, history: History, windows: Iterable[Window], ignored: Callable[[str], bool]) -> None:
    """One of the captures that may have written this tag must explain all of it."""
    errors = []
    for window in windows:
        try:
            _check_truth(snapshot, history, window, ignored)
        except ViolationError as exc:
            errors.append(exc)
        else:
            return
    raise ViolationError("; or ".join(map(str, errors)) or "nobody has written this tag")


def _check_truth(snapshot: Snapshot, history: History, window: Window, ignored: Callable[[str], bool]) -> None:
    for path in history.paths() | snapshot.work.keys() | snapshot.environment.keys():
        is_work = path == snapshot.work_root or path.startswith(f"{snapshot.work_root}/")
        held = (snapshot.work if is_work else snapshot.environment).get(path, ABSENT)
        possible = history.states(path, window.first, window.last)
        if is_work:
            _check_work_path(path, held, possible, window, ignored)
        elif path in history.paths():
            _check_environment_path(path, held, possible, snapshot.environment_index.get(path))


def _check_work_path(
    path: str, held: State, possible: list[State], window: Window, ignored: Callable[[str], bool]
) -> None:
    if ignored(path):
        _expect(held == ABSENT, f"{path} is captured although it is ignored")
        return
    if held == ABSENT and (path in window.left_out or any(state[0] in ("absent", "other") for state in possible)):
        return
    _expect(held in possible, f"{path} is captured as {_brief(held)}, but was {[*map(_brief, possible)]}")


def _check_environment_path(path: str, held: State, possible: list[State], entry: Any) -> None:
    """Layers hold content and type, and the list says what they hold."""
    if held == ABSENT:
        _expect(any(state[0] in ("absent", "other") for state in possible), f"{path} is missing in the environment")
        return
    _expect(
        _as_layer(path, held) in [_as_layer(path, state) for state in possible],
        f"{path} is captured as {_brief(held)}, but was {[*map(_brief, possible)]}",
    )
    if held[0] != "file":
        return
    _expect(held[2] == ENVIRONMENT_MTIME_NS, f"{path} has not the constant mtime")
    listed = (entry.mode & 0o7777, entry.size, entry.sha256)
    stored = (held[1], len(held[3]), hashlib.sha256(held[3]).hexdigest())
    _expect(listed == stored, f"{path} is listed as what its layer has not")


def _as_layer(path: str, state: State) -> State:
    if state[0] == "dir":
        return ("dir",)
    if state[0] != "file":
        return state
    content = state[3]
    if path.endswith(".pyc"):
        content = content[:8] + content[12:]
    return ("file", bool(state[1] & 0o111), content)


def _brief(state: State) -> str:
    if state[0] != "file":
        return " ".join(map(str, state))
    return (
        f"file {state[1]:o} {state[2]} {len(state[3])} B {hashlib.sha256(state[3]).hexdigest()[:8]} {state[3][:16]!r}"
    )


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise ViolationError(message)
