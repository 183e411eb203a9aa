"""How many Attempts of a profile could start now: by what is scarcest, flavor by flavor."""

import pytest
from kueue_objects import LARGE, SLICE

from jupyterlab_ai_batch.models import Profile
from jupyterlab_ai_batch.queues.kueue.availability import count_available
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile

GIB = 1024**3


def cluster_queue(*groups):
    """Groups of flavors: name -> resource -> (nominal quota, reserved), or with a borrowing limit as third."""
    specs, reserved = [], []
    for group in groups:
        covered = list(next(iter(group.values())))
        flavors = []
        for flavor, resources in group.items():
            entries = []
            for name, (nominal, held, *limit) in resources.items():
                borrowing = {"borrowingLimit": limit[0]} if limit else {}
                entries.append({"name": name, "nominalQuota": nominal, **borrowing})
                reserved.append({"name": flavor, "resources": [{"name": name, "total": held}]})
            flavors.append({"name": flavor, "resources": entries})
        specs.append({"coveredResources": covered, "flavors": flavors})
    return {"spec": {"resourceGroups": specs}, "status": {"flavorsReservation": reserved}}


def profile(*, gpu=SLICE, slots=1, cpu=None, memory=None):
    shape = Profile(name="p", title="P", gpu_slots=slots, cpu_millicores=cpu, memory_bytes=memory)
    return KueueProfile(profile=shape, gpu_resource=gpu)


SESSIONS = cluster_queue({"a": {"cpu": ("64", "10"), "memory": ("256Gi", "16Gi"), SLICE: ("7", "2")}})
BATCH = cluster_queue({"a": {"cpu": ("0", "8500m"), "memory": ("0", "64Gi"), SLICE: ("0", "1")}})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (profile(), 4),
        (profile(slots=2), 2),
        (profile(slots=5), 0),
        (profile(cpu=20_000), 2),
        (profile(cpu=45_500), 1),
        (profile(cpu=45_501), 0),
        (profile(memory=88 * GIB), 2),
        (profile(gpu="", slots=0, cpu=500), 91),
        (profile(gpu="", slots=0), None),
        (profile(gpu=LARGE), 0),
    ],
)
def test_the_scarcest_counts(wanted, expected):
    assert expected == count_available(wanted, BATCH, [SESSIONS, BATCH])


def test_a_limit_on_borrowing():
    """The pool has four; this queue may hold three and has one."""
    limited = cluster_queue({"a": {SLICE: ("0", "1", "3")}})
    sessions = cluster_queue({"a": {SLICE: ("7", "2")}})
    assert 2 == count_available(profile(), limited, [sessions, limited])


def test_an_attempt_is_on_one_flavor():
    """Two flavors with a slice each have no room for one that wants two."""
    queue = cluster_queue({"a": {SLICE: ("1", "0")}, "b": {SLICE: ("1", "0")}})
    assert 2 == count_available(profile(), queue, [queue])
    assert 0 == count_available(profile(slots=2), queue, [queue])


def test_groups_of_resources():
    """Each group gives its part; the poorer one decides."""
    queue = cluster_queue({"nodes": {"cpu": ("4", "0")}}, {"mig": {SLICE: ("7", "0")}})
    assert 2 == count_available(profile(cpu=2000), queue, [queue])


def test_more_held_than_owned():
    """A quota that was lowered: nothing is free, and nothing less than that."""
    queue = cluster_queue({"a": {SLICE: ("1", "3")}})
    assert 0 == count_available(profile(), queue, [queue])


@pytest.mark.parametrize("broken", [{}, {"spec": {"resourceGroups": [{"coveredResources": 3, "flavors": "x"}]}}])
def test_what_makes_no_sense_offers_nothing(broken):
    assert 0 == count_available(profile(), broken, [broken])
