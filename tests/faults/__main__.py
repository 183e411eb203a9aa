"""Runs random schedules; says which ones fail, and ends with 1 then."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from .injection import Points
from .schedule import Schedule, prepare_process

_MEMORY = Path("/dev/shm")
_MAX_FAILURES = 40


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--schedule", type=int, help="run this one only")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument(
        "--stride", type=int, default=1, help="distance of two seeds: one worker of several takes its share"
    )
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count * options.stride, options.stride)
    points = Points()
    prepare_process(points)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    began, failures = time.monotonic(), 0
    for seed in [options.schedule] if options.schedule is not None else seeds:
        failures += not run_schedule(seed, points)
        if failures >= _MAX_FAILURES:
            break
    print(f"{len(seeds)} schedules in {time.monotonic() - began:.1f} s, {failures} failed")
    return 1 if failures else 0


def run_schedule(seed: int, points: Points) -> bool:
    """Whether it went well; what went wrong is printed."""
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory(dir=memory) as data:
        schedule = Schedule(seed, points, home_base=Path(home), data_base=Path(data))
        try:
            schedule.run()
        except BaseException as exc:  # noqa: BLE001 - told with its seed
            print(f"--- schedule {seed} failed (python -m tests.faults --schedule {seed})")
            print("\n".join(schedule.log))
            print(traceback.format_exc() if not isinstance(exc, AssertionError) else exc)
            sys.stdout.flush()
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
