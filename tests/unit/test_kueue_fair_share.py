"""The fair share in one sentence: what was used, how it fades, and what it does to the order."""

from datetime import datetime, timezone

import pytest
from kueue_objects import NOW, SLICE

from jupyterlab_ai_batch.models import QueuePosition
from jupyterlab_ai_batch.queues.kueue.fair_share import read_share

WEEK_S = 7 * 86400


def local_queue(consumed, *, weight="1"):
    status = {"consumedResources": consumed, "lastUpdate": "2026-11-20T09:55:00Z"}
    return {
        "spec": {"fairSharing": {"weight": weight}},
        "status": {"fairSharing": {"weightedShare": 0, "admissionFairSharingStatus": status}},
    }


def at(place):
    return QueuePosition(in_local_queue=0, in_cluster_queue=place, observed_at=NOW)


def look(queue, *, half_life_s=0, first=None):
    return read_share(queue, resources={SLICE}, half_life_s=half_life_s, first=first)


@pytest.mark.parametrize(
    ("queue", "options", "summary"),
    [
        (
            local_queue({SLICE: "0"}),
            {},
            "You have used next to nothing lately. What you submit goes before that of users who have used more.",
        ),
        (
            local_queue({SLICE: "900m", "cpu": "12"}),
            {},
            (
                "You have used 0.9 GPU slots on average lately."
                " What you submit goes after that of users who have used less."
            ),
        ),
        (
            local_queue({SLICE: "2400m"}),
            {"half_life_s": WEEK_S, "first": at(5)},
            (
                "You have used 2.4 GPU slots on average lately, and half of that is forgotten every 7 days."
                " Users who have used less go first: 5 submissions of others go before your next one."
            ),
        ),
        (
            local_queue({SLICE: "2"}),
            {"half_life_s": 86400, "first": at(1)},
            (
                "You have used 2.0 GPU slots on average lately, and half of that is forgotten every day."
                " Users who have used less go first: 1 submission of others goes before your next one."
            ),
        ),
        (
            local_queue({SLICE: "2"}, weight="2"),
            {"first": at(0)},
            (
                "You have used 2.0 GPU slots on average lately."
                " Your queue's weight is 2: your use counts divided by it."
                " What you submitted first is next in the pool."
            ),
        ),
        (
            local_queue({}, weight="0"),
            {"first": at(0)},
            (
                "You have used next to nothing lately. Your queue has no weight: everybody else goes first."
                " What you submitted first is next in the pool."
            ),
        ),
    ],
)
def test_in_words(queue, options, summary):
    assert summary == look(queue, **options).summary


def test_numbers():
    """As they are, for who wants to draw them."""
    found = look(local_queue({SLICE: "1500m"}, weight="500m"), half_life_s=120)
    assert (found.used, found.weight, found.half_life_s) == (1.5, 0.5, 120)
    assert found.sampled_at == datetime(2026, 11, 20, 9, 55, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "queue", [{}, {"status": {"fairSharing": {"weightedShare": 9223372036854775807}}}, local_queue("much")]
)
def test_without_admission_fair_sharing_there_is_none(queue):
    assert look(queue) is None


@pytest.mark.parametrize("consumed", [{SLICE: "-3"}, {SLICE: None}, {SLICE: ["1"]}, {SLICE: "NaN"}])
def test_what_makes_no_sense_counts_nothing(consumed):
    assert look(local_queue(consumed)).used == 0
