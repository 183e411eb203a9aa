"""The trees of a capture as they were walked, and the layers that they became."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ..oci.base_image import BaseImage
from ..oci.manifest import Layer
from .captured import CapturedSession, CapturedWork, environment_key, session_key, work_key
from .container import Container
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
        base: The image below the environment.
    """

    def __init__(
        self,
        roots: CaptureRoots,
        work: Mapping[str, os.stat_result],
        reserved: Sequence[str],
        on_tick: Callable[[], None],
        scout: Scout | None = None,
        *,
        base: BaseImage | None = None,
        started_at: datetime | None = None,
    ) -> None:
        self.roots = roots
        self.work = work
        self.reserved = reserved
        self._on_tick = on_tick
        self.scout = scout
        self.base = base
        self._started_at = started_at

    @cached_property
    def work_seal(self) -> bytes:
        return seal_of(self.work)

    @property
    def environment_key(self) -> str:
        """The name in the index of all that ``environment_seal`` seals."""
        if self.base is None:
            return environment_key(self.roots.environment_roots)
        roots = self.roots
        walked = (*roots.environment_roots, "", *sorted(roots.never), "", *sorted(roots.hollow))
        return session_key(walked, self.base, self.container)

    @cached_property
    def container(self) -> Container:
        return Container.observe(self._started_at)

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
) -> CapturedSession | None:
    """What the last capture made of the environment, where nothing in it has changed."""
    sealed = index.load_seal(trees.environment_key)
    captured = CapturedSession.from_state(sealed.state, gone)
    return captured if captured is not None and sealed.seal == trees.environment_seal else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The layers of a capture.

    Attributes:
        new_bytes: Compressed bytes of the layers written.
        warnings: One sentence each.
    """

    session: CapturedSession
    work: CapturedWork
    new_bytes: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All of them, lowest first."""
        environment = self.session.environment
        return (*self.session.hidden, *environment.layers, environment.index_layer, *self.work.layers)
