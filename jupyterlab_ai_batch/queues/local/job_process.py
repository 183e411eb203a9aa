"""The processes of one running job: started, signalled, measured and ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from .processes import (
    Process,
    family,
    first_child,
    list_processes,
    proportional_bytes,
    read_process,
    signal_group,
    signal_process,
)
from .sandbox import Isolation

_EXIT_PATIENCE_S = 10.0
_MAX_INFO_BYTES = 4096


class JobProcess:
    """A started launcher and what came of it.

    Start it in the thread that stays until it has ended: the system ends a job whose starting thread is gone.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, isolation: Isolation, info: InfoPipe
    ) -> None:
        self._isolation = isolation
        self._info = info
        self._seen: dict[int, str] = {}
        self._runner_pid: int | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
            pass_fds=(info.write_fd,),
            bufsize=0,
        )
        info.close_write()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def streams(self) -> tuple[IO[bytes], IO[bytes]]:
        """The runner's stdout and stderr."""
        return cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)

    def poll(self) -> int | None:
        """The exit status once it has ended."""
        return self._process.poll()

    def terminate(self) -> bool:
        """Ask the runner, and it alone, to save and end; False while it is not there yet."""
        pid = self._find_runner()
        if pid is None:
            return False
        signal_process(pid, signal.SIGTERM)
        return True

    def kill(self) -> None:
        """End every process of the job now."""
        members = self._members()
        if self._process.poll() is None:
            signal_group(self.pid, signal.SIGKILL)
        for process in members:
            if process.pid != self.pid:
                self._kill_if_same(process.pid, process.started)
        for pid, started in self._seen.items():
            self._kill_if_same(pid, started)

    def look(self) -> int:
        """Remember the present processes; returns their memory in bytes, shared pages counted in each."""
        members = self._members()
        if not self._isolation.pid_namespace:
            self._seen |= {process.pid: process.started for process in members if process.pid != self.pid}
        return sum(process.resident_bytes for process in members)

    def proportional_bytes(self) -> int:
        """Memory of all processes, shared pages counted once."""
        return sum(proportional_bytes(process) for process in self._members())

    def kill_largest(self) -> bool:
        """Kill the process with the most memory that is neither runner nor sandbox; False when there is none."""
        runner = self._find_runner()
        spared = {self.pid, runner, self._info.child_pid()}
        candidates = [process for process in self._members() if process.pid not in spared]
        if not candidates or runner is None:
            return False
        signal_process(max(candidates, key=lambda process: process.resident_bytes).pid, signal.SIGKILL)
        return True

    def close(self) -> None:
        """Leave nothing behind: processes, pipes."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_PATIENCE_S)
        for stream in self.streams:
            stream.close()

    def _members(self) -> Sequence[Process]:
        return family(self.pid, list_processes()) if self._process.poll() is None else []

    def _find_runner(self) -> int | None:
        if self._isolation.bubblewrap is None:
            return self.pid
        if self._runner_pid is None:
            child = self._info.child_pid()
            if child is not None:
                # In a process namespace of its own bubblewrap's child only waits; the runner is its child.
                self._runner_pid = first_child(child) if self._isolation.pid_namespace else child
        return self._runner_pid

    @staticmethod
    def _kill_if_same(pid: int, started: str) -> None:
        process = read_process(pid)
        if process is not None and process.started == started:
            signal_process(pid, signal.SIGKILL)


class InfoPipe:
    """Where bubblewrap tells the process id of its child."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._write_open = True
        self._content = b""

    def child_pid(self) -> int | None:
        """None until bubblewrap has told it."""
        with suppress(BlockingIOError):
            while len(self._content) < _MAX_INFO_BYTES and (chunk := os.read(self._read_fd, _MAX_INFO_BYTES)):
                self._content += chunk
        try:
            pid = json.loads(self._content)["child-pid"]
        except (ValueError, KeyError, TypeError):
            return None
        return pid if isinstance(pid, int) else None

    def close_write(self) -> None:
        if self._write_open:
            self._write_open = False
            os.close(self.write_fd)

    def close(self) -> None:
        self.close_write()
        os.close(self._read_fd)
