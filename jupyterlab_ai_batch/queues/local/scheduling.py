"""Which waiting Submissions are admitted now. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Waiting


def choose(waiting: Sequence[Waiting], *, free_slots: int, free_gpus: int) -> Sequence[Waiting]:
    """Those that start now, of ``waiting`` in the order of admission (priority, then arrival).

    One that lacks GPU slots lets those pass that need none, but none that needs any: it would never get them.
    """
    chosen: list[Waiting] = []
    gpus_held_back = False
    for entry in waiting:
        if len(chosen) == free_slots:
            break
        if entry.gpu_slots == 0:
            chosen.append(entry)
        elif not gpus_held_back and entry.gpu_slots <= free_gpus:
            free_gpus -= entry.gpu_slots
            chosen.append(entry)
        else:
            gpus_held_back = True
    return chosen
