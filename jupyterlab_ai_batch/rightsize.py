"""Whether a Profile fits, from what the user's own runs have used of it. Pure.

A hint is given only where it helps: the profile was too small, just large enough, or a smaller one would do with a
margin to spare.
"""

from __future__ import annotations

from collections.abc import Sequence

from .explain import count_words, size_words
from .models import Profile, Submission
from .words import SubmissionState

MAX_RUNS = 5
MIN_RUNS = 2
MARGIN = 1.25  # what is looked at every few seconds misses some
CLOSE = 0.95
_OUT_OF_MEMORY = "out_of_memory"


def hint_for(profile: Profile, profiles: Sequence[Profile], finished: Sequence[Submission]) -> str:
    """One sentence; empty where there is nothing to say.

    Args:
        profiles: All that the user may choose.
        finished: Submissions that have ended, newest first.
    """
    limit = profile.memory_bytes
    own = [run for run in finished if run.profile == profile.name]
    if limit is None or not own:
        return ""
    if own[0].explanation is not None and own[0].explanation.code == _OUT_OF_MEMORY:
        return f"Your last run needed more memory than its {size_words(limit)}: {_larger(profile, profiles)}."
    runs = [run for run in own if run.state is SubmissionState.SUCCEEDED and _peak(run)][:MAX_RUNS]
    if not runs:
        return ""
    most = max(map(_peak, runs))
    used = f"Your last {count_words(len(runs), 'run')} used" if len(runs) > 1 else "Your last run used"
    if most >= CLOSE * limit:
        return f"{used} up to {size_words(most)} of {size_words(limit)} memory: {_larger(profile, profiles)}."
    smaller = _smaller(profile, profiles, bytes_needed=most * MARGIN, cores_needed=max(map(_cores, runs)) * MARGIN)
    if smaller is None or len(runs) < MIN_RUNS:
        return ""
    return f"{used} at most {size_words(most)} of {size_words(limit)} memory: the profile {smaller.name} would do."


def _larger(profile: Profile, profiles: Sequence[Profile]) -> str:
    more = [one for one in profiles if _size(one) > _size(profile) and one.gpu_slots >= profile.gpu_slots]
    if not more:
        return "no profile has more"
    best = min(more, key=lambda one: (one.gpu_slots, _size(one)))
    size = "no limit" if best.memory_bytes is None else size_words(best.memory_bytes)
    return f"the profile {best.name} has more ({size})"


def _smaller(
    profile: Profile, profiles: Sequence[Profile], *, bytes_needed: float, cores_needed: float
) -> Profile | None:
    """The smallest with as many GPU slots that has room for it; whether those are used is not known."""
    fits = [
        one
        for one in profiles
        if one.gpu_slots == profile.gpu_slots
        and bytes_needed <= _size(one) < _size(profile)
        and (one.cpu_millicores is None or cores_needed * 1000 <= one.cpu_millicores)
    ]
    return min(fits, key=_size, default=None)


def _size(profile: Profile) -> float:
    return float("inf") if profile.memory_bytes is None else profile.memory_bytes


def _peak(run: Submission) -> int:
    return max((attempt.usage.peak_memory_bytes or 0 for attempt in run.attempts if attempt.usage), default=0)


def _cores(run: Submission) -> float:
    """On average, over the Attempt that kept most of them busy."""
    found = [0.0]
    for attempt in run.attempts:
        if attempt.usage and attempt.started_at and attempt.ended_at:
            seconds = (attempt.ended_at - attempt.started_at).total_seconds()
            found.append(attempt.usage.cpu_s / max(seconds, 1.0))
    return max(found)
