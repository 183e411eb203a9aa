"""Fuzz the reader of layers and the restore: ``make fuzz``, or ``python fuzz/layers.py -max_total_time=300``.

An input is a number of layers, a name for each, and tar streams whose checksums are put right, so that what is mutated
is read at all. Whatever comes: nothing outside the target may change, nothing may be left after an error, and the error
is one of ours.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

with atheris.instrument_imports(include=["jupyterlab_ai_batch.snapshot", "jupyterlab_ai_batch.oci"]):
    from jupyterlab_ai_batch.snapshot import beneath, extract, limits, restore

from seeds import put_checksums_right, write_layers
from snapshot_forgery import BLOCK, Forgery, list_surroundings

from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageError

NAMES = ("", "base", "base 1", "base: a", "delta: a", "delta")
LIMITS = limits.RestoreLimits(unpacked_bytes=4 << 20, entries=200)
MAX_LAYERS = 3


class Playground:
    """A target with something precious beside it."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp())
        self.target = self.top / "target"
        (self.top / "outside").mkdir()
        (self.top / "outside" / "secret").write_text("secret")
        (self.top / "near").symlink_to("outside")
        self._before = self._outside()

    def restore(self, forgery: Forgery) -> None:
        self.target.mkdir()
        try:
            restore.restore_work(forgery.store, forgery.finish(), self.target, limits=LIMITS)
        except (SnapshotCorruptError, StorageError):
            assert not any(self.target.iterdir()), "something is left in the target"
        assert self._outside() == self._before, "something outside has changed"
        shutil.rmtree(self.target)

    def _outside(self) -> dict[str, tuple[object, ...]]:
        found = list_surroundings(self.top)
        within = str(self.target)
        return {p: f for p, f in found.items() if p not in (within, str(self.top)) and not p.startswith(f"{within}/")}


PLAYGROUND = Playground()


def fuzz_layers(data: bytes) -> None:
    """One input: a byte for the way and the number of layers, a byte of name for each, then the streams."""
    if len(data) < 1 + MAX_LAYERS:
        return
    extract.open_beneath = beneath.open_step_by_step if data[0] & 1 else beneath.open_beneath
    count = 1 + (data[0] >> 1) % MAX_LAYERS
    names = [NAMES[byte % len(NAMES)] for byte in data[1 : 1 + count]]
    body = data[1 + MAX_LAYERS :]
    share = len(body) // count // BLOCK * BLOCK
    forgery = Forgery()
    for number, name in enumerate(names):
        stream = body[number * share : (number + 1) * share if number + 1 < count else len(body)]
        forgery.add(put_checksums_right(stream), name=name)
    PLAYGROUND.restore(forgery)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        write_layers(Path(corpus), prefix=bytes(1 + MAX_LAYERS))
        atheris.Setup([*sys.argv, corpus, "-max_len=16384"], fuzz_layers)
        atheris.Fuzz()
