"""Whatever layers, lists, manifests and stores say: nothing outside the target changes, and nothing bad is accepted."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from dataclasses import replace

import pytest
from snapshot_forgery import (
    END,
    MAGIC,
    Forgery,
    digest_of,
    directory,
    entry,
    hard_link,
    list_surroundings,
    pax,
    symlink,
)

from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageError
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.oci.work_index import read_work_index
from jupyterlab_ai_batch.snapshot import beneath, codec, environment_restore, extract, restore
from jupyterlab_ai_batch.snapshot.environment_index import EnvironmentEntry
from jupyterlab_ai_batch.snapshot.limits import RestoreLimits

LIMITS = RestoreLimits(unpacked_bytes=8 << 20, entries=500)
BIG = 16 << 20


@pytest.fixture(params=["openat2", "step by step"])
def way(request, monkeypatch):
    """Both ways of opening directories."""
    if request.param == "openat2":
        if not beneath._has_openat2():
            pytest.skip("the kernel has no openat2")
    else:
        monkeypatch.setattr(extract, "open_beneath", beneath.open_step_by_step)
    return request.param


@pytest.fixture
def around(tmp_path):
    """A directory with a secret beside the target, and links to it in reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "near").symlink_to("outside")
    (tmp_path / "target").mkdir()
    return tmp_path


def refuse(around, forgery, *, edit=lambda _manifest: None, error=SnapshotCorruptError):
    digest = forgery.finish(edit=edit)
    before = list_surroundings(around)
    with pytest.raises(error) as caught:
        restore.restore_work(forgery.store, digest, around / "target", limits=LIMITS)
    after = list_surroundings(around)
    before.pop(str(around)), after.pop(str(around))  # the directory that the target was built in
    assert before == after
    return caught.value


def accept(around, *tars, names=()):
    forgery = Forgery()
    for number, tar in enumerate(tars):
        forgery.add(tar, name=names[number] if names else "")
    before = {path: found for path, found in list_surroundings(around).items() if "/outside" in path}
    restore.restore_work(forgery.store, forgery.finish(), around / "target", limits=LIMITS)
    assert before == {path: found for path, found in list_surroundings(around).items() if "/outside" in path}
    return around / "target"


OUT = b"../outside"

# Name -> tar streams, the oldest layer first; all end with an end mark unless they say otherwise.
HOSTILE: dict[str, tuple[bytes, ...]] = {
    "a name with ..": (entry(b"w/../../outside/new"),),
    "a name with .. that stays inside": (directory(b"w/d") + entry(b"w/d/../new"),),
    "a name that ends with ..": (directory(b"w/.."),),
    "a name with .": (entry(b"w/./a"),),
    "an absolute name": (entry(b"/etc/new"),),
    "an absolute name in PAX": (pax((b"path", b"/etc/new")) + entry(),),
    "a name outside the work root": (entry(b"x/new"),),
    "a name that begins like the work root": (entry(b"work/new"),),
    "an empty name": (entry(b""),),
    "an empty part": (entry(b"w//a"),),
    "a file with a slash at its end": (entry(b"w/a/"),),
    "the work root as a file": (entry(b"w"),),
    "the work root as a link": (symlink(b"w", b"outside"),),
    "a NUL in a PAX name": (pax((b"path", b"w/a\0b")) + entry(),),
    "a NUL in a PAX link": (pax((b"linkpath", b"a\0b")) + symlink(b"w/l", b"x"),),
    "a part of 256 bytes": (pax((b"path", b"w/" + b"n" * 256)) + entry(),),
    "a part of 255 characters, 510 bytes": (pax((b"path", b"w/" + "é".encode() * 255)) + entry(),),
    "a path of 4096 bytes": (pax((b"path", b"w/" + b"/".join([b"n" * 200] * 21))) + entry(),),
    "a deep path": (pax((b"path", b"w" + b"/d" * 1500)) + directory(b"x"),),
    "a link target of 4096 bytes": (pax((b"linkpath", b"t" * 4096)) + symlink(b"w/l", b"x"),),
    "an empty link": (symlink(b"w/l", b""),),
    "a file through a link": (symlink(b"w/l", OUT) + entry(b"w/l/new"),),
    "a file through an absolute link": (symlink(b"w/l", b"OUTSIDE") + entry(b"w/l/new"),),
    "a file through links through links": (symlink(b"w/a", b".") + symlink(b"w/a/b", OUT) + entry(b"w/a/b/new"),),
    "a file through a loop": (symlink(b"w/a", b"b") + symlink(b"w/b", b"a") + entry(b"w/a/new"),),
    "a directory through a link": (symlink(b"w/l", OUT) + directory(b"w/l/new"),),
    "a directory's mode through a link": (symlink(b"w/l", OUT) + directory(b"w/l"),),
    "a link through a link": (symlink(b"w/l", OUT) + symlink(b"w/l/new", b"x"),),
    "an older link under a newer file": (symlink(b"w/l", OUT), entry(b"w/l/new")),
    "a directory that becomes a link": (directory(b"w/d") + symlink(b"w/d", OUT) + entry(b"w/d/new"),),
    "a file that becomes a directory": (entry(b"w/a") + entry(b"w/a/b"),),
    "a file that becomes a link": (entry(b"w/a", b"x") + symlink(b"w/a", OUT),),
    "a link that becomes a file": (symlink(b"w/a", b"../outside/secret") + entry(b"w/a", b"new"),),
    "a hard link out": (hard_link(b"w/l", b"outside/secret"),),
    "a hard link out by ..": (hard_link(b"w/l", b"w/../outside/secret"),),
    "an absolute hard link": (hard_link(b"w/l", b"/etc/passwd"),),
    "a hard link to nothing": (hard_link(b"w/l", b"w/none"),),
    "a hard link to itself": (hard_link(b"w/l", b"w/l"),),
    "a hard link to a directory": (directory(b"w/d") + hard_link(b"w/l", b"w/d"),),
    "a hard link to the work root": (hard_link(b"w/l", b"w"),),
    "a hard link to a link": (symlink(b"w/s", b"../outside/secret") + hard_link(b"w/l", b"w/s"),),
    "a hard link through a link": (symlink(b"w/s", OUT) + hard_link(b"w/l", b"w/s/secret"),),
    "a hard link to what comes later": (hard_link(b"w/l", b"w/z") + entry(b"w/z"),),
    "a hard link to another layer's file": (entry(b"w/a", b"x"), hard_link(b"w/l", b"w/a")),
    "a hard link to what a newer layer replaces": (entry(b"w/a") + hard_link(b"w/l", b"w/a"), entry(b"w/a", b"n")),
    "a hard link to what a newer layer deletes": (entry(b"w/a") + hard_link(b"w/l", b"w/a"), entry(b"w/.wh.a")),
    "a hard link with content": (entry(b"w/a") + entry(b"w/l", b"content", kind=b"1", link=b"w/a"),),
    "a directory with content": (entry(b"w/d/", b"content", kind=b"5"),),
    "a link with content": (entry(b"w/l", b"content", kind=b"2", link=b"x"),),
    "a link farm": (entry(b"w/a") + b"".join(hard_link(b"w/%d" % n, b"w/a") for n in range(600)),),
    "too many entries": (b"".join(directory(b"w/%d" % n) for n in range(600)),),
    "too many deletions": (b"".join(entry(b"w/.wh.%d" % n) for n in range(600)),),
    "too many hidden entries": (b"".join(entry(b"w/d/%d" % n) for n in range(600)), entry(b"w/.wh.d")),
    "the same file twice": (entry(b"w/a", b"1") + entry(b"w/a", b"2"),),
    "the same directory twice": (directory(b"w/d") + directory(b"w/d"),),
    "the same deletion and file below": (entry(b"w/.wh.d") + entry(b"w/.wh.d/x"),),
    "a deletion of ..": (entry(b"w/.wh..."),),
    "a deletion of .": (entry(b"w/.wh.."),),
    "a deletion of nothing": (entry(b"w/.wh."),),
    "a deletion of the work root": (entry(b".wh.w"),),
    "a deletion above": (entry(b"w/../.wh.outside"),),
    "an opaque mark": (entry(b"w/.wh..wh..opq"),),
    "a deletion mark with content": (entry(b"w/.wh.a", b"x"),),
    "a deletion mark that is a directory": (directory(b"w/.wh.a"),),
    "a name below a deletion mark": (entry(b"w/.wh.d/x"),),
    "a character device": (entry(b"w/dev", kind=b"3"),),
    "a block device": (entry(b"w/dev", kind=b"4"),),
    "a fifo": (entry(b"w/fifo", kind=b"6"),),
    "a contiguous file": (entry(b"w/a", kind=b"7"),),
    "an old tar's file": (entry(b"w/a", kind=b"\0"),),
    "a GNU sparse file": (entry(b"w/a", kind=b"S"),),
    "a GNU long name": (entry(b"././@LongLink", b"w/long\0", kind=b"L") + entry(),),
    "a GNU long link": (entry(b"././@LongLink", b"w/long\0", kind=b"K") + entry(),),
    "a GNU header": (entry(magic=b"ustar  \0"),),
    "a header without ustar": (entry(magic=b""),),
    "a header with a user's name": (entry(magic=MAGIC[:8] + b"root" + MAGIC[12:]),),
    "a header with a device's number": (entry(magic=MAGIC[:72] + b"jjjjjjjj" + MAGIC[80:]),),
    "global PAX records": (entry(b"x", kind=b"g") + entry(),),
    "an unknown type": (entry(kind=b"Z"),),
    "two PAX headers": (pax((b"path", b"w/a")) + pax((b"path", b"w/b")) + entry(),),
    "a PAX header for nothing": (pax((b"path", b"w/a")),),
    "a PAX sparse file": (pax((b"GNU.sparse.major", b"1")) + entry(),),
    "an unknown PAX record": (pax((b"SCHILY.xattr.security.capability", b"x")) + entry(),),
    "a repeated PAX record": (pax((b"path", b"w/a"), (b"path", b"w/b")) + entry(),),
    "a PAX record of no length": (pax(body=b"path=w/a\n") + entry(),),
    "a PAX record of length 0": (pax(body=b"0 path=w/a\n") + entry(),),
    "a PAX record longer than its header": (pax(body=b"99 path=w/a\n") + entry(),),
    "a PAX record with a huge length": (pax(body=b"9" * 5000 + b" path=w/a\n") + entry(),),
    "a PAX record without its end": (pax(body=b"11 path=w/a") + entry(),),
    "a PAX record without a value": (pax(body=b"7 path\n") + entry(),),
    "a huge PAX header": (entry(b"x", kind=b"x", size=b"77777777777"),),
    "a PAX header above 1 MiB": (pax((b"path", b"w/" + b"n" * (2 << 20))) + entry(),),
    "a huge size": (entry(size=b"77777777777"),),
    "a huge PAX size": (pax((b"size", b"9" * 18)) + entry(),),
    "a PAX size of 4000 digits": (pax((b"size", b"9" * 4000)) + entry(),),
    "a negative PAX size": (pax((b"size", b"-1")) + entry(),),
    "a size in base 256": (entry(size=b"\x80" + bytes(10) + b"\x01"),),
    "a negative size in base 256": (entry(size=b"\xff" * 12),),
    "a negative size": (entry(size=b"-0000000001"),),
    "a size that is no number": (entry(size=b"0x1"),),
    "a size with an underscore": (entry(b"w/a", b"12345678", size=b"1_0"),),
    "a size with 8 in it": (entry(size=b"00000000008"),),
    "a mode that is no number": (entry(mode=b"rwxr-xr"),),
    "a uid that means nobody": (pax((b"uid", b"4294967295")) + entry(),),
    "a huge uid": (pax((b"uid", b"9" * 18)) + entry(),),
    "a PAX mtime that is no number": (pax((b"mtime", b"nan")) + entry(),),
    "a PAX mtime of 4000 digits": (pax((b"mtime", b"9" * 4000)) + entry(),),
    "a wrong checksum": (entry(checksum=b"000000\0 "),),
    "a checksum that is no number": (entry(checksum=b"garbage!"),),
    "bytes that are no tar": (b"garbage!" * 200,),
    "content cut short": (entry(b"w/a", bytes(2000))[:-1024] + b"STOP",),
    "a header cut short": (entry()[:100] + b"STOP",),
    "no end mark": (entry(b"w/a", b"x") + b"STOP",),
    "half an end mark": (entry(b"w/a", b"x") + bytes(512) + b"STOP",),
    "an entry after half an end mark": (entry() + bytes(512) + entry(b"w/b"),),
    "an entry after the end mark": (entry() + END + entry(b"w/b"),),
    "garbage after the end mark": (entry() + END + b"x",),
    "a large empty tail": (entry() + END + bytes(1 << 20),),
    "nothing at all": (b"STOP",),
    "a file of zeros that is too large": (entry(b"w/zeros", bytes(BIG)),),
    "a hidden file of zeros that is too large": (entry(b"w/zeros", bytes(BIG)), entry(b"w/zeros")),
    "a tail of zeros that is too large": (entry() + END + bytes(BIG),),
    "many layers that are too large together": tuple(entry(b"w/%d" % n, bytes(3 << 20)) for n in range(3)),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_layers_are_refused(around, name):
    """The error has a stable code, the target stays empty, what lies around it stays as it is."""
    forgery = Forgery()
    for tar in HOSTILE[name]:
        patched = tar.replace(b"OUTSIDE".ljust(100, b"\0"), os.fsencode(around / "outside").ljust(100, b"\0"))
        forgery.add(patched.removesuffix(b"STOP") if patched.endswith(b"STOP") else patched + END)
    assert refuse(around, forgery).code == "snapshot_corrupt"


@pytest.mark.parametrize("name", ["base", "base: a", "delta: a"])
@pytest.mark.parametrize("hostile", ["a file through a link", "a hard link out", "the same file twice", "a fifo"])
def test_they_are_refused_on_every_thread(around, name, hostile):
    """Layers of a base, and those of large files, are read beside each other; the others stop."""
    forgery = Forgery()
    forgery.add(entry(b"w/other", bytes(1 << 20)) + END, name="base 1")
    forgery.add(HOSTILE[hostile][0] + END, name=name)
    refuse(around, forgery)


def test_a_large_files_layer_holds_nothing_else(around):
    """Its name says which file it brings; newer layers were asked about that one only."""
    forgery = Forgery()
    forgery.add(entry(b"w/a") + entry(b"w/b") + END, name="base: a")
    refuse(around, forgery)


def test_layers_of_a_base_share_no_path(around):
    """They are written at the same time: which one wins would be chance."""
    forgery = Forgery()
    forgery.add(entry(b"w/a", b"1") + END, name="base 1")
    forgery.add(entry(b"w/a", b"2") + END, name="base")
    refuse(around, forgery)


PACKED = {
    "not compressed": lambda tar: tar,
    "nothing": lambda _tar: b"",
    "cut short": lambda tar: gzip.compress(tar)[:-9],
    "without its checksum": lambda tar: gzip.compress(tar)[:-8],
    "with a wrong checksum": lambda tar: gzip.compress(tar)[:-8] + bytes(4) + gzip.compress(tar)[-4:],
    "with a wrong length": lambda tar: gzip.compress(tar)[:-4] + bytes(4),
    "with damaged content": lambda tar: gzip.compress(tar)[:20] + b"\xff" * 40 + gzip.compress(tar)[60:],
    "with garbage behind": lambda tar: gzip.compress(tar) + b"garbage",
    "with half a member behind": lambda tar: gzip.compress(tar) + gzip.compress(b"x")[:-4],
    "with another member behind": lambda tar: gzip.compress(tar) + gzip.compress(b"x"),
    "as zlib": zlib.compress,
    "as raw deflate": lambda tar: zlib.compress(tar)[2:-4],
    "of an unknown method": lambda tar: b"\x1f\x8b\x07" + gzip.compress(tar)[3:],
}


@pytest.mark.parametrize("isal", [True, False])
@pytest.mark.parametrize("name", PACKED)
def test_damaged_compression_is_refused(around, monkeypatch, name, isal):
    """With ISA-L and with zlib: never another error."""
    if not isal:
        monkeypatch.setattr(codec, "igzip_lib", None)
    forgery = Forgery()
    forgery.add(entry(b"w/a", os.urandom(3000)) + END, pack=PACKED[name])
    refuse(around, forgery)


def test_a_header_that_announces_too_much_is_refused_before_it_is_written(around):
    """The disk is not filled first."""
    forgery = Forgery()
    forgery.add(entry(b"w/a", b"x", size=b"%011o" % (BIG)))
    assert "more bytes" in refuse(around, forgery).details["cause"]


def _set(**changes):
    return lambda manifest: manifest["layers"][0].update(changes)


MANIFESTS = {
    "another size": _set(size=5),
    "one byte more": lambda m: m["layers"][0].update(size=m["layers"][0]["size"] + 1),
    "one byte less": lambda m: m["layers"][0].update(size=m["layers"][0]["size"] - 1),
    "a negative size": _set(size=-1),
    "a size that is true": _set(size=True),
    "a size that is text": _set(size="1"),
    "a digest of another blob": lambda m: m["layers"][0].update(digest=m["config"]["digest"]),
    "a digest of nothing": _set(digest=digest_of(b"nothing")),
    "a digest that is a path": _set(digest="sha256:../../outside"),
    "a digest of another kind": _set(digest="md5:" + "0" * 32),
    "another media type": _set(mediaType="application/vnd.oci.image.layer.v1.tar"),
    "an unknown role": _set(annotations={"ai-batch.role": "root"}),
    "no role": _set(annotations={}),
    "annotations that are none": _set(annotations=[1]),
    "one layer more": lambda m: m["layers"].append(m["layers"][0]),
    "one layer less": lambda m: m["layers"].pop(),
    "layers that are none": lambda m: m.update(layers={"0": 1}),
    "a layer that is none": lambda m: m["layers"].__setitem__(0, None),
    "a config that is none": lambda m: m.update(config=None),
    "a config that is missing": lambda m: m["config"].update(digest=digest_of(b"nothing")),
    "a layer as config": lambda m: m["config"].update(digest=m["layers"][0]["digest"]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_lie_are_refused(around, name):
    """Sizes, digests, roles and counts are all checked."""
    forgery = Forgery()
    forgery.add(entry(b"w/a", os.urandom(100)) + END)
    refuse(around, forgery, edit=MANIFESTS[name])


def test_a_wrong_diff_id_is_refused(around):
    """The blob is what the manifest says, its content is not what the config says."""
    forgery = Forgery()
    forgery.layers.append(replace(forgery.add(entry(b"w/a", b"1") + END), diff_id=digest_of(b"other")))
    del forgery.layers[0]
    assert "diff id" in refuse(around, forgery).details["cause"]


class _Endless(io.RawIOBase):
    """Gzip members for ever."""

    def __init__(self, content):
        self._member, self.given = content, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), len(self._member))
        buffer[:count] = self._member[:count]
        self._member = self._member[count:] + self._member[:count]
        self.given += count
        assert self.given < BIG
        return count


class _Broken(io.BytesIO):
    """Fails half-way, as a connection does."""

    def read(self, size=-1):
        if self.tell():
            raise StorageError("The connection is gone.")
        return super().read(min(size, 100))


LIES = {
    "other content": lambda content: io.BytesIO(gzip.compress(gzip.decompress(content).replace(b"GOOD", b"EVIL"))),
    "less": lambda content: io.BytesIO(content[:-1]),
    "more": lambda content: io.BytesIO(content + content),
    "padding": lambda content: io.BytesIO(content + bytes(100)),
    "nothing": lambda _content: io.BytesIO(),
    "no end": _Endless,
}


@pytest.mark.parametrize("name", LIES)
def test_a_store_that_lies_about_a_layer_is_found_out(around, name):
    """Even one that verifies nothing: the manifest's digest vouches for everything else."""
    forgery = Forgery()
    forgery.store.lies[forgery.add(entry(b"w/a", b"GOOD" * 1000) + END).digest] = LIES[name]
    refuse(around, forgery)


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_store_that_lies_about_what_vouches_is_found_out(around, which):
    """Another manifest or config than the one that was asked for is refused, however good it is."""
    forgery, other = Forgery(), Forgery()
    forgery.add(entry(b"w/a", b"GOOD") + END)
    other.add(entry(b"w/a", b"EVIL") + END)
    digests = [f.finish() for f in (forgery, other)]
    forgery.store.blobs.update(other.store.blobs)
    if which == "config":
        digests = [_config_digest(f, digest) for f, digest in zip((forgery, other), digests, strict=True)]
    evil = other.store.blobs[digests[1]]
    forgery.store.lies[digests[0]] = lambda _content: io.BytesIO(evil)
    refuse(around, forgery)


def _config_digest(forgery, digest):
    return restore.read_image.__globals__["parse_config_digest"](forgery.store.blobs[digest])


def test_a_connection_that_breaks_leaves_nothing(around):
    """The store's own error comes through."""
    forgery = Forgery()
    forgery.store.lies[forgery.add(entry(b"w/a", os.urandom(5000)) + END).digest] = _Broken
    refuse(around, forgery, error=StorageError)


@pytest.mark.usefixtures("way")
def test_a_target_that_is_not_empty_stays_as_it_is(around):
    """Nothing is mixed into what somebody has there."""
    (around / "target/mine").write_text("mine")
    forgery = Forgery()
    forgery.add(entry(b"w/a") + END)
    refuse(around, forgery, error=StorageError)


# What looks hostile and is a user's right.


def test_links_are_restored_and_never_followed(around):
    """Absolute, dangling, upward and circular ones."""
    links = {"absolute": "/etc/passwd", "up": "../outside/secret", "self": "self", "none": "gone"}
    tar = b"".join(symlink(f"w/{name}".encode(), target.encode()) for name, target in links.items())
    target = accept(around, directory(b"w") + tar + END)
    assert {path.name: str(path.readlink()) for path in target.iterdir()} == links


def test_strange_names_are_kept(around):
    """Newlines, backslashes, control characters, bytes that are not UTF-8, names that begin with a dot or dash."""
    names = [b"new\nline", b"back\\slash", b"\x01\x7f", b"caf\xe9", b"-rf", b"...", b" ", b"n" * 90]
    names.append("é".encode() * 127)
    tar = b"".join(pax((b"path", b"w/" + name)) + entry(b"x", name) for name in names)
    target = accept(around, tar + END)
    assert {os.fsencode(path.name): path.read_bytes() for path in target.iterdir()} == {name: name for name in names}


def test_names_that_differ_in_case_only_are_two_files(around):
    """Where the file system tells them apart."""
    target = accept(around, entry(b"w/a", b"1") + entry(b"w/A", b"2") + END)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a": b"1", "A": b"2"}


def test_a_file_never_runs_as_its_owner(around):
    """The bits for that are left out of files; a directory's say who owns what is made in it."""
    shared = entry(b"w/shared/", kind=b"5", mode=b"0002775")
    target = accept(around, entry(b"w/a", mode=b"0006755") + shared + END)
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "shared").stat().st_mode) == 0o2775


def test_deletions_of_what_is_not_there_are_harmless(around):
    """So are those of what the same layer brings."""
    target = accept(
        around, entry(b"w/old") + END, entry(b"w/.wh.none") + entry(b"w/.wh.old") + entry(b"w/old", b"n") + END
    )
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"old": b"n"}


def test_a_newer_link_hides_the_directory_below(around):
    """What older layers have in that directory is not written through the link."""
    target = accept(around, directory(b"w/d") + entry(b"w/d/new") + END, symlink(b"w/d", OUT) + END)
    assert [str(path.readlink()) for path in target.iterdir()] == ["../outside"]


def test_long_runs_of_zeros_are_holes(around):
    """They come back as zeros without taking space, wherever in the file they are."""
    content = b"head" + bytes(3 << 20) + b"middle" + bytes(2 << 20)
    target = accept(around, entry(b"w/a", content) + END)
    assert (target / "a").read_bytes() == content
    assert (target / "a").stat().st_blocks * 512 < len(content) / 2


def test_large_files_that_are_replaced_are_not_read(around):
    """The layer of one that a newer layer holds is not even opened."""
    forgery = Forgery()
    old = forgery.add(entry(b"w/a", b"old") + END, name="base: a")
    forgery.add(entry(b"w/b", b"b") + END, name="base")
    forgery.add(entry(b"w/a", b"new") + END, name="delta: a")
    del forgery.store.blobs[old.digest]
    restore.restore_work(forgery.store, forgery.finish(), around / "target", limits=LIMITS)
    assert {path.name: path.read_text() for path in (around / "target").iterdir()} == {"a": "new", "b": "b"}


def test_a_layer_keeps_its_name_where_others_use_it(around):
    """A large file's layer from an earlier base may stand above the present one, and a delta's below it."""
    names = ["delta: b", "base 7", "base", "base: a", "delta"]
    tars = [entry(b"w/b", b"b"), entry(b"w/c", b"c"), entry(b"w/a", b"old"), entry(b"w/a", b"new"), entry(b"w/.wh.c")]
    target = accept(around, *(tar + END for tar in tars), names=names)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "new", "b": "b"}


# Environments: the list says what is written; the layers only bring content.

FILE_MODE, LINK_MODE, DIRECTORY_MODE = 0o100644, 0o120777, 0o040755


def listed(path, mode=FILE_MODE, content=b"", *, target="", layer="pack", size=None):
    digest = digest_of(content)[7:] if mode == FILE_MODE else ""
    return EnvironmentEntry(path, mode, len(content) if size is None else size, digest, layer, target, False)


ENVIRONMENTS = {
    "a path with ..": [listed("e/../outside/new")],
    "an absolute path": [listed("/e/new")],
    "a path outside": [listed("other/new")],
    "a NUL": [listed("e/a\0b")],
    "a long name": [listed("e/" + "n" * 300)],
    "a file through a link": [listed("e/l", LINK_MODE, target="OUTSIDE"), listed("e/l/new", content=b"new")],
    "a directory through a link": [
        listed("e/l", LINK_MODE, target="OUTSIDE"),
        listed("e/l", DIRECTORY_MODE),
        listed("e/l/new", DIRECTORY_MODE),
    ],
    "a link twice": [listed("e/l", LINK_MODE, target="a"), listed("e/l", LINK_MODE, target="b")],
    "an empty link": [listed("e/l", LINK_MODE)],
    "a device": [listed("e/dev", 0o020666)],
    "a file that no layer has": [listed("e/new", content=b"absent")],
    "a file of another size": [listed("e/new", content=b"new", size=9)],
    "a file of other content": [listed("e/new", content=b"old")],
    "a file of another layer": [listed("e/new", content=b"new", layer="other")],
    "a file that is a link in the layer": [listed("e/link", content=b"")],
    "a .pyc without the constant time": [listed("e/new", content=b"new")._replace(is_timed=True)],
    "a negative size": [listed("e/new", size=-1)],
    "a size beyond all disks": [listed("e/new", size=10**40)],
    "too many": [listed(f"e/{n}", DIRECTORY_MODE) for n in range(600)],
}


def forge_environment(entries, **content):
    forgery = Forgery()
    forgery.content = replace(forgery.content, prefixes=("/e",), **content)
    layer = directory(b"e") + entry(b"e/new", b"new") + entry(b"e/l/new", b"new") + symlink(b"e/link", b"x")
    forgery.add(layer + END, role=LayerRole.ENVIRONMENT, name="pack")
    forgery.add_environment_index(entries)
    return forgery


def refuse_environment(around, forgery):
    digest = forgery.finish()
    (around / "made.lock").touch()
    before = list_surroundings(around)
    with pytest.raises(SnapshotCorruptError):
        environment_restore.materialise_environment(forgery.store, digest, around / "made", limits=LIMITS)
    after = list_surroundings(around)
    before.pop(str(around)), after.pop(str(around))
    assert before == after


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_hostile_lists_of_an_environment_are_refused(around, name):
    """Nothing is made, nothing outside changes."""
    entries = [e._replace(target=e.target.replace("OUTSIDE", str(around / "outside"))) for e in ENVIRONMENTS[name]]
    refuse_environment(around, forge_environment(entries))


@pytest.mark.parametrize("prefix", ["e", "/e/../x", "/", "//e", "/e/", "/e\0", ""])
def test_hostile_prefixes_are_refused(around, prefix):
    """They become places that the job sees."""
    forgery = forge_environment([listed("e/new", content=b"new")])
    forgery.content = replace(forgery.content, prefixes=(prefix,))
    refuse_environment(around, forgery)


@pytest.mark.parametrize(
    "value", ["1e999", "Infinity", "NaN", "-1", "true", '"7"', "1.5", "[1]", "null", "1" + "0" * 40]
)
@pytest.mark.parametrize("field", ["size", "mode", "mtime_ns"])
def test_numbers_that_are_none_are_refused_in_the_work_trees_index(field, value):
    """It is what results are compared with."""
    numbers = {"size": "0", "mode": "420", "mtime_ns": "0", field: value}
    fields = ",".join(f'"{name}":{number}' for name, number in numbers.items())
    line = f'{{"path":"a","type":"file","sha256":"",{fields}}}'
    if (field, value) == ("mtime_ns", "-1"):
        assert [entry.mtime_ns for entry in read_work_index(gzip.compress(line.encode()))] == [-1]
        return
    with pytest.raises(SnapshotCorruptError):
        list(read_work_index(gzip.compress(line.encode())))


def test_an_honest_environment_passes(around):
    """The forgery itself is sound."""
    digest = (forgery := forge_environment([listed("e", DIRECTORY_MODE), listed("e/new", content=b"new")])).finish()
    view = environment_restore.materialise_environment(forgery.store, digest, around / "made", limits=LIMITS)
    assert (view.mounts[0].source / "new").read_bytes() == b"new"


def test_a_list_that_expands_too_far_is_refused(around):
    """The list is compressed already: a layer that makes much more of it holds something else."""
    forgery = Forgery()
    bomb = entry(b"opt/ai-batch/environment-index.jsonl.gz", bytes(BIG))
    forgery.add(bomb + END, role=LayerRole.ENVIRONMENT_INDEX)
    refuse_environment(around, forgery)
