"""What is known of one kind of object: a listing, and the changes since."""

from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.queues.kueue.api import Change, ChangeKind, Listing
from jupyterlab_ai_batch.queues.kueue.store import ObjectStore

NAMES = st.sampled_from("abcd")


def item(name, value, version=1):
    return {"metadata": {"name": name, "resourceVersion": str(version), "managedFields": ["long"]}, "value": value}


def values(store):
    return {name: held["value"] for name, held in store.objects.items()}


@st.composite
def stories(draw):
    """What happens to objects, and which listings, expiries and changes a follower hears of it, in order."""
    told, world = [], {}
    for version in range(1, draw(st.integers(0, 40))):
        action = draw(st.sampled_from(["put", "remove", "list", "expire", "bookmark", "open"]))
        name = draw(NAMES)
        if action == "put":
            world = {**world, name: draw(st.integers(0, 3))}
            told.append(Change(kind=ChangeKind.PRESENT, item=item(name, world[name], version)))
        elif action == "remove" and name in world:
            told.append(Change(kind=ChangeKind.GONE, item=item(name, world[name], version)))
            world = {key: value for key, value in world.items() if key != name}
        elif action == "list":
            listed = [item(key, value, version) for key, value in world.items()]
            told.append(Listing(items=listed, version=str(version)))
        elif action == "expire":
            lost = draw(st.lists(st.tuples(NAMES, st.integers(0, 3)), max_size=3))
            world = {**world, **dict(lost)}  # nobody tells, until the next listing
            told.append(Change(kind=ChangeKind.EXPIRED))
            listed = [item(key, value, version) for key, value in world.items()]
            told.append(Listing(items=listed, version=str(version)))
        else:
            kind = ChangeKind.BOOKMARK if action == "bookmark" else ChangeKind.OPENED
            told.append(Change(kind=kind, item={"metadata": {"resourceVersion": str(version)}}))
    return told, world


@given(stories())
def test_ends_at_what_was_told_last(story):
    """Whatever sequence of listings, changes and expiries comes: the objects are those of the cluster."""
    told, world = story
    store = ObjectStore()
    for one in told:
        before = dict(store.objects)
        changed = store.replace(one) if isinstance(one, Listing) else store.apply(one)
        assert changed == (before != store.objects)
    assert world == values(store)


def test_version_is_that_of_the_last_word():
    """A watch goes on from the newest version that was heard, bookmarks included; after an expiry it lists."""
    store = ObjectStore()
    assert store.version is None
    store.replace(Listing(items=[], version="5"))
    store.apply(Change(kind=ChangeKind.BOOKMARK, item={"metadata": {"resourceVersion": "9"}}))
    assert "9" == store.version
    store.apply(Change(kind=ChangeKind.PRESENT, item={"metadata": {"name": "a"}}))
    assert "9" == store.version
    store.apply(Change(kind=ChangeKind.EXPIRED))
    assert store.version is None


def test_keeps_what_is_wanted_and_slim():
    """Objects that are not wanted, or have no name, are left out; who set which field when is not kept."""
    store = ObjectStore(keep=lambda held: held.get("value") != 0)
    listed = [item("a", 0), item("b", 1), {"metadata": None}, {"metadata": {"name": 3}}, {}]
    store.replace(Listing(items=listed, version="1"))
    assert {"b": {"metadata": {"name": "b", "resourceVersion": "1"}, "value": 1}} == dict(store.objects)
