"""wire: JSON <-> records, and the samples that the front end's tests read too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.capture_models import SnapshotPlan
from jupyterlab_ai_batch.models import (
    LogChunk,
    MergeReport,
    OutputSet,
    PreflightCheck,
    Profile,
    Progress,
    QueueReading,
    RunnerEvent,
    Submission,
    SubmissionRequest,
)
from jupyterlab_ai_batch.words import CaptureFrom, SubmissionState

SAMPLES = Path(__file__).parent.parent / "wire"
AT = datetime(2026, 11, 20, 14, 3, 7, 250000, tzinfo=timezone.utc)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("submission.json", Submission),
        ("plan.json", SnapshotPlan),
        ("outputs.json", OutputSet),
        ("merge.json", MergeReport),
        ("log.json", LogChunk),
    ],
)
def test_sample_round_trips(name: str, record: type) -> None:
    """A sample is exactly what the record writes: no field too many, none missing."""
    assert wire.to_json(wire.from_json(record, sample(name))) == sample(name)


@pytest.mark.parametrize(
    ("name", "field", "record"),
    [
        ("submissions.json", "submissions", Submission),
        ("queues.json", "queues", QueueReading),
        ("profiles.json", "profiles", Profile),
        ("preflight.json", "checks", PreflightCheck),
    ],
)
def test_list_sample_round_trips(name: str, field: str, record: type) -> None:
    """Every item of a list sample is exactly what its record writes."""
    items = sample(name)[field]
    assert [wire.to_json(wire.from_json(record, item)) for item in items] == items


def test_log_sample_counts_bytes() -> None:
    """Log offsets are bytes, not characters."""
    chunk = wire.from_json(LogChunk, sample("log.json"))
    assert chunk.next_offset - chunk.offset == len(chunk.text.encode())


def test_unknown_fields_are_ignored() -> None:
    """A newer writer's fields do not disturb an older reader, at any depth."""
    body = sample("submission.json")
    expected = wire.from_json(Submission, body)
    body["colour"] = "blue"
    body["snapshot"]["flavour"] = ["salt"]
    assert wire.from_json(Submission, body) == expected


def test_missing_fields_take_defaults() -> None:
    """Only what the record requires must be there."""
    assert wire.from_json(SubmissionRequest, {}) == SubmissionRequest()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"notebook_path": 3}, "SubmissionRequest.notebook_path"),
        ({"max_duration_s": "2h"}, "SubmissionRequest.max_duration_s"),
        ({"max_duration_s": True}, "SubmissionRequest.max_duration_s"),
        ({"priority": None}, "SubmissionRequest.priority"),
        ({"priority": 1.5}, "SubmissionRequest.priority"),
        ({"parameters": []}, "SubmissionRequest.parameters"),
        ({"exclude": "*.bin"}, "SubmissionRequest.exclude"),
        ({"exclude": ["a", 1]}, "SubmissionRequest.exclude[1]"),
        ({"capture_from": "moon"}, "SubmissionRequest.capture_from"),
        ({"capture_from": ["root"]}, "SubmissionRequest.capture_from"),
        ({"replace_notebook": "yes"}, "SubmissionRequest.replace_notebook"),
        ([], "SubmissionRequest"),
        ("text", "SubmissionRequest"),
        (None, "SubmissionRequest"),
    ],
)
def test_wrong_shape_names_the_field(body: Any, field: str) -> None:
    """A wrong type is refused with the name of the field, never coerced."""
    with pytest.raises(wire.WireError, match="^" + re.escape(f"{field}: ")):
        wire.from_json(SubmissionRequest, body)


def test_missing_required_field_is_named() -> None:
    """A record without a required field is refused by its name."""
    with pytest.raises(wire.WireError, match="missing next_offset"):
        wire.from_json(LogChunk, {"attempt": 1, "text": "", "offset": 0, "complete": True})


def test_enums_and_tuples_come_back_typed() -> None:
    """Enums and tuples are restored, not left as text and lists."""
    request = wire.from_json(SubmissionRequest, {"capture_from": "folder", "exclude": ["*.bin"]})
    assert (request.capture_from, request.exclude) == (CaptureFrom.FOLDER, ("*.bin",))


@pytest.mark.parametrize("text", ["", "{", "[1,", "\ud800", "[" * 100_000])
def test_not_json_is_a_wire_error(text: str) -> None:
    """Whatever does not parse, however deep, is a WireError."""
    with pytest.raises(wire.WireError):
        wire.loads(SubmissionRequest, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T14:03:07.250Z", AT),
        ("2026-11-20T15:03:07.250+01:00", AT),
        ("2026-11-20T14:03:07+00:00", AT.replace(microsecond=0)),
    ],
)
def test_times_are_read_as_utc(text: str, expected: datetime) -> None:
    """RFC 3339 with any offset becomes aware UTC."""
    assert wire.parse_time(text) == expected
    assert wire.parse_time(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["2026-11-20T14:03:07", "yesterday", "", "2026-13-20T14:03:07Z"])
def test_ambiguous_times_are_refused(text: str) -> None:
    """A time without an offset, or no time at all, is refused."""
    with pytest.raises(wire.WireError):
        wire.parse_time(text)


def test_times_are_written_in_utc() -> None:
    """Any aware time is written as UTC with milliseconds."""
    assert wire.format_time(AT.astimezone(timezone(timedelta(hours=9)))) == "2026-11-20T14:03:07.250Z"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_parameters_travel_unchanged(value: Any) -> None:
    """Any JSON value survives as a parameter."""
    request = SubmissionRequest(parameters={"value": value})
    assert wire.loads(SubmissionRequest, wire.dumps(request)) == request


@given(st.text())
def test_events_are_one_line(text: str) -> None:
    """An event with any text in it is one marked line and comes back the same."""
    event = RunnerEvent(kind="failed", at=AT, progress=Progress(cell=1, of=2), error={"cell": 1, "evalue": text})
    line = wire.format_event(event)
    assert (line.count("\n"), line.endswith("\n")) == (1, True)
    assert wire.parse_event(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "epoch 1",
        '{"kind":"finished","at":"2026-11-20T14:03:07Z"}',
        f"{wire.EVENT_MARK}not json",
        f'{wire.EVENT_MARK}{{"kind": 3}}',
        f"{wire.EVENT_MARK}[]",
        f'{wire.EVENT_MARK}{{"kind":"finished","at":"2026-11-20T14:03:07Z","x":"{"y" * wire.MAX_EVENT_CHARS}"}}',
    ],
)
def test_other_lines_are_output(line: str) -> None:
    """Unmarked, malformed and oversized lines are kernel output, never events."""
    assert wire.parse_event(line) is None


def test_dumps_is_strict_json() -> None:
    """Numbers that JSON does not have are refused rather than written."""
    with pytest.raises(ValueError, match="Out of range"):
        wire.dumps({"value": float("nan")})


def test_state_words_are_the_enum() -> None:
    """The sample list uses the words of the state enum and nothing else."""
    states = [item["state"] for item in sample("submissions.json")["submissions"]]
    assert states == [SubmissionState(state).value for state in states]


def test_error_sample_has_the_contract_shape() -> None:
    """An error body has a message and code, hint, details and retryable."""
    body: Mapping[str, Any] = sample("error.json")
    assert (set(body), set(body["error"])) == ({"message", "error"}, {"code", "hint", "details", "retryable"})
