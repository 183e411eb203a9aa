from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.snapshot.index import IndexedFile, SealedTree, SignatureIndex, TreeRecord
from jupyterlab_ai_batch.snapshot.index_columns import pack_files, unpack_files

_NUMBERS = st.integers(-(2**63), 2**63 - 1)
_TEXTS = st.binary(max_size=9).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"/")))
_FILES = st.builds(
    IndexedFile,
    *[_NUMBERS] * 7,
    st.just(b"") | st.binary(min_size=32, max_size=32).filter(any),
    *[_TEXTS] * 3,
    _NUMBERS,
    _NUMBERS,
    _TEXTS,
    _TEXTS,
)


@given(st.dictionaries(_TEXTS, _FILES, max_size=9))
def test_columns_give_back_what_they_were_given(files):
    """Whatever names, times and inodes there are; in the same order."""
    assert list(unpack_files(pack_files(files)).items()) == list(files.items())


def entry(number: int) -> IndexedFile:
    return IndexedFile(0o100644, 0, 0, number, number, number, number, bytes([number + 1]) * 32)


@pytest.fixture
def index(tmp_path):
    with SignatureIndex(tmp_path / "index.db") as index:
        yield index


def test_a_tree_is_replaced_as_a_whole(index):
    """Files, state and seal are those of one save."""
    index.save_tree("k", {"a": entry(1), "b": entry(2)}, {"layers": [1]}, seal=b"first")
    index.save_tree("k", {"b": entry(3)}, {"layers": [2]}, seal=b"second")
    assert index.load_tree("k") == TreeRecord({"b": entry(3)}, {"layers": [2]})
    assert index.load_seal("k") == SealedTree(b"second", {"layers": [2]})
    assert index.load_tree("other") == TreeRecord()
    assert index.load_seal("other") == SealedTree()


def test_a_newer_ctime_breaks_the_seal(index):
    """Files that were linked are known to be the same, but the tree must be compared once."""
    index.save_tree("k", {"a": entry(1), "b": entry(2)}, {}, seal=b"seal")
    index.refresh_ctimes("k", [("a", 1, 7), ("b", 9, 7), ("c", 1, 7)])
    assert {path: file.ctime_ns for path, file in index.load_tree("k").files.items()} == {"a": 7, "b": 2}
    assert index.load_seal("k").seal == b""


def test_trees_that_nobody_saves_any_more_are_forgotten(index):
    """The index does not grow with every folder that was ever submitted from."""
    for number in range(70):
        index.save_tree(f"k{number}", {"a": entry(1)}, {}, seal=b"seal")
    assert [index.load_seal(f"k{number}").seal for number in (0, 5, 6, 69)] == [b"", b"", b"seal", b"seal"]


@pytest.mark.parametrize("column", ["seal", "state", "files"])
def test_columns_of_two_saves_are_never_taken_for_one(tmp_path, column):
    """What a write that was cut short leaves, new beside old, counts as unknown."""
    path = tmp_path / "index.db"
    with SignatureIndex(path) as index:
        index.save_tree("k", {"a": entry(1)}, {"layers": [1]}, seal=b"first")
    connection = sqlite3.connect(path)
    old = connection.execute(f"SELECT {column} FROM trees").fetchone()  # noqa: S608 - a column of ours
    with SignatureIndex(path) as index:
        index.save_tree("k", {"a": entry(2)}, {"layers": [2]}, seal=b"other")
    connection.execute(f"UPDATE trees SET {column} = ?", old)  # noqa: S608
    connection.commit()
    connection.close()
    with SignatureIndex(path) as index:
        sealed, tree = index.load_seal("k"), index.load_tree("k")
    assert tree == TreeRecord()
    assert sealed == (SealedTree() if column != "files" else SealedTree(b"other", {"layers": [2]}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_damage_anywhere_is_never_believed(tmp_path_factory, seed):
    """Bits that flip on the disk: the index gives what was saved, or nothing, and can be used again."""
    chance = random.Random(seed)  # noqa: S311 - damage, not secrets
    path = Path(tmp_path_factory.mktemp("index"), "index.db")
    files = {f"file-{number}": entry(number) for number in range(100)}
    state = {"layers": list(range(50))}
    with SignatureIndex(path) as index:
        index.save_tree("k", files, state, seal=b"s" * 32)
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    with SignatureIndex(path) as index:
        tree, sealed = index.load_tree("k"), index.load_seal("k")
        index.save_tree("k", files, {})
        assert index.load_tree("k") == TreeRecord(files, {})
    assert tree in (TreeRecord(files, state), TreeRecord())
    assert sealed in (SealedTree(b"s" * 32, state), SealedTree())
