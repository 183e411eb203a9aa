"""What figures depend on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

GIBIBYTE = 1024**3


def describe_machine() -> dict[str, Any]:
    """Processor, memory and system; no names."""
    cpu = "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = found[0] if found else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / GIBIBYTE),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }
