"""Images of ours in the hands of others: containerd pulls and runs them, umoci unpacks what skopeo copied.

What they make of an image is compared with the tree that was captured, byte for byte and with modes, owners, times and
links.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import py_compile
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from jupyterlab_ai_batch.capture_models import BaseReference, CaptureRequest, EnvironmentDescription
from jupyterlab_ai_batch.oci.base_image import (
    BaseImage,
    Platform,
    copy_base,
    read_base_image,
)
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import CONFIG_MEDIA_TYPE, LAYER_MEDIA_TYPE, LayerRole, Program
from jupyterlab_ai_batch.oci.port import DOCKER_MANIFEST_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from jupyterlab_ai_batch.snapshot.capture import capture
from jupyterlab_ai_batch.snapshot.environment_layers import MTIME_S
from jupyterlab_ai_batch.snapshot.index import SignatureIndex
from jupyterlab_ai_batch.snapshot.restore import read_image
from tests.registries import RegistryServer, open_registry
from tests.system.containers import Containerd, describe, differences, libraries_of, skopeo, umoci_unpack

IS_ROOT = os.geteuid() == 0
OLD_NS = 1_600_000_000_123_456_789
NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
NAMES = ["plain", "ünï cödé 🎉", "-dash", "new\nline", os.fsdecode(b"not-utf8-\xff\xfe"), "x" * 120, "quote'\"\\", " "]


@dataclass
class Author:
    """A user with a home and an environment, who pushes Snapshots into a repository."""

    base: Path

    def __post_init__(self) -> None:
        self.home = self.base / "home"
        self.prefix = self.base / "environment"
        self.notebook = self.home / "n.ipynb"

    def push(
        self,
        store,
        tag: str,
        *,
        base: BaseImage | None = None,
        program: Program | None = None,
        started_at: datetime | None = None,
    ) -> str:
        environment = EnvironmentDescription(
            kernel_name="python3",
            executable=self.prefix / "bin/python",
            prefix=self.prefix,
            prefixes=(self.prefix,),
            base=BaseReference(image="base", started_at=started_at),
        )
        with SignatureIndex(self.base / "index.db") as index:
            summary = capture(
                CaptureRequest(root_dir=self.home, notebook=self.notebook, environment=environment),
                store=store,
                index=index,
                tag=tag,
                progress=lambda _: None,
                clock=lambda: datetime.now(timezone.utc),
                base=base,
                program=program,
            )
        return summary.digest

    def make_home(self) -> None:
        """Whatever a file system can hold and a tar archive can say."""
        self.home.mkdir()
        self.notebook.write_text(NOTEBOOK)
        (self.home / "filler").write_bytes(os.urandom(300_000))
        for number, name in enumerate(NAMES):
            (self.home / "names" / name / "empty").mkdir(parents=True)
            (self.home / "names" / name / name).write_text(f"{number}")
        deep = self.home.joinpath("deep", *("level" * 12 for _ in range(8)))
        deep.mkdir(parents=True)
        (deep / "file").write_text("deep")
        (deep / "link").symlink_to("../" * 9 + "names/" + "x" * 120)
        for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1644):
            (self.home / f"file-{mode:04o}").write_text("mode")
            (self.home / f"file-{mode:04o}").chmod(mode)
        for mode in (0o700, 0o755, 0o2775, 0o1777):
            (self.home / f"directory-{mode:04o}").mkdir()
            (self.home / f"directory-{mode:04o}/file").write_text("inside")
            (self.home / f"directory-{mode:04o}").chmod(mode)
        (self.home / "links").mkdir()
        for name in ("first", "second", "third"):
            (self.home / "links" / name).hardlink_to(self.home / "filler")
        (self.home / "dangling").symlink_to("/nowhere/at all")
        (self.home / "to-directory").symlink_to("names")
        with (self.home / "sparse").open("wb") as stream:
            stream.truncate(3_000_000)
            stream.seek(1_000_000)
            stream.write(b"island")
        for name in ("changes/file-to-directory", "changes/gone/deep/file", "changes/edited", "changes/file-to-link"):
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_text("before")
        (self.home / "changes/directory-to-file/below").mkdir(parents=True)
        (self.home / "changes/directory-to-file/below/file").write_text("before")
        (self.home / "changes/link").symlink_to("edited")
        self._settle()

    def change_home(self) -> None:
        """Every kind of change that a delta must say."""
        changes = self.home / "changes"
        (changes / "file-to-directory").unlink()
        (changes / "file-to-directory").mkdir()
        (changes / "file-to-directory/inside").write_text("after")
        shutil.rmtree(changes / "directory-to-file")
        (changes / "directory-to-file").write_text("after")
        shutil.rmtree(changes / "gone/deep")
        (changes / "edited").write_text("after, in place")
        (changes / "file-to-link").unlink()
        (changes / "file-to-link").symlink_to("edited")
        (changes / "link").unlink()
        (changes / "link").symlink_to("/elsewhere")
        (self.home / "links/second").unlink()
        (self.home / "names/plain/plain").chmod(0o750)
        os.utime(self.home / "names/plain/plain", ns=(OLD_NS + 7, OLD_NS + 7))
        if IS_ROOT:
            os.chown(self.home / "file-0644", 4000, 4001)
        (self.home / "names/-dash/-dash").rename(self.home / "names/-dash/renamed")

    def make_environment(self) -> None:
        """A prefix as installers leave it, with bytecode, scripts and links."""
        site = self.prefix / "lib" / PYTHON / "site-packages"
        (site / "pack/data/empty").mkdir(parents=True)
        (site / "pack/__init__.py").write_text("ANSWER = 'from the environment'\n")
        (site / "pack/core.bin").write_bytes(os.urandom(200_000))
        for source in site.glob("pack/*.py"):
            py_compile.compile(str(source), doraise=True)
        (site / "pack-1.0.dist-info").mkdir()
        (site / "pack-1.0.dist-info/RECORD").write_text("pack/__init__.py,,\npack/core.bin,,\n")
        (self.prefix / "bin").mkdir()
        (self.prefix / "bin/tool").write_text("#!/bin/sh\necho tool\n")
        (self.prefix / "bin/tool").chmod(0o755)
        (self.prefix / "bin/python").symlink_to(os.path.realpath(sys.executable))
        (self.prefix / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")

    def _settle(self) -> None:
        """Old times with odd nanoseconds, and owners of all sorts where that is possible."""
        paths = sorted([self.home, *self.home.rglob("*")], reverse=True)
        for number, path in enumerate(paths):
            if IS_ROOT and number % 3 == 0 and path != self.home:
                mode = stat.S_IMODE(path.lstat().st_mode)
                os.chown(path, 1000 + number, 3_000_000 + number, follow_symlinks=False)
                if not path.is_symlink():
                    path.chmod(mode)  # chown takes setuid bits away
            os.utime(path, ns=(OLD_NS + number, OLD_NS + number), follow_symlinks=False)

    def environment_below(self, rootfs: Path) -> Path:
        return rootfs / str(self.prefix).lstrip("/")

    def home_below(self, rootfs: Path) -> Path:
        return rootfs / str(self.home).lstrip("/")

    def check(self, rootfs: Path, *, owners: bool = True) -> None:
        """Home and environment below a root filesystem are those that were captured."""
        assert differences(describe(self.home, owners=owners), describe(self.home_below(rootfs), owners=owners)) == {}
        expected = {path: as_installed(path, entry) for path, entry in describe(self.prefix).items()}
        found = {path: as_installed(path, entry) for path, entry in describe(self.environment_below(rootfs)).items()}
        assert differences(expected, found) == {}
        self.check_environment_times(self.environment_below(rootfs))

    def check_environment_times(self, prefix: Path) -> None:
        """One time for all files, and in the bytecode too, which is valid then."""
        assert {path.lstat().st_mtime_ns for path in prefix.rglob("*") if not path.is_dir()} == {MTIME_S * 10**9}
        for compiled in prefix.rglob("*.pyc"):
            assert int.from_bytes(compiled.read_bytes()[8:12], "little") == MTIME_S


def as_installed(path: bytes, entry: tuple) -> tuple:
    """What an environment layer keeps of an entry: kind, whether it can be executed, content but for bytecode's."""
    mode = int(entry[0], 8)
    content = () if path.endswith(b".pyc") else entry[4:]
    return (stat.S_IFMT(mode), stat.S_ISREG(mode) and bool(mode & 0o111), content)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RegistryServer(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def containerd(tmp_path_factory):
    with Containerd(tmp_path_factory.mktemp("containerd") / "d") as running:
        yield running


@pytest.fixture
def author(tmp_path):
    author = Author(tmp_path / "author")
    author.base.mkdir()
    author.make_home()
    author.make_environment()
    return author


def test_containerd_unpacks_what_was_captured(author, server, containerd):
    """A base with every kind of file, then a delta with every kind of change."""
    with open_registry(server.host, "team/first") as registry:
        author.push(registry, "base")
        reference = f"{server.host}/team/first:base"
        containerd.pull(reference)
        with containerd.mounted(reference) as rootfs:
            author.check(rootfs)
        author.change_home()
        author.push(registry, "delta")
    reference = f"{server.host}/team/first:delta"
    containerd.pull(reference)
    with containerd.mounted(reference) as rootfs:
        author.check(rootfs)


@pytest.mark.parametrize("rootless", [False, True])
def test_umoci_unpacks_what_skopeo_copied(author, server, tmp_path, rootless):
    """Registry, layout, bundle; without root the owners become the user's own."""
    repository = f"team/second-{rootless}".lower()
    with open_registry(server.host, repository) as registry:
        author.push(registry, "base")
        author.change_home()
        author.push(registry, "delta")
    source = f"docker://{server.host}/{repository}:delta"
    skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path}/layout:copied")
    if not rootless and not IS_ROOT:
        pytest.skip("owners of files need root")
    author.check(
        umoci_unpack(tmp_path / "layout", "copied", tmp_path / "bundle", rootless=rootless), owners=not rootless
    )


def test_a_layout_of_ours_is_one_of_theirs(author, tmp_path):
    """The local store itself, without a registry between."""
    store = ImageLayout(tmp_path / "store")
    author.push(store, "snapshot-1")
    if not IS_ROOT:
        pytest.skip("owners of files need root")
    author.check(umoci_unpack(store.path, "snapshot-1", tmp_path / "bundle"))


# --- base images ------------------------------------------------------------------------------------------------------


def publish_base(store, tag: str, *directories: Path) -> None:
    """A small image that can start a shell and this Python; made by the standard library, with no help of ours."""
    python = Path(os.path.realpath(sys.executable))
    shell = Path("/bin/sh")
    library = Path(sys.base_prefix) / "lib" / PYTHON
    modules = list(library.glob("*.py"))
    for package in ("encodings", "collections", "importlib", "re", "lib-dynload"):
        modules += [path for path in (library / package).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    modules += [path for path in (Path(sys.base_prefix) / "lib").glob("libpython*.so*") if path.is_file()]
    paths = dict.fromkeys(map(str, [python, *modules, *libraries_of(python)]))
    found = [
        store_layer(store, map(str, (shell, *libraries_of(shell))), b"lowest\n"),
        store_layer(store, paths, b"second\n"),
    ]
    if directories:
        below = [path for directory in directories for path in (directory, *directory.rglob("*"))]
        found.append(store_layer(store, map(str, sorted(below)), b"third\n", dereference=False))
    config = json.dumps(
        {
            "architecture": Platform.of_this_machine().architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin:/bin", "GREETING=from the base"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in found]},
        }
    ).encode()
    digest, size = store.put_blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": digest, "size": size},
        "layers": [descriptor for descriptor, _ in found],
    }
    store.put_manifest(json.dumps(manifest).encode(), tag=tag, media_type=MANIFEST_MEDIA_TYPE)


def store_layer(store, paths: Iterable[str], word: bytes, *, dereference: bool = True) -> tuple[dict, str]:
    """(descriptor, diff id) of a layer with these files where they are here, and ``word`` in /etc/base."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, dereference=dereference) as tar:
        for path in paths:
            tar.add(path, path.lstrip("/"), recursive=False)
        info = tarfile.TarInfo("etc/base")
        info.size = len(word)
        tar.addfile(info, io.BytesIO(word))
    digest, size = store.put_blob(gzip.compress(stream.getvalue(), 1))
    diff_id = f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}"
    return {"mediaType": LAYER_MEDIA_TYPE, "digest": digest, "size": size}, diff_id


SEES_ALL = 'read a < /etc/base; read b < "$HOME_FILE"; echo "$a $b $GREETING $PWD"; tool'


def test_containerd_runs_a_snapshot_on_a_base_image(author, server, containerd):
    """The command sees the base's files and variables and ours; the environment's Python imports from its packages."""
    (author.home / "word").write_text("home\n")
    with open_registry(server.host, "images/base") as shelf, open_registry(server.host, "team/third") as registry:
        publish_base(shelf, "v1")
        base = read_base_image(shelf, "v1")
        assert copy_base(shelf, registry, base) == 0  # one registry: mounted
        author.push(registry, "composed", base=base, program=Program(entrypoint=(), command=("/bin/sh",)))
    reference = f"{server.host}/team/third:composed"
    containerd.pull(reference)
    command = ["/bin/sh", "-c", SEES_ALL.replace("$HOME_FILE", str(author.home / "word"))]
    assert containerd.run(reference, "shell", *command) == f"second home from the base {author.home}\ntool\n"
    code = "import pack, sys; print(pack.ANSWER, sys.prefix, pack.__cached__)"
    printed = containerd.run(reference, "python", "python", "-c", code)
    cached = next((author.prefix / "lib" / PYTHON / "site-packages/pack/__pycache__").iterdir())
    assert printed == f"from the environment {author.prefix} {cached}\n"
    with containerd.mounted(reference) as rootfs:
        author.check(rootfs)
    # what container_start is built on: the runtime's link comes after the image, and before what the session writes
    times = "os.mkdir('/made'); print(*(os.lstat(path).st_ctime_ns for path in ('/etc/base', '/dev/fd', '/made')))"
    image, start, session = map(int, containerd.run(reference, "times", "python", "-c", f"import os; {times}").split())
    assert image < start <= session


def test_a_base_in_another_registry_is_copied_once(author, server, tmp_path, containerd):
    """From a layout into the registry; the second Snapshot moves nothing of it."""
    shelf = ImageLayout(tmp_path / "shelf")
    publish_base(shelf, "v2")
    base = read_base_image(shelf, "v2")
    with open_registry(server.host, "team/fourth") as registry:
        assert copy_base(shelf, registry, base) == sum(layer.size for layer in base.layers)
        assert copy_base(shelf, registry, base) == 0
        author.push(registry, "composed", base=base)
    reference = f"{server.host}/team/fourth:composed"
    containerd.pull(reference)
    assert containerd.run(reference, "default", "/bin/sh", "-c", "echo $GREETING") == "from the base\n"


def test_a_base_in_dockers_own_format(author, server, tmp_path, containerd):
    """Schema 2, as Docker and skopeo push it; the composed image is OCI."""
    shelf = ImageLayout(tmp_path / "shelf")
    publish_base(shelf, "v3")
    target = f"docker://{server.host}/images/docker:v3"
    skopeo("copy", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{shelf.path}:v3", target)
    with open_registry(server.host, "images/docker") as source, open_registry(server.host, "team/sixth") as registry:
        assert DOCKER_MANIFEST_MEDIA_TYPE.encode() in source.get_manifest("v3")[0]
        base = read_base_image(source, "v3")
        copy_base(source, registry, base)
        author.push(registry, "composed", base=base)
    reference = f"{server.host}/team/sixth:composed"
    containerd.pull(reference)
    assert containerd.run(reference, "docker", "/bin/sh", "-c", "echo $GREETING; tool") == "from the base\ntool\n"


def test_a_session_in_a_container_ships_what_it_changed(author, server, containerd):
    """The environment lies in the base image; on it come what was added, changed and removed since."""
    site = author.prefix / "lib" / PYTHON / "site-packages"
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)  # sizes and times tell, as nothing was touched since then
    with open_registry(server.host, "team/fifth") as registry:
        publish_base(registry, "base", author.prefix)
        (site / "pack-1.0.dist-info").rename(site / "pack-2.0.dist-info")
        (site / "pack/__init__.py").write_text("ANSWER = 'from the session, and longer'\n")
        shutil.rmtree(site / "pack/__pycache__")
        (site / "pack/data/empty").rmdir()
        author.push(registry, "session", base=read_base_image(registry, "base"), started_at=tomorrow)
        image = read_image(registry, "session")
    shipped = [layer for layer in image.with_role(LayerRole.ENVIRONMENT) if layer.size > 100_000]
    assert shipped == []  # core.bin stays where it is
    reference = f"{server.host}/team/fifth:session"
    containerd.pull(reference)
    with containerd.mounted(reference) as rootfs:
        expected = {path: as_installed(path, entry) for path, entry in describe(author.prefix).items()}
        live = describe(author.environment_below(rootfs))
        assert differences(expected, {path: as_installed(path, entry) for path, entry in live.items()}) == {}
    command = ["python", "-c", "import pack; print(pack.ANSWER)"]
    assert containerd.run(reference, "session", *command) == "from the session, and longer\n"
