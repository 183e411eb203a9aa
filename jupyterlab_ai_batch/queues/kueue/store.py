"""What the cluster said last about all objects of one kind: a listing, and the changes since. Pure.

Changes of one watch come in the order in which they happened, and a listing is everything at its moment: so whatever
sequence of both comes, the objects are those of the last listing with what was said after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .api import Change, ChangeKind, Json, Listing

MAX_OBJECTS = 20_000  # of a user's namespace: more is not ours to hold


class ObjectStore:
    """Objects by name.

    Attributes:
        version: Where a watch goes on from; None: list again.
    """

    def __init__(self, *, keep: Callable[[Json], bool] = lambda _: True) -> None:
        """``keep``: leave out the objects for which it is False."""
        self._keep = keep
        self._objects: dict[str, Json] = {}
        self.version: str | None = None

    @property
    def objects(self) -> Mapping[str, Json]:
        return self._objects

    def replace(self, listing: Listing) -> bool:
        """Take over a listing; whether anything is otherwise than before."""
        before = self._objects
        self._objects = {}
        for item in listing.items:
            self._put(item)
        self.version = listing.version or None
        return before != self._objects

    def apply(self, change: Change) -> bool:
        """Take over a change; whether anything is otherwise than before."""
        if change.kind is ChangeKind.EXPIRED:
            self.version = None
            return False
        if change.kind is ChangeKind.OPENED:
            return False
        self.version = change.version or self.version
        if change.kind is ChangeKind.PRESENT:
            return self._put(change.item)
        return change.kind is ChangeKind.GONE and self._objects.pop(name_of(change.item), None) is not None

    def _put(self, item: Json) -> bool:
        name = name_of(item)
        if not name or not self._keep(item):
            return False
        if name not in self._objects and len(self._objects) >= MAX_OBJECTS:
            return False
        slim = _slim(item)
        changed = self._objects.get(name) != slim
        self._objects[name] = slim
        return changed


def name_of(item: Json) -> str:
    """An object's name; empty when it has none."""
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def uid_of(item: Json) -> str:
    """An object's uid; empty when it has none."""
    metadata = item.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, Mapping) else None
    return uid if isinstance(uid, str) else ""


def _slim(item: Json) -> Json:
    """Without who set which field when: half of an object, and nothing to us."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}
