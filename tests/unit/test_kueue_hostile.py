"""Nothing that a cluster object, a log or the registry may hold makes observing fail or the words unfit to show."""

import json
from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st
from kueue_objects import ID, NOW, READINGS, load

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import Attempt, Observation
from jupyterlab_ai_batch.queues.kueue.conditions import Reading, observe

TIMES = st.sampled_from(
    [
        "2026-11-22T14:00:00Z",
        "2026-11-22T13:59:50.123456Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2999-12-31T23:59:59Z",
        "2026-11-22T14:00:00",
        "yesterday",
    ]
)
WORDS = st.sampled_from(
    [
        *("True", "False", "Unknown", "QuotaReserved", "Admitted", "Evicted", "Preempted", "Finished", "Failed"),
        *("Requeued", "PodsReady", "Complete", "Pending", "Inadmissible", "Deactivated", "DeactivatedDueTo"),
        *("InCohortReclamation", "Running", "Succeeded", "OOMKilled", "DisruptionTarget", "PodScheduled", "Job", "Pod"),
        *("DeadlineExceeded", "ErrImagePull", "Pulling", "FailedCreate", "8Gi", "1e9", "-1", "9" * 40),
        "\x1b[31m\u202e\ud800\n" * 50,
        "preemptor path: /" + "a/" * 500,
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    WORDS,
    TIMES,
    st.integers(10**15, 10**40),
    st.text(max_size=20),
)
NAMES = st.sampled_from(
    [
        *("metadata", "spec", "status", "conditions", "type", "reason", "message", "lastTransitionTime", "suspend"),
        *("creationTimestamp", "deletionTimestamp", "labels", "name", "active", "phase", "containers", "state"),
        *("containerStatuses", "initContainerStatuses", "terminated", "running", "waiting", "exitCode", "startedAt"),
        *("finishedAt", "schedulingStats", "evictions", "count", "underlyingCause", "requeueState", "requeueAt"),
        *("admissionChecks", "involvedObject", "kind", "eventTime", "resources", "limits", "memory", "image"),
        *("accumulatedPastExecutionTimeSeconds", "maximumExecutionTimeSeconds", "activeDeadlineSeconds", "note"),
        *("cell", "ename", "evalue", "code", "hint", "signal"),
    ]
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
)
MOMENTS = st.one_of(st.none(), st.integers(-500, 500).map(lambda seconds: NOW + timedelta(seconds=seconds)))
ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(1, 5),
    admitted_at=MOMENTS.map(lambda at: at or datetime(1970, 1, 1, tzinfo=timezone.utc)),
    started_at=MOMENTS,
    ended_at=MOMENTS,
    ended_by=st.sampled_from([None, "succeeded", "failed", "Preempted"]),
)
RECORDED = [load(path)[0] for path in sorted(READINGS.glob("*.json"))]
FIELDS = ("job", "workload", "pods", "events", "failure")


def check(reading, cancel_asked):
    """Observe, and look whether the result can be shown and sent."""
    seen = observe(ID, reading, cancel_asked=cancel_asked)
    if seen is None:
        return
    assert seen.state is wire.loads(Observation, wire.dumps(seen)).state
    if seen.explanation is not None:
        for text in (seen.explanation.summary, seen.explanation.resolution, seen.explanation.raw_reason or ""):
            assert text.isprintable()
            assert len(text) <= 1500
        assert seen.explanation.summary
    numbers = [attempt.number for attempt in seen.attempts]
    assert sorted(set(numbers)) == numbers
    assert all(attempt.time_lost_s >= 0 for attempt in seen.attempts)


@settings(max_examples=300, deadline=None)
@given(
    fields=st.fixed_dictionaries(dict.fromkeys(FIELDS, ANYTHING)),
    attempts=st.lists(ATTEMPTS, max_size=4),
    cancel_asked=st.booleans(),
)
def test_arbitrary_json(fields, attempts, cancel_asked):
    """An Observation or None, whatever the objects are."""
    check(Reading(**fields, attempts=attempts, observed_at=NOW), cancel_asked)


def damage(value, choices):
    """A copy of a JSON value in which, here and there, something else lies."""
    if choices and choices[0][0] == 0:
        return choices.pop(0)[1]
    if choices:
        choices[0] = (choices[0][0] - 1, choices[0][1])
    if isinstance(value, dict):
        return {key: damage(item, choices) for key, item in value.items()}
    if isinstance(value, list):
        return [damage(item, choices) for item in value]
    return value


@settings(max_examples=300, deadline=None)
@given(
    reading=st.sampled_from(RECORDED),
    choices=st.lists(st.tuples(st.integers(0, 40), ANYTHING), min_size=1, max_size=4),
    cancel_asked=st.booleans(),
)
def test_damaged_objects(reading, choices, cancel_asked):
    """Real objects with something wrong in any place."""
    whole = {name: getattr(reading, name) for name in FIELDS}
    copy = damage(json.loads(json.dumps(whole)), list(choices))
    fields = {name: copy.get(name) for name in FIELDS} if isinstance(copy, dict) else dict.fromkeys(FIELDS)
    check(Reading(**fields, observed_at=NOW), cancel_asked)
