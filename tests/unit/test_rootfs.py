"""What a session changed in its container, beside the image that it was started from."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_world import World, now

from jupyterlab_ai_batch.capture_models import BaseReference, CaptureRequest, SnapshotPlan
from jupyterlab_ai_batch.errors import BaseImageError, SnapshotCorruptError
from jupyterlab_ai_batch.oci.base_image import BaseImage
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import LAYER_MEDIA_TYPE, PLAIN_LAYER_MEDIA_TYPE, Layer, LayerRole
from jupyterlab_ai_batch.snapshot import making
from jupyterlab_ai_batch.snapshot.base_files import BaseFile, Header, apply_layer, load_base_files, read_headers
from jupyterlab_ai_batch.snapshot.capture import capture
from jupyterlab_ai_batch.snapshot.container import container_start
from jupyterlab_ai_batch.snapshot.index import SignatureIndex
from jupyterlab_ai_batch.snapshot.plan import plan_snapshot
from jupyterlab_ai_batch.snapshot.restore import read_image
from jupyterlab_ai_batch.snapshot.rootfs import find_changes, write_removed
from jupyterlab_ai_batch.snapshot.tarstream import TarWriter

STARTED_NS = 2_000_000_000 * 10**9
DEVICE = 7
REG, LNK, DIR = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR
LONG = "deep/" * 60 + "name" * 40


def archive(*members: tuple[str, bytes, dict], form=tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), 1_600_000_000, 0o644
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def names_of(content: bytes) -> list[tuple]:
    return [
        (header.path, chr(header.kind or 48), header.size, header.mtime_s)
        for header in read_headers(io.BytesIO(content))
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_dialect_of_tar_is_read(form, data):
    """Names of any length, links, devices, content of any size: as the standard library wrote them."""
    text = st.text(st.characters(min_codepoint=48, max_codepoint=0x17F), min_size=1, max_size=40)
    long = st.just(LONG) if form != tarfile.USTAR_FORMAT else text
    kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
    members = []
    for name in data.draw(st.lists(st.one_of(text, long), max_size=6)):
        kind = data.draw(kinds)
        content = data.draw(st.binary(max_size=1500)) if kind == tarfile.REGTYPE else b""
        target = data.draw(st.one_of(text, long)) if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        mtime = data.draw(st.integers(0, 2**33 - 1))
        members.append((name, content, {"type": kind, "linkname": target, "mtime": mtime}))
    expected = [(name, fields["type"].decode(), len(content), fields["mtime"]) for name, content, fields in members]
    assert names_of(archive(*members, form=form)) == expected


def test_numbers_beyond_octal_are_read():
    """Huge and negative ones in GNU's binary form, fractions and negative ones in PAX."""
    members = [("old", b"", {"mtime": -5}), ("new", b"", {"mtime": 2**40})]
    assert [found[3] for found in names_of(archive(*members, form=tarfile.GNU_FORMAT))] == [-5, 2**40]
    exact = {"mtime": 1, "pax_headers": {"mtime": "1600000000.999999999"}}
    members = [("fraction", b"", exact), ("before", b"", {"mtime": -1.5})]
    assert [found[3] for found in names_of(archive(*members))] == [1_600_000_000, -2]


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"x" * 512, archive(("a", b"b" * 600, {}))[:700], archive(("a", b"", {}))[:512], b"\xff" * 2048],
    ids=["empty", "short", "no header", "cut", "no end", "binary"],
)
def test_what_is_no_archive_is_an_error(content):
    """Cut short, or of something else."""
    with pytest.raises((ValueError, EOFError)):
        names_of(content)


DAMAGED = bytearray(
    archive((LONG, b"content" * 99, {}), ("a", b"", {"type": tarfile.SYMTYPE, "linkname": LONG}))
    + archive((LONG, b"", {"mtime": -7}), form=tarfile.GNU_FORMAT)
)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255)), max_size=8), data=st.data())
def test_damaged_archives_are_errors_or_archives(changes, data):
    """Whatever the bytes: no other error, and no endless loop."""
    content = bytearray(DAMAGED)
    for position, value in changes:
        content[position] = value
    block = data.draw(st.integers(0, len(DAMAGED) // 512 - 1)) * 512
    content[block + 148 : block + 156] = b" " * 8  # a checksum that fits, so that the rest of the header is looked at
    content[block + 148 : block + 156] = b"%06o\0 " % sum(content[block : block + 512])
    with contextlib.suppress(ValueError, EOFError):
        names_of(bytes(content))


def test_layers_apply_as_in_a_runtime():
    """Whiteouts, opaque directories, files in the place of directories, hard links to lower layers."""

    def layer(*entries: tuple) -> list[Header]:
        return [
            Header(path=path, kind=ord(kind), size=size, mtime_s=1, mode=0o755 if kind == "5" else 0o644, target=target)
            for path, kind, size, target in entries
        ]

    first = layer(
        ("keep/a", "0", 1, ""),
        ("gone/a", "0", 1, ""),
        ("opaque", "5", 0, ""),
        ("opaque/old", "0", 1, ""),
        ("file", "5", 0, ""),
        ("file/below", "0", 1, ""),
        ("directory", "0", 1, ""),
    )
    second = layer(
        ("opaque/new", "0", 2, ""),
        ("opaque/.wh..wh..opq", "0", 0, ""),
        (".wh.gone", "0", 0, ""),
        ("keep/.wh.absent", "0", 0, ""),
        ("file", "2", 0, "keep/a"),
        ("directory", "5", 0, ""),
        ("directory/b", "0", 3, ""),
        ("keep/link", "1", 0, "./keep/a"),
        ("device", "3", 0, ""),
    )
    tree = apply_layer(apply_layer({}, iter(first)), iter(second))
    assert {path: (entry.kind, entry.size) for path, entry in tree.items()} == {
        "keep/a": (REG, 1),
        "opaque": (DIR, 0),
        "opaque/new": (REG, 2),
        "file": (LNK, 6),
        "directory": (DIR, 0),
        "directory/b": (REG, 3),
        "keep/link": (REG, 1),
        "device": (0, 0),
    }


class Shelf:
    """A store with a base image made of tar streams."""

    def __init__(self, base: Path) -> None:
        self.store = ImageLayout(base / "store")
        self.index = base / "index.db"

    def image(self, *layers: bytes, media_type: str = LAYER_MEDIA_TYPE) -> BaseImage:
        stored = []
        for content in layers:
            digest, size = self.store.put_blob(gzip.compress(content) if media_type == LAYER_MEDIA_TYPE else content)
            stored.append(Layer(role=LayerRole.BASE, digest=digest, size=size, diff_id=digest, media_type=media_type))
        name = f"sha256:{hashlib.sha256(repr(layers).encode()).hexdigest()}"
        return BaseImage(reference="base", digest=name, layers=tuple(stored), config={})

    def load(self, image: BaseImage, *under: str):
        with SignatureIndex(self.index) as index:
            return load_base_files(self.store, image, under=under, index=index, on_tick=lambda: None)


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def test_a_base_is_read_once(shelf):
    """Below the directories asked for; then the index knows, though the layers are gone."""
    image = shelf.image(archive(("opt/env/a", b"xy", {"mode": 0o755}), ("opt/environment", b"", {}), ("opt", b"", {})))
    expected = {"opt/env/a": BaseFile(REG, 2, 1_600_000_000, executable=True)}
    assert shelf.load(image, "/opt/env") == expected
    shutil.rmtree(shelf.store.path)
    assert shelf.load(image, "/opt/env") == expected


def test_plain_layers_are_read(shelf):
    """Those that are not compressed at all."""
    image = shelf.image(archive(("opt/a", b"", {})), media_type=PLAIN_LAYER_MEDIA_TYPE)
    assert list(shelf.load(image, "/opt")) == ["opt/a"]


@pytest.mark.parametrize("media_type", [LAYER_MEDIA_TYPE, PLAIN_LAYER_MEDIA_TYPE])
def test_a_layer_that_is_no_archive_is_refused(shelf, media_type):
    """As a fault of the base image."""
    with pytest.raises(BaseImageError, match="no tar archive"):
        shelf.load(shelf.image(b"text", media_type=media_type), "/opt")


def test_a_damaged_layer_is_refused(shelf):
    """By its digest, even where the damage lies in a file's content."""
    image = shelf.image(archive(("opt/a", b"x" * 600, {})), media_type=PLAIN_LAYER_MEDIA_TYPE)
    path = shelf.store.path / "blobs/sha256" / image.layers[0].digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b"xxx", b"xyx", 1))
    with pytest.raises(SnapshotCorruptError):
        shelf.load(image, "/opt")


def found(kind=REG, *, size=1, mtime_s=1_600_000_000, ctime_ns=STARTED_NS - 1, device=DEVICE, mode=0o644):
    times = (0, mtime_s, ctime_ns // 10**9, 0.0, float(mtime_s), 0.0, 0, mtime_s * 10**9 + 5, ctime_ns)
    return os.stat_result((kind | mode, 1, device, 1, 0, 0, size, *times))


SAME = BaseFile(REG, 1, 1_600_000_000, executable=False)


@pytest.mark.parametrize(
    ("entry", "base", "is_same"),
    [
        (found(), SAME, True),
        (found(ctime_ns=STARTED_NS), SAME, False),
        (found(size=2), SAME, False),
        (found(mtime_s=1), SAME, False),
        (found(device=DEVICE + 1), SAME, False),
        (found(mode=0o755), SAME, False),
        (found(mode=0o600), SAME, True),
        (found(LNK), SAME, False),
        (found(LNK, mode=0o777), SAME._replace(kind=LNK), True),
        (found(DIR, ctime_ns=STARTED_NS + 1), BaseFile(DIR, 0, 1, executable=True), True),
        (found(), BaseFile(0, 0, 0, executable=False), False),
    ],
)
def test_a_file_is_the_images_when_everything_agrees(entry, base, is_same):
    """Kind, size, time, whether it can be executed; untouched since the start; on the container's own file system."""
    entries, known = {"a": entry, "b": found()}, {"a": base, "b": SAME}
    changes = find_changes(entries, known, started_ns=STARTED_NS, device=DEVICE)
    assert (list(changes.entries), changes.removed) == ([] if is_same else ["a"], ())


def test_a_base_that_has_nothing_of_it_leaves_all():
    """Its directories too: their empty ones are part of a whole environment."""
    entries = {"e": found(DIR), "e/a": found(size=2)}
    changes = find_changes(entries, {"e": SAME._replace(kind=DIR)}, started_ns=STARTED_NS, device=DEVICE)
    assert (list(changes.entries), changes.is_delta) == (["e", "e/a"], False)


def test_what_is_gone_is_hidden_once():
    """The topmost of it, and only where it was looked for and is really gone."""
    base = {
        path: SAME._replace(kind=DIR if path.endswith("/") else REG)
        for path in (
            "e/",
            "e/a",
            "e/d/",
            "e/d/x",
            "e/d/y/",
            "e/d/y/z",
            "e/f/",
            "e/f/x",
            "e/secret",
            "e/cache/",
            "other/x",
        )
    }
    base = {path.rstrip("/"): entry for path, entry in base.items()}
    base["e/same"] = SAME
    entries = {"e": found(DIR), "e/same": found(), "e/f": found(ctime_ns=STARTED_NS)}
    changes = find_changes(
        entries, base, started_ns=STARTED_NS, device=DEVICE, apart=["/e/cache"], exists=lambda path: path == "/e/secret"
    )
    assert (list(changes.entries), changes.removed) == (["e/f"], ("e/a", "e/d"))


def test_without_a_start_time_kind_size_and_time_decide():
    """Where there is no container to ask."""
    entry = found(ctime_ns=STARTED_NS + 10**18)
    assert list(find_changes({"a": entry}, {"a": SAME}, started_ns=None, device=DEVICE).entries) == []


def tar_of_changes(top: Path, changes) -> bytes:
    """What a delta holds, in the order that layers have: what is hidden lies below what is new."""
    chunks: list[bytes] = []
    writer = TarWriter(chunks.append, chunk_bytes=1 << 20)
    write_removed(changes.removed, writer)
    writer.close()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(changes.entries):
            tar.add(top / path, path, recursive=False)
    return b"".join(chunks), stream.getvalue()


def walk(top: Path) -> dict[str, os.stat_result]:
    return {str(path.relative_to(top)): path.lstat() for path in top.rglob("*")} | {"": top.lstat()}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["file", "directory", "symlink", "remove"]),
        st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/f"]),
    ),
    max_size=8,
)


def apply_operations(top: Path, operations, numbers) -> None:
    for kind, name in operations:
        path = top / name
        if kind == "remove":
            remove(path)
            continue
        parent = path.parent
        if (
            not parent.is_dir()
            or parent.is_symlink()
            or (kind == "directory" and path.is_dir() and not path.is_symlink())
        ):
            continue
        remove(path)
        if kind == "directory":
            path.mkdir()
        elif kind == "symlink":
            path.symlink_to(f"target-{next(numbers)}")
        else:
            path.write_text(f"{next(numbers)}")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


@settings(max_examples=100, deadline=None)
@given(before=OPERATIONS, after=OPERATIONS)
def test_base_and_changes_are_the_tree(tmp_path_factory, before, after):
    """Whatever was done between: applied to the base, the changes give the names and kinds of now."""
    top = tmp_path_factory.mktemp("tree")
    numbers = count(1000)
    apply_operations(top, before, numbers)
    base = {path: entry_of(status) for path, status in walk(top).items() if path}
    apply_operations(top, after, numbers)
    entries = walk(top)
    device = entries[""].st_dev
    changes = find_changes(
        entries, {"": entry_of(entries[""]), **base}, started_ns=None, device=device, exists=lambda _: False
    )
    tree = base
    for layer in tar_of_changes(top, changes):
        tree = apply_layer(tree, read_headers(io.BytesIO(layer)))
    assert tree == {path: entry_of(status) for path, status in entries.items() if path}


def entry_of(status: os.stat_result) -> BaseFile:
    kind = stat.S_IFMT(status.st_mode)
    size = 0 if kind == DIR else status.st_size
    return BaseFile(kind, size, status.st_mtime_ns // 10**9, executable=bool(status.st_mode & 0o111))


def test_the_start_is_that_of_the_runtimes_link(tmp_path):
    """Made when the container is; it is the link's own time that counts."""
    (tmp_path / "fd").symlink_to("/proc/self/fd")
    assert container_start(dev=str(tmp_path)) == (tmp_path / "fd").lstat().st_ctime_ns


def test_without_the_link_the_first_process_tells(tmp_path):
    """To the second before, because the kernel rounds the time it was booted at."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1/stat").write_text(f"1 (a ) b) S {' '.join(['0'] * 18)} {10 * os.sysconf('SC_CLK_TCK')} 0 0")
    (tmp_path / "stat").write_text("cpu 1\nbtime 1000000\nprocesses 5\n")
    assert container_start(dev=str(tmp_path), proc=str(tmp_path)) == (1_000_000 - 1 + 10) * 10**9
    (tmp_path / "stat").write_text("cpu 1\n")
    assert container_start(dev=str(tmp_path), proc=str(tmp_path)) is None
    assert container_start(dev=str(tmp_path), proc=str(tmp_path / "absent")) is None


def test_this_machine_started_before_now():
    """Whatever it is."""
    start = container_start()
    assert start is not None
    assert start < now().timestamp() * 10**9


class Session(World):
    """A user whose environment lies in the image that the container was started from."""

    def start(self) -> BaseImage:
        """Publish the environment as the base image, uncompiled as it is; everything after this is the session."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for path in sorted([self.prefix, *self.prefix.rglob("*")]):
                tar.add(path, str(path).lstrip("/"), recursive=False)
        digest, size = self.store.put_blob(gzip.compress(stream.getvalue()))
        diff_id = f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}"
        layer = Layer(role=LayerRole.BASE, digest=digest, size=size, diff_id=diff_id)
        self.started_at = now() + timedelta(days=1)  # nothing is touched: sizes and times tell
        config = {"architecture": "amd64", "os": "linux", "config": {"User": "1000"}}
        return BaseImage(reference="base", digest=digest, layers=(layer,), config=config)

    def session_request(self) -> CaptureRequest:
        described = replace(self.request().environment, base=BaseReference(image="base", started_at=self.started_at))
        return self.request(environment=described)

    def plan_on(self, base: BaseImage) -> SnapshotPlan:
        with SignatureIndex(self.data / "index.db") as index:
            return plan_snapshot(self.session_request(), store=self.store, index=index, clock=now, base=base)

    def capture_on(self, base: BaseImage):
        with SignatureIndex(self.data / "index.db") as index:
            return capture(
                self.session_request(),
                store=self.store,
                index=index,
                tag="composed",
                progress=self.progress.append,
                clock=now,
                base=base,
            )

    def tree(self) -> dict[str, tuple]:
        """Kinds and sizes below the prefix in the composed image, as a runtime unpacks it."""
        files: dict[str, BaseFile] = {}
        image = read_image(self.store, "composed")
        for layer in image.layers:
            with self.store.open_blob(layer.digest) as blob:
                files = apply_layer(files, read_headers(gzip.GzipFile(fileobj=blob)))
        top = f"{self.prefix}/".lstrip("/")
        return {path: (entry.kind, entry.size) for path, entry in files.items() if path.startswith(top)}


def test_only_what_the_session_changed_is_captured(tmp_path):
    """Beside the base: additions, changes, removals; and the composed image has the environment of now."""
    session = Session(tmp_path)
    base = session.start()
    site = session.prefix / "lib/python3.11/site-packages"
    (site / "more").mkdir()
    (site / "more/__init__.py").write_text("MORE = 1\n")
    (site / "pack/tool.py").write_text("def use():\n    return 'longer than before'\n")
    shutil.rmtree(site / "pack-1.0.dist-info")
    (site / "pack-2.0.dist-info").mkdir()
    (site / "pack-2.0.dist-info/RECORD").write_text("pack/__init__.py,,\npack/tool.py,,\n")
    assert (session.plan_on(base).environment_files, session.plan_on(base).environment_unchanged) == (3, False)
    session.capture_on(base)
    assert session.plan_on(base).environment_unchanged
    image = read_image(session.store, "composed")
    ours = [layer for layer in image.layers if layer.role is LayerRole.ENVIRONMENT]
    paths: set[str] = set()
    for layer in ours:
        with session.store.open_blob(layer.digest) as blob:
            paths |= {
                header.path.partition("site-packages/")[2] for header in read_headers(gzip.GzipFile(fileobj=blob))
            }
    names = {"more", "more/__init__.py", "pack/tool.py", "pack-2.0.dist-info", "pack-2.0.dist-info/RECORD"}
    assert paths == {*names, ".wh.pack-1.0.dist-info"}
    assert image.content.base == base.digest
    with pytest.raises(BaseImageError, match="lies in its base image"):
        session.materialise("composed")
    live = walk(session.prefix)
    expected = {f"{session.prefix}/{path}".lstrip("/"): entry_of(status)[:2] for path, status in live.items() if path}
    assert session.tree() == expected


def test_an_unchanged_session_needs_no_environment_layer(tmp_path):
    """And the second capture finds the base's list in the index."""
    session = Session(tmp_path)
    base = session.start()
    for _ in range(2):
        session.capture_on(base)
        image = read_image(session.store, "composed")
        assert image.with_role(LayerRole.ENVIRONMENT) == ()
        assert image.with_role(LayerRole.BASE) == base.layers


def test_an_unchanged_session_is_not_compared_again(tmp_path, monkeypatch):
    """Its seal is enough."""
    session = Session(tmp_path)
    base = session.start()
    first = session.capture_on(base)
    monkeypatch.setattr(making, "changes_since", lambda *_, **__: pytest.fail("compared"))
    second = session.capture_on(base)
    assert (first.digest, first.files) == (second.digest, second.files)


def _edit(session: Session) -> None:
    (session.prefix / "lib/python3.11/site-packages/pack/tool.py").write_text("def use():\n    return 'longer'\n")


def _remove(session: Session) -> None:
    shutil.rmtree(session.prefix / "lib/python3.11/site-packages/pack-1.0.dist-info")


def _add(session: Session) -> None:
    (session.prefix / "bin/more").write_text("#!/bin/sh\n")


@pytest.mark.parametrize("change", [_edit, _remove, _add])
def test_a_change_after_a_sealed_capture_is_seen(tmp_path, change):
    """Whatever the seal was made of."""
    session = Session(tmp_path)
    base = session.start()
    for _ in range(2):
        session.capture_on(base)
    change(session)
    session.capture_on(base)
    live = walk(session.prefix)
    expected = {f"{session.prefix}/{path}".lstrip("/"): entry_of(status)[:2] for path, status in live.items() if path}
    assert session.tree() == expected


def test_a_seal_holds_for_one_container(tmp_path):
    """Another one may have started later: what is older than it was not there when the seal was made."""
    session = Session(tmp_path)
    base = session.start()
    session.capture_on(base)
    session.started_at = datetime.fromtimestamp(0, timezone.utc)
    session.capture_on(base)
    image = read_image(session.store, "composed")
    assert image.content.base is None
    assert image.with_role(LayerRole.ENVIRONMENT)


def test_a_removal_that_the_store_has_lost_is_written_again(tmp_path):
    """Garbage collection takes what no manifest names, whatever the seal says."""
    session = Session(tmp_path)
    base = session.start()
    _remove(session)
    session.capture_on(base)
    (hidden,) = read_image(session.store, "composed").with_role(LayerRole.ENVIRONMENT)
    session.store.delete_tag("composed")
    (session.store.path / "blobs" / hidden.digest.replace(":", "/")).unlink()
    session.capture_on(base)
    assert read_image(session.store, "composed").with_role(LayerRole.ENVIRONMENT) == (hidden,)
    assert session.store.has_blob(hidden.digest)


IN_OVERLAY = """
import json, os, subprocess, sys
from pathlib import Path
from jupyterlab_ai_batch.snapshot.base_files import BaseFile
from jupyterlab_ai_batch.snapshot.rootfs import find_changes
sys.path.insert(0, sys.argv[2])
from test_rootfs import entry_of, walk
top = Path(sys.argv[1])
options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{top}/merged"], check=True)
merged = top / "merged"
base = {path: entry_of(status) for path, status in walk(merged).items()}
(merged / "start").touch()
started_ns = (merged / "start").stat().st_ctime_ns
(merged / "d/same-size").write_text("yyy")
os.utime(merged / "d/same-size", (1600000000, 1600000000))
os.chmod(merged / "d/moded", 0o600)
(merged / "d/gone").unlink()
(merged / "d/new").write_text("n")
entries = walk(merged)
changes = find_changes(entries, base, started_ns=started_ns, device=entries[""].st_dev, exists=lambda _: False)
print(json.dumps([sorted(changes.entries), changes.removed]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount an overlay")
def test_a_real_overlay(tmp_path):
    """A file rewritten with its old size and time is found by its change time; what was not touched is left out."""
    if shutil.which("unshare") is None or "overlay" not in Path("/proc/filesystems").read_text():
        pytest.skip("there is no overlay file system here")
    for name in ("lower/d", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("same-size", "moded", "gone", "same"):
        path = tmp_path / "lower/d" / name
        path.write_text("xxx")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    command = ["unshare", "-m", sys.executable, "-c", IN_OVERLAY, tmp_path, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["d/moded", "d/new", "d/same-size", "start"], ["d/gone"]]
