"""The Attempt's log: stdout and file have the same bytes, and the file its limit."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.runner.attempt_log import MAX_STRAY_LINE_BYTES, AttemptLog, LogPart


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox" / "log.txt"


@pytest.fixture
def make_log():
    """Opens logs that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(contextlib.closing(AttemptLog(*arguments, **options)))


@given(st.lists(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1), max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_file_and_stdout_have_the_same_bytes(make_log, path, writes):
    """Whatever is written; the part's size and digest are those of the file."""
    stdout = io.BytesIO()
    log = make_log(stdout, path)
    for lines in writes:
        log.write(b"".join(line + b"\n" for line in lines))
    written = stdout.getvalue()
    assert path.read_bytes() == written
    assert log.part() == (
        LogPart(sha256=hashlib.sha256(written).hexdigest(), size_bytes=len(written)) if written else LogPart()
    )


def test_a_part_can_be_read_when_the_log_has_grown(make_log, path):
    """It is the beginning that it was."""
    log = make_log(io.BytesIO(), path)
    log.write(b"one\n" * 50_000)
    part = log.part()
    log.write(b"two\n" * 50_000)
    with log.open(part) as stream:
        assert stream.read() == b"one\n" * 50_000
    with log.open(log.part()) as stream:
        assert stream.read(200_002) == b"one\n" * 50_000 + b"tw"


def test_the_file_ends_at_its_limit(make_log, path):
    """With whole lines and a sentence; stdout goes on."""
    stdout = io.BytesIO()
    log = make_log(stdout, path, limit_bytes=10)
    log.write(b"one\n")
    log.write(b"two\nthree\nfour\n")
    log.write(b"5\n")
    note = b"[ai-batch] The log is longer than 10 bytes; the rest is not kept.\n"
    assert path.read_bytes() == b"one\ntwo\n" + note
    assert stdout.getvalue() == b"one\ntwo\nthree\nfour\n5\n"
    assert log.part().sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_line_longer_than_the_limit(make_log, path):
    """Only the sentence is kept of it."""
    log = make_log(io.BytesIO(), path, limit_bytes=10)
    log.write(b"x" * 100 + b"\n")
    assert path.read_bytes().startswith(b"[ai-batch] The log is longer")


def test_a_file_that_cannot_be_written_loses_only_itself(make_log, tmp_path):
    """stdout has everything."""
    (tmp_path / "outbox").write_text("a file where the directory should be")
    stdout = io.BytesIO()
    log = make_log(stdout, tmp_path / "outbox" / "log.txt")
    log.write(b"line\n")
    assert (stdout.getvalue(), log.part()) == (b"line\n", LogPart())


def test_a_full_disk_keeps_what_fitted(path):
    """The digest is that of the bytes that are there."""
    program = """
import io, resource, signal, sys
from pathlib import Path
from jupyterlab_ai_batch.runner.attempt_log import AttemptLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = AttemptLog(io.BytesIO(), Path(sys.argv[1]))
for _ in range(20):
    log.write(b"x" * 99 + b"\\n")
with log.open(log.part()) as stream:
    content = stream.read()
import hashlib
print(len(content), log.part().sha256 == hashlib.sha256(content).hexdigest())
"""
    result = _run(program, str(path))
    assert result.stdout == b"1000 True\n"


def test_who_does_not_read_is_told_and_the_file_goes_on(make_log, path):
    """The Reporter ends the run at that error."""

    class Closed(io.BytesIO):
        def write(self, _):
            raise BrokenPipeError

    log = make_log(Closed(), path)
    with pytest.raises(BrokenPipeError):
        log.write(b"line\n")
    assert path.read_bytes() == b"line\n"


TAKING = """
import os, subprocess, sys, threading
from pathlib import Path
from jupyterlab_ai_batch.runner.attempt_log import AttemptLog
log = AttemptLog(os.fdopen(os.dup(1), "wb"), Path(sys.argv[1]))
log.take_descriptors()
"""


def _run(program, *arguments):
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=True, timeout=60)


def test_what_libraries_write_is_in_it_too(path):
    """From Python, from C, from a child process and from threads; never within a line of ours, and to the last byte."""
    result = _run(
        TAKING
        + """
def ours():
    for number in range(300):
        log.write(b"ours " + b"x" * (number * 30) + b" end\\n")
def theirs():
    for number in range(3000):
        os.write(2, b"theirs %d\\n" % number)
threads = [threading.Thread(target=work) for work in (ours, theirs)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
subprocess.run(["sh", "-c", "echo child; echo child >&2"], check=True)
print("python", file=sys.stderr)
sys.stderr.write("without an end")
log.close()
os.write(2, b"later, not for the log\\n")
""",
        str(path),
    )
    lines = result.stdout.splitlines()
    assert path.read_bytes() == result.stdout
    assert result.stderr == b"later, not for the log\n"
    assert [line for line in lines if line.startswith(b"theirs")] == [b"theirs %d" % number for number in range(3000)]
    assert [len(line) for line in lines if line.startswith(b"ours")] == [9 + number * 30 for number in range(300)]
    assert lines[-4:] == [b"child", b"child", b"python", b"without an end"]


def test_no_library_says_an_event(path):
    """The mark of the protocol is taken out; a line without an end does not grow for ever."""
    result = _run(
        TAKING + "os.write(2, b'\\x1e{\"kind\":\"finished\"}\\n')\nos.write(1, b'x' * 100_000 + b'\\n')\nlog.close()",
        str(path),
    )
    assert path.read_bytes() == result.stdout
    assert b"\x1e" not in result.stdout
    lines = result.stdout.splitlines()
    assert sum(map(len, lines[1:])) == 100_000
    assert max(map(len, lines)) <= MAX_STRAY_LINE_BYTES + (1 << 16)


def test_a_process_that_keeps_the_pipe_does_not_keep_the_end(path):
    """A daemon that somebody started and that still holds file descriptor 2."""
    result = _run(
        TAKING + "child = subprocess.Popen(['sleep', '600'])\nprint(child.pid)\nlog.close()\nos._exit(0)", str(path)
    )
    os.kill(int(result.stdout), signal.SIGKILL)


def test_threads_do_not_tear_lines(make_log, path):
    """Lines of several threads stay whole."""
    stdout = io.BytesIO()
    log = make_log(stdout, path)
    threads = [
        threading.Thread(target=lambda name=name: [log.write(name * 1000 + b"\n") for _ in range(50)])
        for name in (b"a", b"b", b"c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(stdout.getvalue().splitlines())) == [b"a" * 1000, b"b" * 1000, b"c" * 1000]
    assert path.read_bytes() == stdout.getvalue()
