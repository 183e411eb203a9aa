"""What the rounds of snapshot.py measured, and the figures that are made of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from processes import Run
from snapshot_tools import TOOLS, Ours, Tool

RIVALS = tuple(name for name in TOOLS if name != "ours")
# Those whose repositories are as small as our layers: lz4 is faster and makes them a quarter larger.
PACKING_RIVALS = ("restic", "borg_zstd")
RATIO_LIMITS = {"unchanged": 0.15, "changed20": 0.20, "env_first": 0.55, "env_work_first": 0.60}
# Cases whose subject is the environment: the folder beside it holds one notebook, which has a layer of its own.
ENVIRONMENT_ROLES = ("environment", "environment-index")
LAYER_ROLES = (*ENVIRONMENT_ROLES, "work", "base")
UPLOAD_ROLES = {"env_first": ENVIRONMENT_ROLES, "second_user": ENVIRONMENT_ROLES}
UPLOAD_LIMITS = {"second_user": 0, "ctime_only": 0}


@dataclass(slots=True)
class Samples:
    """What was measured of one case, in the order of the rounds."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    uploads: list[dict[str, int]] = field(default_factory=list)
    received_bytes: list[int] = field(default_factory=list)
    stored_bytes: dict[str, int] = field(default_factory=dict)

    def add(self, tool: Tool, run: Run) -> None:
        self.runs.setdefault(tool.name, []).append(run)
        self.stored_bytes[tool.name] = tool.stored_bytes()
        if isinstance(tool, Ours):
            self.uploads.append(dict(tool.uploads))
            self.received_bytes.append(tool.received_bytes)

    def median_s(self, name: str) -> float | None:
        runs = self.runs.get(name)
        return round(statistics.median(run.seconds for run in runs), 3) if runs else None

    def ratio(self, rivals: Sequence[str]) -> float | None:
        """Ours to the fastest of ``rivals``, by their medians."""
        ours, others = self.median_s("ours"), [self.median_s(name) for name in rivals]
        measured = [seconds for seconds in others if seconds is not None]
        return round(ours / min(measured), 3) if ours and measured else None


def summarise(case: str, samples: Samples) -> dict[str, Any]:
    """One case: medians, the largest memory of ours, what it uploaded, and what is behind these figures."""
    roles = UPLOAD_ROLES.get(case, LAYER_ROLES)
    layers = [sum(uploads.get(role, 0) for role in roles) for uploads in samples.uploads]
    return {
        **{f"{name}_s": samples.median_s(name) for name in TOOLS},
        "uploaded_layer_bytes": statistics.median_high(layers) if layers else None,
        "peak_rss_bytes": max((run.peak_rss_bytes for run in samples.runs.get("ours", ())), default=None),
        "ratio": samples.ratio(RIVALS),
        "ratio_packing": samples.ratio(PACKING_RIVALS),
        "ratio_limit": RATIO_LIMITS.get(case),
        "uploaded_limit_bytes": UPLOAD_LIMITS.get(case),
        "uploaded_roles": list(roles),
        "uploads_by_role": samples.uploads[-1] if samples.uploads else {},
        "registry_received_bytes": statistics.median_high(samples.received_bytes) if samples.received_bytes else None,
        "stored_bytes": samples.stored_bytes,
        "samples": {
            **{f"{name}_s": [round(run.seconds, 4) for run in runs] for name, runs in samples.runs.items()},
            **{f"{name}_cpu_s": [round(run.cpu_seconds, 4) for run in runs] for name, runs in samples.runs.items()},
            **{f"{name}_rss_bytes": [run.peak_rss_bytes for run in runs] for name, runs in samples.runs.items()},
            "uploaded_layer_bytes": layers,
        },
    }
