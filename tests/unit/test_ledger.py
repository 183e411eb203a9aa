"""The ledger: pages, filters, idempotency, order without a clock, several processes, broken files."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import (
    IdempotencyConflictError,
    InvalidSubmissionError,
    StorageError,
    StoragePermissionError,
    SubmissionNotFoundError,
)
from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import Submission
from jupyterlab_ai_batch.words import SubmissionState

NOW = datetime(2026, 11, 20, 14, 0, tzinfo=timezone.utc)


def make(number, **changes):
    fields = {
        "id": f"{number:032x}",
        "state": SubmissionState.QUEUED,
        "title": f"título {number}",
        "notebook_path": "a.ipynb",
        "backend": "local",
        "target": "local",
        "profile": "cpu",
        "queue": "local",
        "created_at": NOW,
        "observed_at": NOW,
    }
    return Submission(**{**fields, **changes})


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: NOW)
    yield ledger
    ledger.close()


def ids(page):
    return [int(item["id"], 16) for item in json.loads(page.json)]


def test_pages_come_newest_first_and_join_up(ledger):
    """Following the cursor gives every Submission once, also when new ones arrive meanwhile."""
    for number in range(25):
        ledger.create(make(number))
    first = ledger.page(limit=10)
    ledger.create(make(99))
    second = ledger.page(limit=10, cursor=first.next_cursor)
    third = ledger.page(limit=10, cursor=second.next_cursor)
    assert ids(first) + ids(second) + ids(third) == list(range(24, -1, -1))
    assert third.next_cursor is None


def test_order_is_that_of_insertion_even_when_the_clock_goes_back(ledger):
    """A clock moved back breaks neither order nor states."""
    ledger.create(make(1, created_at=NOW))
    ledger.create(make(2, created_at=NOW - timedelta(days=3)))
    assert ids(ledger.page()) == [2, 1]


def test_filters_by_states_and_notebook(ledger):
    """Several states are one filter; a notebook is another; both may be given."""
    states = [SubmissionState.QUEUED, SubmissionState.FAILED, SubmissionState.SUCCEEDED]
    for number in range(12):
        ledger.create(make(number, state=states[number % 3], notebook_path=f"{number % 2}.ipynb"))
    assert ids(ledger.page(states=states[:1])) == [9, 6, 3, 0]
    assert ids(ledger.page(states=states[1:], limit=4)) == [11, 10, 8, 7]
    assert ids(ledger.page(states=states[:2], notebook="0.ipynb")) == [10, 6, 4, 0]
    assert ids(ledger.page(notebook="1.ipynb", limit=2)) == [11, 9]


@pytest.mark.parametrize("cursor", ["x", "", "czE;DROP", "c" * 5000, "cy0x", "é"])
def test_a_cursor_that_no_page_gave_is_refused(ledger, cursor):
    """Cursors are checked, not trusted."""
    with pytest.raises(InvalidSubmissionError):
        ledger.page(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(ledger, limit):
    """A page has 1 to 1000 Submissions."""
    with pytest.raises(InvalidSubmissionError):
        ledger.page(limit=limit)


def test_a_replayed_key_gives_the_same_submission(ledger):
    """Same key and body: the first Submission; another body: a conflict."""
    first, created = ledger.create(make(1), key="k", body_hash="a")
    again, created_again = ledger.create(make(2), key="k", body_hash="a")
    assert (created, created_again, again) == (True, False, first)
    assert ledger.replayed("k", "a") == first
    assert ledger.replayed("other", "a") is None
    with pytest.raises(IdempotencyConflictError):
        ledger.create(make(3), key="k", body_hash="b")
    assert ids(ledger.page()) == [1]


def test_a_race_of_one_key_makes_one_row(tmp_path):
    """Two servers that get the same request at once write one Submission."""
    ledgers = [Ledger(tmp_path / "ledger.db", clock=lambda: NOW) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: ledgers[n % 4].create(make(n), key="k", body_hash="a"), range(16)))
    assert sum(created for _, created in made) == 1
    assert len({submission.id for submission, _ in made}) == 1
    for ledger in ledgers:
        ledger.close()


def test_updates_of_two_processes_are_not_lost(tmp_path, ledger):
    """Read and write are one transaction, whoever else writes."""
    ledger.create(make(1, priority=0))
    script = (
        "import sys\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from datetime import datetime, timezone\n"
        "from jupyterlab_ai_batch.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]), clock=lambda: datetime.now(timezone.utc))\n"
        "for _ in range(50): ledger.update(sys.argv[2], lambda s: replace(s, priority=s.priority + 1))\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "ledger.db"), make(1).id]
    children = [subprocess.Popen(arguments) for _ in range(2)]
    for _ in range(50):
        ledger.update(make(1).id, lambda s: replace(s, priority=s.priority + 1))
    assert [child.wait(60) for child in children] == [0, 0]
    assert ledger.get(make(1).id).priority == 150


def test_changes_of_state_make_a_timeline(ledger):
    """Only a change of state is noted, with its reason."""
    ledger.create(make(1))
    ledger.update(make(1).id, lambda s: replace(s, priority=3))
    ledger.update(make(1).id, lambda s: replace(s, state=SubmissionState.RUNNING))
    assert [entry.state for entry in ledger.timeline(make(1).id)] == ["queued", "running"]
    assert [s.id for s in ledger.active()] == [make(1).id]
    ledger.update(make(1).id, lambda s: replace(s, state=SubmissionState.FAILED))
    assert ledger.active() == []


def test_version_moves_when_somebody_else_writes(tmp_path, ledger):
    """What an idle server polls."""
    before = ledger.version()
    assert ledger.version() == before
    other = Ledger(tmp_path / "ledger.db", clock=lambda: NOW)
    other.create(make(1))
    other.close()
    assert ledger.version() != before


def test_abbreviated_ids(ledger):
    """Four characters that name one Submission are enough; fewer or ambiguous ones are not."""
    ledger.create(make(1, id="abcd" + "0" * 28))
    ledger.create(make(2, id="abce" + "0" * 28))
    assert ledger.find("abcd") == "abcd" + "0" * 28
    for prefix in ("abc", "ab", "", "zzzz", "%", "abcd1"):
        with pytest.raises(SubmissionNotFoundError):
            ledger.find(prefix)


def test_the_file_is_private(tmp_path, ledger):
    """Nobody else reads what a user submits."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}


def test_a_file_that_is_no_database_is_kept_aside(tmp_path):
    """The ledger starts anew; what lay there is still there under another name."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this was never a database" * 200)
    ledger = Ledger(path, clock=lambda: NOW)
    ledger.create(make(1))
    assert ids(ledger.page()) == [1]
    assert (tmp_path / "ledger.db.unreadable-1").read_bytes().startswith(b"this was never")
    ledger.close()


def test_a_newer_schema_is_refused(tmp_path):
    """An older version does not touch what a newer one wrote."""
    path = tmp_path / "ledger.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer version"):
        Ledger(path, clock=lambda: NOW)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(tmp_path):
    """A coded error, not an OSError."""
    tmp_path.chmod(0o500)
    with pytest.raises(StoragePermissionError):
        Ledger(tmp_path / "ledger.db", clock=lambda: NOW)
    tmp_path.chmod(0o700)


def test_a_missing_directory_is_a_coded_error(tmp_path):
    """Whatever the system says, the user gets one of our errors."""
    with pytest.raises(StorageError):
        Ledger(tmp_path / "missing" / "ledger.db", clock=lambda: NOW)


def test_a_page_costs_the_same_in_a_long_history(tmp_path):
    """100 of 50 000 take about as long as 100 of 500, whatever the filter."""
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: NOW)
    _fill(ledger, tmp_path / "ledger.db", 0, 500)
    filters = [{}, {"states": [SubmissionState.FAILED, SubmissionState.QUEUED]}, {"notebook": "a.ipynb"}]
    short = [_time(lambda f=f: ledger.page(**f)) for f in filters]
    _fill(ledger, tmp_path / "ledger.db", 500, 50_000)
    long = [_time(lambda f=f: ledger.page(**f)) for f in filters]
    ledger.close()
    assert all(after < before * 2 + 0.002 for before, after in zip(short, long, strict=True)), (short, long)


def _fill(ledger, path: Path, start, stop):
    ledger.create(make(start))
    db = sqlite3.connect(path)
    row = db.execute("SELECT state, active, notebook, doc FROM submissions LIMIT 1").fetchone()
    db.executemany(
        "INSERT INTO submissions (id, state, active, notebook, doc) VALUES (?, ?, 0, ?, ?)",
        ((f"{n:032x}", "succeeded", row[2], row[3]) for n in range(start + 1, stop)),
    )
    db.commit()
    db.close()


def _time(action):
    best = 1.0
    for _ in range(7):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best
