"""Logs of pods: taken line by line, once, over streams that break; kept in files that several processes share."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.errors import QueueUnreachableError
from jupyterlab_ai_batch.models import Progress, RunnerEvent
from jupyterlab_ai_batch.queues.kueue import log_lines, log_spool
from jupyterlab_ai_batch.queues.kueue.log_lines import LogPlace, LogReader, RunnerReport
from jupyterlab_ai_batch.queues.kueue.log_spool import LogCursor, LogSpool, spooled
from jupyterlab_ai_batch.queues.kueue.pauses import Pauses
from jupyterlab_ai_batch.queues.kueue.pod_log import LoggingPod, PodLog, parse_logging_pod
from tests.memory_cluster import MemoryApi, MemoryCluster

T0 = datetime(2026, 11, 20, 10, 0, tzinfo=timezone.utc)
NS = 1_000_000_000


def stamped(at_ns, text):
    seconds = datetime.fromtimestamp(at_ns // NS, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{at_ns % NS:09d}Z ".encode() + text + b"\n"


def event(kind, **fields):
    return wire.format_event(RunnerEvent(kind=kind, at=T0, **fields)).encode()


class FakeLog:
    """A log as the cluster gives it: from the second of ``since`` on."""

    def __init__(self, lines):
        self.lines = lines

    def stream(self, since):
        floor = (
            int(datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()) if since else 0
        )
        return b"".join(stamped(at, text) for at, text in self.lines if at >= floor * NS)


@st.composite
def logs(draw):
    """Lines in the order of their times, many of them at the same time or in the same second."""
    at, lines = int(T0.timestamp()) * NS, []
    for text in draw(st.lists(st.binary(max_size=12), max_size=25)):
        at += draw(st.sampled_from([0, 0, 1, 400_000_000, NS, 5 * NS]))
        lines.append((at, text.replace(b"\n", b"").replace(b"\x1e", b"")))
    return lines


@given(logs(), st.lists(st.tuples(st.integers(0, 600), st.integers(1, 40)), max_size=8))
def test_each_line_once(lines, breaks):
    """Streams may break anywhere, also inside of a line: nothing is lost, nothing comes twice."""
    log, reader, text = FakeLog(lines), LogReader(LogPlace(), RunnerReport()), b""
    for length, piece in [*breaks, (10**6, 97)]:
        reader = LogReader(reader.place, reader.report)  # also as after a restart
        content = log.stream(reader.place.since)[:length]
        for at in range(0, len(content), piece):
            text += reader.feed(content[at : at + piece])
    assert b"".join(line + b"\n" for _, line in lines) == text + reader.finish()


def test_events_are_heard_and_left_out():
    """The runner's events are not text; the last progress, the failure and what was stored are told."""
    progress = Progress(cell=2, of=3, cell_started_at=T0)
    lines = [
        (1, b"before" + event("progress", progress=Progress(cell=1, of=3)).rstrip()),
        (2, event("progress", progress=progress).rstrip()),
        (3, b"text"),
        (4, event("stored").rstrip()),
        (5, event("later_kind").rstrip()),
        (
            6,
            event(
                "failed", error={"ename": "E", "evalue": "x" * 9999, "cell": 2, "more": [1], "nan": float("nan")}
            ).rstrip(),
        ),
        (7, event("finished").rstrip()),
    ]
    reader = LogReader(LogPlace(), RunnerReport())
    assert b"beforetext\n" == reader.feed(FakeLog(lines).stream(""))
    report = reader.report
    assert (progress, 1, True) == (report.progress, report.stored, report.finished)
    assert {"ename": "E", "evalue": "x" * 4096, "cell": 2} == report.failure
    assert report == wire.loads(RunnerReport, wire.dumps(report))


@pytest.mark.parametrize("stamp", ["2026-11-20T11:00:00.5+01:00", "2026-11-20T10:00:00.500000000Z"])
def test_times_of_any_node(stamp):
    """Nodes may write their own time zone, and leave out zeros."""
    reader = LogReader(LogPlace(), RunnerReport())
    assert b"x\n" == reader.feed(f"{stamp} x\n".encode())
    assert int(T0.timestamp()) * NS + NS // 2 == reader.place.at_ns
    assert "2026-11-20T10:00:00Z" == reader.place.since


@pytest.mark.parametrize("line", [b"no time at all\n", b"2026-99-99T10:00:00Z x\n", b"\xff\xfe\n", b"\n"])
def test_lines_without_a_time(line):
    """What does not begin with a time is text all the same."""
    reader = LogReader(LogPlace(), RunnerReport())
    assert reader.feed(line).endswith(line[-3:])


def test_an_endless_line_is_cut(monkeypatch):
    """A line that does not end fills no memory; the next one is read as ever."""
    monkeypatch.setattr(log_lines, "MAX_LINE_BYTES", 100)
    reader = LogReader(LogPlace(), RunnerReport())
    text = b"".join(reader.feed(b"2026-11-20T10:00:00Z " + b"x" * 60 if at == 0 else b"y" * 60) for at in range(9))
    text += reader.feed(b"z\n2026-11-20T10:00:01Z next\n")
    assert (True, True, 1) == (text.endswith(b"\nnext\n"), len(text) < 200, text.count(b"x" * 60))


# --- the file --------------------------------------------------------------------------------------------------------


def test_spool_goes_on_where_it_was(tmp_path):
    """Text and cursor survive; what was written after the last cursor is written again, at the same place."""
    spool = LogSpool(tmp_path / "logs", "uid")
    cursor = spool.take(T0)
    assert LogCursor(begun_at=T0) == cursor
    assert 4 == spool.append(b"one\n", LogCursor(begun_at=T0, place=LogPlace(at_ns=5, count=1)))
    spool.leave()
    with spool.text.open("ab") as stream:
        stream.write(b"torn")
    again = LogSpool(tmp_path / "logs", "uid").take(T0)
    assert (4, LogPlace(at_ns=5, count=1)) == (again.size_bytes, again.place)
    assert b"one\n" == spool.text.read_bytes()
    assert [("uid", again)] == spooled(tmp_path / "logs")


@pytest.mark.parametrize("damage", ["{", '{"begun_at": 3}', ""])
def test_spool_with_a_damaged_cursor_begins_anew(tmp_path, damage):
    spool = LogSpool(tmp_path, "uid")
    spool.take(T0)
    spool.append(b"one\n", LogCursor(begun_at=T0))
    spool.leave()
    (tmp_path / "uid.json").write_text(damage)
    assert 0 == spool.take(T0).size_bytes
    assert b"" == spool.text.read_bytes()


def test_spool_has_one_writer(tmp_path):
    """A second process reads what the first one writes, and writes when that has left."""
    first, second = LogSpool(tmp_path, "uid"), LogSpool(tmp_path, "uid")
    first.take(T0)
    assert second.take(T0) is None
    first.append(b"one\n", LogCursor(begun_at=T0))
    assert 4 == second.cursor().size_bytes
    first.leave()
    assert 4 == second.take(T0).size_bytes


def test_spool_is_limited(tmp_path, monkeypatch):
    """A log that is longer than the limit ends with a line that says so, once."""
    monkeypatch.setattr(log_spool, "MAX_LOG_BYTES", 10)
    spool = LogSpool(tmp_path, "uid")
    cursor = spool.take(T0)
    for text in (b"12345", b"678901234", b"more"):
        cursor = LogCursor(begun_at=T0, size_bytes=spool.append(text, cursor))
    content = spool.text.read_bytes()
    assert (b"1234567890", 1, len(content)) == (content[:10], content.count(b"[ai-batch]"), cursor.size_bytes)


# --- a pod -----------------------------------------------------------------------------------------------------------


def pod(name="p", phase="Running", state="running"):
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-11-20T10:00:00Z"},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": {state: {}}}]},
    }


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": {"name": "p", "uid": "../../x"}, "status": pod()["status"]},
        {"metadata": {"name": "p", "uid": "u"}, "status": {"containerStatuses": "none"}},
        pod(state="waiting"),
    ],
)
def test_pods_without_a_log(broken):
    """A pod whose program has not begun, or whose uid would leave the directory, has no log to follow."""
    assert parse_logging_pod(broken, now=T0) is None


class LogWorld:
    """One pod in a cluster, and who follows its log."""

    def __init__(self, directory):
        self.cluster = MemoryCluster()
        self.directory = directory
        self.pod = parse_logging_pod(pod(), now=T0)
        self.heard = asyncio.Event()

    def follow(self):
        self.log = PodLog(
            MemoryApi(self.cluster),
            self.pod,
            LogSpool(self.directory, "uid-p"),
            look=lambda: self.pod,
            on_change=self.heard.set,
            pauses=Pauses(first_s=0.01, longest_s=0.02),
        )
        return asyncio.create_task(self.log.run())

    def end(self):
        self.cluster.write_log("p", b"", ended=True)
        self.pod = LoggingPod(name="p", uid="uid-p", begun_at=T0, has_ended=True)

    @property
    def text(self):
        return (self.directory / "uid-p.txt").read_bytes()

    async def until(self, holds):
        async def wait():
            while not holds():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 10)


def play(story):
    asyncio.run(asyncio.wait_for(story, 30))


def write(cluster, number, text):
    cluster.write_log("p", text, at=T0 + timedelta(milliseconds=300 * number))


def test_follows_to_the_end(tmp_path):
    """What comes is kept as it comes; at the end it is complete, and progress was told."""

    async def story():
        world = LogWorld(tmp_path)
        write(world.cluster, 0, b"early\n")
        task = world.follow()
        await asyncio.wait_for(world.log.caught_up.wait(), 10)
        await world.until(lambda: world.text == b"early\n")
        write(world.cluster, 1, event("progress", progress=Progress(cell=1, of=2)))
        await world.until(lambda: world.log.report.progress is not None)
        write(world.cluster, 2, b"late\n")
        world.end()
        await task
        assert (b"early\nlate\n", True) == (world.text, world.log.is_complete)

    play(story())


def test_breaks_cost_nothing(tmp_path):
    """Streams that are cut, an API that is gone for a while, a restart of the server: each line is there once."""

    async def story():
        world = LogWorld(tmp_path)
        task = world.follow()
        for number in range(12):
            write(world.cluster, number, b"line %d\n" % number)
            if number % 3 == 0:
                world.cluster.cut_watches()
            if number == 4:
                world.cluster.failure = QueueUnreachableError("gone")
                world.cluster.cut_watches()
            if number == 7:
                world.cluster.failure = None
            if number == 9:
                task.cancel()
                await asyncio.wait({task})
                task = world.follow()
            await asyncio.sleep(0.03)
        world.end()
        await task
        assert b"".join(b"line %d\n" % number for number in range(12)) == world.text

    play(story())


def test_an_evicted_pod_keeps_its_last_words(tmp_path):
    """A pod that is gone right after its last line: what its stream said is kept, and complete."""

    async def story():
        world = LogWorld(tmp_path)
        write(world.cluster, 0, b"running\n")
        task = world.follow()
        await asyncio.wait_for(world.log.caught_up.wait(), 10)
        await world.until(lambda: world.cluster.requests.get(("get", "pods/log"), 0) == 2)
        write(world.cluster, 1, b"saved on SIGTERM\n")
        world.cluster.logs["p"].ended = True
        world.cluster.tick()
        world.pod = None
        await task
        assert (b"running\nsaved on SIGTERM\n", True) == (world.text, world.log.is_complete)

    play(story())


def test_a_second_process_hears_what_the_first_writes(tmp_path):
    """Two processes of a user follow the same pod: one writes; the other takes over when that one is gone."""

    async def story():
        world, other = LogWorld(tmp_path), LogWorld(tmp_path)
        other.cluster = world.cluster
        first = world.follow()
        await asyncio.wait_for(world.log.caught_up.wait(), 10)
        second = other.follow()
        write(world.cluster, 1, event("stored") + b"one\n")
        await other.until(lambda: other.log.report.stored == 1)
        first.cancel()
        await asyncio.wait({first})
        write(world.cluster, 2, b"two\n")
        other.end()
        await second
        assert (b"one\ntwo\n", True) == (other.text, other.log.is_complete)

    play(story())


def test_a_full_disk_costs_text_only(tmp_path, monkeypatch):
    """Progress is heard although nothing can be written; the log is not called complete."""

    def full(*_):
        raise OSError(28, "No space left on device")

    async def story():
        world = LogWorld(tmp_path)
        task = world.follow()
        await asyncio.wait_for(world.log.caught_up.wait(), 10)
        monkeypatch.setattr(log_spool, "_write_all", full)
        write(world.cluster, 1, b"text\n")
        write(world.cluster, 2, event("progress", progress=Progress(cell=1, of=2)))
        await world.until(lambda: world.log.report.progress is not None)
        world.end()
        await task
        assert not world.log.is_complete

    play(story())
