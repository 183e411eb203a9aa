"""The trees of a capture as they were walked, and the layers that they became."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..oci.manifest import Layer
from .captured import CapturedEnvironment, CapturedWork, environment_key, work_key
from .index import SignatureIndex
from .listing import seal_of
from .roots import CaptureRoots, walk_environment
from .scout import Scout


class CapturedTrees:
    """What there is to be captured; the environment is walked when it is asked for.

    Attributes:
        work: The work tree: relative path to lstat; the top has the path ``""``.
        reserved: What is left out of it, because a layer cannot hold such names.
        scout: Perhaps still out to look at the environment.
    """

    def __init__(
        self,
        roots: CaptureRoots,
        work: Mapping[str, os.stat_result],
        reserved: Sequence[str],
        on_tick: Callable[[], None],
        scout: Scout | None = None,
    ) -> None:
        self.roots = roots
        self.work = work
        self.reserved = reserved
        self._on_tick = on_tick
        self.scout = scout

    @cached_property
    def work_seal(self) -> bytes:
        return seal_of(self.work)

    @cached_property
    def environment(self) -> dict[str, os.stat_result]:
        """By absolute path without its leading ``/``."""
        return walk_environment(self.roots, on_tick=self._on_tick)

    @cached_property
    def environment_seal(self) -> bytes:
        walk = self.roots.environment_walk
        seen = self.scout.seal(walk) if self.scout is not None and walk is not None else None
        return seen or seal_of(self.environment)


def find_unchanged_work(trees: CapturedTrees, index: SignatureIndex, gone: Collection[str]) -> CapturedWork | None:
    """What the last capture made of the work tree, where nothing in it has changed."""
    sealed = index.load_seal(work_key(trees.roots.work_root))
    captured = CapturedWork.from_state(sealed.state, gone)
    return captured if captured is not None and sealed.seal == trees.work_seal else None


def find_unchanged_environment(
    trees: CapturedTrees, index: SignatureIndex, gone: Collection[str]
) -> CapturedEnvironment | None:
    """What the last capture made of the environment, where nothing in it has changed."""
    sealed = index.load_seal(environment_key(trees.roots.environment_roots))
    captured = CapturedEnvironment.from_state(sealed.state, gone)
    return captured if captured is not None and sealed.seal == trees.environment_seal else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The layers of a capture.

    Attributes:
        hidden: Layers that hide what a base image has and the environment has not.
        base: Digest of the base image that the environment needs below it.
        new_bytes: Compressed bytes of the layers written.
        warnings: One sentence each.
    """

    environment: CapturedEnvironment
    work: CapturedWork
    hidden: tuple[Layer, ...] = ()
    base: str | None = None
    new_bytes: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All of them, lowest first."""
        return (*self.hidden, *self.environment.layers, self.environment.index_layer, *self.work.layers)
