"""How pods number their Attempts by the tags of a repository."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import pytest

from jupyterlab_ai_batch.errors import RegistryError, RegistryUnreachableError
from jupyterlab_ai_batch.models import OutputSet
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import outputs_tag, read_output_set, store_output_set
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE
from jupyterlab_ai_batch.runner.claim import MAX_TRIES, Claim

SUBMISSION = "0123456789abcdef0123456789abcdef"
AT = datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc)


def claim_of(uid, submission_id=SUBMISSION):
    return Claim(submission_id, pod_uid=uid, notebook="n.ipynb", clock=lambda: AT)


def put(store, number, uid, submission_id=SUBMISSION, **fields):
    output_set = OutputSet(
        submission_id=submission_id,
        attempt=number,
        complete=False,
        stored_at=AT,
        executed_notebook="n.ipynb",
        pod_uid=uid,
        **fields,
    )
    return store_output_set(store, output_set, lambda _: io.BytesIO(), tag=outputs_tag(submission_id, number))[1]


@pytest.fixture
def store(tmp_path):
    return ImageLayout(tmp_path / "repository")


class Hooked(ImageLayout):
    """Calls ``after(tag)`` when a manifest was put."""

    def __init__(self, path, after):
        super().__init__(path)
        self.after = after

    def put_manifest(self, manifest, *, tag, media_type):
        digest = super().put_manifest(manifest, tag=tag, media_type=media_type)
        self.after(tag)
        return digest


def test_pods_are_numbered_in_order(store):
    """1, 2, 3; what is claimed is an OutputSet without files that names the pod."""
    assert [claim_of(uid).take(store) for uid in "abc"] == [1, 2, 3]
    found, blobs = read_output_set(store, outputs_tag(SUBMISSION, 2))
    assert (found.attempt, found.pod_uid, found.complete, blobs) == (2, "b", False, {})


def test_a_pod_that_starts_again_keeps_its_number(store):
    """Also when others came after it; nothing is written for that."""
    claim_of("a").take(store)
    stored = put(store, 2, "b", skipped=(("path", "reason"),))
    claim_of("c").take(store)
    assert claim_of("b").take(store) == 2
    assert store.get_manifest(outputs_tag(SUBMISSION, 2))[1] == stored


def test_a_claim_is_taken_once(store):
    """Asking again costs nothing and changes nothing."""
    claim = claim_of("a")
    assert [claim.take(store), claim.take(store)] == [1, 1]
    assert list(store.tag_names()) == [outputs_tag(SUBMISSION, 1)]


def test_only_this_submission_counts(store):
    """Others' numbers, names that only look alike, and gaps."""
    put(store, 7, "x", submission_id="f" * 32)
    for tag in (
        f"outputs-{SUBMISSION}-9x",
        f"outputs-{SUBMISSION}-09",
        f"outputs-{SUBMISSION}-",
        "outputs",
        "snapshot",
    ):
        store.put_manifest(b'{"layers": []}', tag=tag, media_type=MANIFEST_MEDIA_TYPE)
    put(store, 4, "y")
    assert claim_of("a").take(store) == 5


def test_something_else_under_such_a_tag_takes_the_number(store):
    """An image, or a damaged OutputSet: nobody's, and not overwritten."""
    content = b'{"layers": [], "config": null}'
    digest = store.put_manifest(content, tag=outputs_tag(SUBMISSION, 1), media_type=MANIFEST_MEDIA_TYPE)
    assert claim_of("a").take(store) == 2
    assert store.get_manifest(outputs_tag(SUBMISSION, 1))[1] == digest


def test_the_slower_of_two_has_the_number(tmp_path):
    """Both found 1 free; the second overwrote the claim before the first read it back."""

    def overwrite_once(tag):
        hooked.after = lambda _: None
        put(store, 1, "b")

    store = ImageLayout(tmp_path / "repository")
    hooked = Hooked(tmp_path / "repository", overwrite_once)
    assert claim_of("a").take(hooked) == 2
    assert claim_of("b").take(store) == 1


def test_a_number_that_is_lost_later_is_noticed(store):
    """Both had read back their own: the first looks again before it replaces the other's, and takes a new number."""
    first = claim_of("a")
    first.take(store)
    put(store, 1, "b")
    assert first.is_held(store) is False
    assert first.take(store) == 2
    assert first.is_held(store)
    assert claim_of("b").take(store) == 1


def test_what_the_pod_has_put_itself_is_its_own(store):
    """By the digest that it noted, or by its uid where the answer was lost."""
    claim = claim_of("a")
    claim.take(store)
    claim.note(put(store, 1, "a", skipped=(("one", ""),)))
    assert claim.is_held(store)
    put(store, 1, "a", skipped=(("two", ""),))
    assert claim.is_held(store)


def test_a_deleted_tag_takes_no_number_away(store):
    """What comes next is put there again."""
    claim = claim_of("a")
    claim.take(store)
    store.delete_tag(outputs_tag(SUBMISSION, 1))
    assert claim.is_held(store)
    assert claim.take(store) == 1


def test_a_claim_whose_answer_was_lost_is_found(tmp_path):
    """The registry did what it was asked, and the connection broke."""

    def break_off(_):
        hooked.after = lambda _: None
        raise RegistryUnreachableError("gone")

    hooked = Hooked(tmp_path / "repository", break_off)
    claim = claim_of("a")
    with pytest.raises(RegistryUnreachableError):
        claim.take(hooked)
    assert claim.take(hooked) == 1
    assert list(hooked.tag_names()) == [outputs_tag(SUBMISSION, 1)]


def test_a_claim_that_is_always_overwritten_ends(tmp_path):
    """After so many tries something else is wrong."""
    store = ImageLayout(tmp_path / "repository")
    numbers = iter(range(1, 1000))
    hooked = Hooked(tmp_path / "repository", lambda _: put(store, next(numbers), "other"))
    with pytest.raises(RegistryError):
        claim_of("a").take(hooked)
    assert len(list(store.tag_names())) == MAX_TRIES
