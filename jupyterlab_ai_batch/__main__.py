"""``python -m jupyterlab_ai_batch``: the same as ``jupyter ai-batch``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
