"""The runner as a program."""

import sys

from .entry import main

sys.exit(main())
