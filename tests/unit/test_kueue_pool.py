"""Who holds the pool: classes and numbers, nobody's names, and nothing where it would be half a picture."""

import pytest
from kueue_objects import LARGE, NOW, SLICE, cluster_queue

from jupyterlab_ai_batch.queues.kueue.pool import read_pool
from jupyterlab_ai_batch.queues.kueue.settings import PoolQueues

QUEUES = PoolQueues(interactive=("sessions",), batch=("batch",))


def look(sessions, batch, *, mine=0):
    return read_pool(
        {"sessions": sessions, "batch": batch}, queues=QUEUES, resources={SLICE, LARGE}, mine=mine, observed_at=NOW
    )


def brief(pool):
    return pool.slots, pool.mine, pool.others_batch, pool.interactive, pool.free


@pytest.mark.parametrize(
    ("sessions", "batch", "mine", "expected"),
    [
        ({"small": ("7", "1")}, {"small": ("0", "5")}, 3, (7, 3, 2, 1, 1)),
        ({"small": ("7", "0")}, {"small": ("0", "0")}, 0, (7, 0, 0, 0, 7)),
        ({"small": ("4", "4")}, {"small": ("3", "3")}, 3, (7, 3, 0, 4, 0)),
        # The own queue was read a moment before: a job of ours that ended since is not held any more.
        ({"small": ("7", "2")}, {"small": ("0", "1")}, 2, (7, 1, 0, 2, 4)),
        # A quota that was lowered under those who hold it.
        ({"small": ("3", "3")}, {"small": ("0", "2")}, 1, (5, 1, 1, 3, 0)),
        ({"small": ("7", "1"), "large": ("2", "1")}, {"cpu": ("0", "64")}, 0, (9, 0, 0, 2, 7)),
    ],
)
def test_parts_sum_up(sessions, batch, mine, expected):
    found = look(cluster_queue(**sessions), cluster_queue(**batch), mine=mine)
    assert expected == brief(found)
    assert found.slots == found.mine + found.others_batch + found.interactive + found.free


def test_kind_of_slot():
    """Named where all are of one kind."""
    assert look(cluster_queue(small=("7", "0")), cluster_queue(small=("0", "0"))).resource == SLICE
    assert look(cluster_queue(small=("7", "0"), large=("1", "0")), cluster_queue()).resource == ""


def test_sessions_that_wait():
    assert look(cluster_queue(pending=2, small=("7", "7")), cluster_queue()).interactive_waiting == 2


@pytest.mark.parametrize(
    ("found", "queues"),
    [
        ({"batch": cluster_queue(small=("7", "0"))}, QUEUES),
        ({}, PoolQueues()),
        ({"sessions": cluster_queue(small=("7", "0"))}, PoolQueues(interactive=("sessions",))),
        ({"sessions": cluster_queue(cpu=("7", "0")), "batch": cluster_queue()}, QUEUES),
        ({"sessions": {"spec": "x", "status": [1]}, "batch": {"spec": {"resourceGroups": [{"flavors": 3}]}}}, QUEUES),
    ],
)
def test_half_a_pool_is_none(found, queues):
    assert read_pool(found, queues=queues, resources={SLICE}, mine=0, observed_at=NOW) is None
