"""Stands in for the programs that the service starts: a capture that waits to be ended, and a plan."""

import os
import signal
import sys
from pathlib import Path

if "plan" in sys.argv:
    sample = Path(__file__).parent.parent / "wire" / "plan.json"
    sys.stdout.write(f'{{"plan": {sample.read_text(encoding="utf-8")}}}')
else:
    os.pwrite(int(sys.argv[sys.argv.index("--lock-fd") + 1]), str(os.getpid()).encode(), 0)
    signal.alarm(60)
    signal.pause()
