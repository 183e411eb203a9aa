"""How long storing is tried again."""

from __future__ import annotations

import threading
import time

import pytest

from jupyterlab_ai_batch.errors import RegistryDeniedError, RegistryUnreachableError
from jupyterlab_ai_batch.runner import patience as module
from jupyterlab_ai_batch.runner.patience import LONGEST_PAUSE_S, UNREACHABLE_S, Patience, try_patiently


class Waited(Patience):
    """Pauses by turning its clock on."""

    def __init__(self, *, until=float("inf")):
        super().__init__(clock=lambda: self.now)
        self.now = 0.0
        self.pauses = []
        self.until = until

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        return self.now < self.until


def away(times):
    """Fails so often, then gives "stored"."""
    left = [times]

    def store():
        left[0] -= 1
        if left[0] >= 0:
            raise RegistryUnreachableError("away")
        return "stored"

    return store


def test_a_registry_that_comes_back_is_enough():
    """Pauses grow up to a limit; each failure is told."""
    waited, told = Waited(), []
    assert try_patiently(away(7), waited, on_failure=told.append, clock=lambda: waited.now) == "stored"
    assert waited.pauses == [1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert len(told) == 7


def test_a_registry_that_stays_away_is_given_up():
    """After a bounded time, with its own error."""
    waited = Waited()
    with pytest.raises(RegistryUnreachableError):
        try_patiently(away(10**6), waited, on_failure=lambda _: None, clock=lambda: waited.now)
    assert UNREACHABLE_S - LONGEST_PAUSE_S < waited.now <= UNREACHABLE_S


def test_no_more_time_ends_it():
    """A stop that comes meanwhile counts."""
    waited = Waited(until=5.0)
    with pytest.raises(RegistryUnreachableError):
        try_patiently(away(10**6), waited, on_failure=lambda _: None, clock=lambda: waited.now)
    assert waited.now == 7.0


def test_a_registry_that_says_no_is_not_asked_again():
    """Only silence is waited out."""

    def store():
        raise RegistryDeniedError("no")

    with pytest.raises(RegistryDeniedError):
        try_patiently(store, Waited(), on_failure=lambda _: pytest.fail("tried again"))


def test_a_pause_without_time_for_it_does_not_begin():
    """Nothing is gained by sleeping to the deadline."""
    limited = Patience()
    limited.limit(30)
    begun = time.monotonic()
    assert limited.pause(60) is False
    assert time.monotonic() - begun < 5
    assert 20 < limited.left_s <= 30
    assert Patience().pause(0.01) is True


def test_a_limit_ends_a_pause_that_is_under_way():
    """At once, not when the pause would have ended; a later, longer limit changes nothing."""
    patience = Patience()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(patience.pause(600)))
    thread.start()
    assert not patience.is_limited
    patience.limit(0.05)
    patience.limit(900)
    thread.join(30)
    assert answers == [False]
    assert patience.left_s <= 0.05
    assert patience.is_limited


def test_no_time_at_all_is_one_try(monkeypatch):
    """Nothing is tried twice."""
    monkeypatch.setattr(module, "UNREACHABLE_S", 0.0)
    tries = []

    def store():
        tries.append(1)
        raise RegistryUnreachableError("away")

    with pytest.raises(RegistryUnreachableError):
        try_patiently(store, Patience(), on_failure=lambda _: None)
    assert tries == [1]
