"""Stands in for a capture child: says who it is, as the real one does, and waits to be ended."""

import os
import signal
import sys

os.pwrite(int(sys.argv[sys.argv.index("--lock-fd") + 1]), str(os.getpid()).encode(), 0)
signal.alarm(60)
signal.pause()
