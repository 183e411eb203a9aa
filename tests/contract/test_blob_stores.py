"""What every BlobStore promises: the image layout on disk, and a repository of a registry."""

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import BlobMissingError, SnapshotCorruptError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Descriptor
from jupyterlab_ai_batch.oci.transfer import copy_blob, copy_image
from tests.registries import RegistryServer, open_registry


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RegistryServer(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(params=["layout", "registry"])
def new_store(request, tmp_path):
    """Makes stores of one kind that are empty, and neighbours of each other."""
    with contextlib.ExitStack() as stack:

        def make(name="one"):
            if request.param == "layout":
                return ImageLayout(tmp_path / name)
            host = request.getfixturevalue("server").host
            place = f"{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}/{name}"
            return stack.enter_context(open_registry(host, place))

        yield make


@pytest.fixture
def store(new_store):
    return new_store()


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor_of(content):
    return Descriptor(media_type="application/octet-stream", digest=digest_of(content), size=len(content))


def manifest_of(*contents):
    config, *layers = (
        {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}
        for content in contents
    )
    fields = {"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config, "layers": layers}
    return json.dumps(fields).encode()


def put_image(store, tag, *contents):
    for content in contents:
        store.put_blob(content)
    return store.put_manifest(manifest_of(*contents), tag=tag, media_type=MANIFEST_MEDIA_TYPE)


def test_a_blob_comes_back_as_it_was_written(store):
    """Content, digest and size agree, however it is read."""
    with store.write_blob() as writer:
        writer.write(b"hello ")
        writer.write(memoryview(bytearray(b"world")))
        digest, size = writer.commit()
    with store.open_blob(digest) as stream:
        pieces = [stream.read(1), stream.read(4), stream.read(), stream.read()]
    assert (digest, size, store.has_blob(digest)) == (digest_of(b"hello world"), 11, True)
    assert (pieces, store.read_blob(digest, limit_bytes=11)) == ([b"h", b"ello", b" world", b""], b"hello world")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_pieces_do_not_matter(store, pieces):
    """A blob is the concatenation of what was written, also of nothing."""
    with store.write_blob() as writer:
        buffer = bytearray(300)
        for piece in pieces:  # a writer's buffer may be used again
            buffer[: len(piece)] = piece
            writer.write(memoryview(buffer)[: len(piece)])
        stored = writer.commit()
    whole = b"".join(pieces)
    assert stored == (digest_of(whole), len(whole))
    assert store.read_blob(stored[0], limit_bytes=len(whole)) == whole


def test_a_large_blob_comes_back(store):
    """More than what is kept in memory, with a last piece that is not round."""
    piece = os.urandom(1 << 20)
    sha256 = hashlib.sha256()
    with store.write_blob() as writer:
        for number in range(70):
            for part in (number.to_bytes(3, "big"), piece):
                writer.write(part)
                sha256.update(part)
        digest, size = writer.commit()
    found = hashlib.sha256()
    with store.open_blob(digest) as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    assert (digest, size, found.hexdigest()) == (
        f"sha256:{sha256.hexdigest()}",
        70 * ((1 << 20) + 3),
        sha256.hexdigest(),
    )


def test_what_is_not_committed_is_not_there(store):
    """A writer that is left by an exception, or without commit, leaves nothing."""

    def fail():
        with store.write_blob() as writer:
            writer.write(b"half a blob")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.write_blob() as writer:
        writer.write(b"another half")
    assert [store.has_blob(digest_of(content)) for content in (b"half a blob", b"another half")] == [False, False]


def test_a_blob_twice_is_one(store):
    """Publishing a digest that exists changes nothing."""
    assert store.put_blob(b"same") == store.put_blob(b"same")
    assert store.read_blob(digest_of(b"same"), limit_bytes=4) == b"same"


def test_a_blob_that_is_not_there_is_missing(store):
    """Reading says which one; asking says no."""
    digest = digest_of(b"never stored")
    assert not store.has_blob(digest)
    for read in (store.open_blob, lambda missing: store.read_blob(missing, limit_bytes=10)):
        with pytest.raises(BlobMissingError) as caught:
            read(digest)
        assert caught.value.digests == (digest,)


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "A" * 64, "../../etc/passwd", "sha256:" + "0" * 63 + "/"]
)
def test_what_is_not_a_digest_is_refused(store, digest):
    """Nothing is asked for by such a name."""
    with pytest.raises(SnapshotCorruptError):
        store.has_blob(digest)
    with pytest.raises(SnapshotCorruptError):
        store.open_blob(digest)


def test_a_record_larger_than_its_limit_is_refused(store):
    """A reader of small records is not flooded."""
    digest, _ = store.put_blob(b"12345")
    with pytest.raises(SnapshotCorruptError):
        store.read_blob(digest, limit_bytes=4)


def test_a_manifest_is_found_by_tag_and_digest(store):
    """The tag moves as a whole; the old manifest stays there for its digest."""
    first = put_image(store, "latest", b"{}", b"layer 1")
    second = put_image(store, "latest", b"{}", b"layer 2")
    assert store.get_manifest("latest") == (manifest_of(b"{}", b"layer 2"), second)
    assert store.get_manifest(first) == (manifest_of(b"{}", b"layer 1"), first)


def test_a_manifest_needs_its_blobs(store):
    """Those that are not there are named, and the tag is not set; with them, it is."""
    store.put_blob(b"{}")
    manifest = manifest_of(b"{}", b"there", b"gone 1", b"gone 2")
    store.put_blob(b"there")
    with pytest.raises(BlobMissingError) as caught:
        store.put_manifest(manifest, tag="snapshot", media_type=MANIFEST_MEDIA_TYPE)
    assert set(caught.value.digests) == {digest_of(b"gone 1"), digest_of(b"gone 2")}
    assert list(store.tags()) == []
    put_image(store, "snapshot", b"{}", b"there", b"gone 1", b"gone 2")
    assert store.get_manifest("snapshot") == (manifest, digest_of(manifest))


def test_what_nothing_names_is_not_found(store):
    """Tags, digests and nonsense alike."""
    for reference in ("nothing", digest_of(b"nothing"), "not a tag", "../latest", "a" * 200, ""):
        with pytest.raises(SnapshotCorruptError):
            store.get_manifest(reference)


def test_tags_are_listed_with_digests(store):
    """Also two tags of one manifest."""
    assert list(store.tags()) == []
    one = put_image(store, "one", b"{}", b"1")
    two = put_image(store, "two", b"{}", b"2")
    assert put_image(store, "three", b"{}", b"1") == one
    assert dict(store.tags()) == {"one": one, "two": two, "three": one}


def test_tag_names_are_listed(store):
    """Without asking what each one names."""
    assert list(store.tag_names()) == []
    for tag in ("one", "two"):
        put_image(store, tag, b"{}", tag.encode())
    assert sorted(store.tag_names()) == ["one", "two"]


def test_members_of_an_index_need_no_tag(store):
    """They are found by their digest, by way of the index that names them."""
    for content in (b"{}", b"one"):
        store.put_blob(content)
    member = manifest_of(b"{}", b"one")
    digest = store.put_manifest(member, tag=None, media_type=MANIFEST_MEDIA_TYPE)
    assert list(store.tag_names()) == []
    entry = {"mediaType": MANIFEST_MEDIA_TYPE, "digest": digest, "size": len(member)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [entry]}).encode()
    store.put_manifest(index, tag="index", media_type=INDEX_MEDIA_TYPE)
    assert store.get_manifest("index")[0] == index
    assert store.get_manifest(digest) == (member, digest)
    assert list(store.tag_names()) == ["index"]


def test_a_member_needs_its_blobs(store):
    """As every manifest does."""
    with pytest.raises(BlobMissingError):
        store.put_manifest(manifest_of(b"{}", b"never"), tag=None, media_type=MANIFEST_MEDIA_TYPE)


def test_deleting_a_tag_leaves_others(store):
    """Another tag of the same manifest goes on naming it; deleting twice, or what never was, does nothing."""
    digest = put_image(store, "mine", b"{}", b"shared")
    put_image(store, "theirs", b"{}", b"shared")
    store.delete_tag("mine")
    store.delete_tag("mine")
    store.delete_tag("never was")
    assert list(store.tags()) == [("theirs", digest)]
    assert store.get_manifest("theirs")[1] == digest


def test_a_neighbour_gives_its_blob_without_moving_it(new_store):
    """mount_blob; what the neighbour does not have is not mounted."""
    one, two = new_store("one"), new_store("two")
    one.put_blob(b"shared")
    assert two.mount_blob(descriptor_of(b"shared"), one) is True
    assert two.read_blob(digest_of(b"shared"), limit_bytes=6) == b"shared"
    assert two.mount_blob(descriptor_of(b"not there"), one) is False
    assert two.has_blob(digest_of(b"not there")) is False


def test_several_threads_may_write(store):
    """Different blobs and equal ones at once."""
    contents = [f"blob {number % 20}".encode() * 1000 for number in range(60)]
    with ThreadPoolExecutor(4) as threads:
        stored = list(threads.map(store.put_blob, contents))
    assert stored == [(digest_of(content), len(content)) for content in contents]
    assert all(store.read_blob(digest, limit_bytes=size) for digest, size in set(stored))


def test_an_image_is_copied_with_its_blobs(new_store):
    """Manifest, config and layers arrive; progress ends with all of them; a second copy moves nothing."""
    source, target = new_store("source"), new_store("target")
    digest = put_image(source, "base", b"{}", b"layer 1" * 1000, b"layer 2" * 1000)
    seen = []
    assert copy_image(source, target, "base", tag="copied", progress=seen.append) == digest
    assert copy_image(source, target, digest, tag="again", progress=seen.append) == digest
    assert target.get_manifest("copied") == source.get_manifest("base")
    assert target.read_blob(digest_of(b"layer 2" * 1000), limit_bytes=7000) == b"layer 2" * 1000
    assert [(step.blobs_done, step.bytes_done) for step in (seen[2], seen[5])] == [(3, 14002), (3, 14002)]
    assert seen[5].bytes_moved == 0


def test_a_copy_is_what_its_descriptor_says(new_store, tmp_path):
    """A descriptor with another size is refused, and the target gets nothing."""
    source = ImageLayout(tmp_path / "elsewhere")
    source.put_blob(b"content")
    target = new_store("target")
    for size in (6, 8):
        wrong = Descriptor(media_type="", digest=digest_of(b"content"), size=size)
        with pytest.raises(SnapshotCorruptError):
            copy_blob(source, target, wrong)
        assert not target.has_blob(wrong.digest)
    assert copy_blob(source, target, descriptor_of(b"content")) in (0, 7)
    assert target.read_blob(digest_of(b"content"), limit_bytes=7) == b"content"
