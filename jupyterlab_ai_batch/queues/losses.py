"""What an Eviction costs. Pure."""

from __future__ import annotations

from ..models import Attempt


def lost_s(attempt: Attempt, *, resumes: bool) -> float:
    """Run time that the Eviction of an Attempt threw away; 0 where its end is not known.

    Args:
        resumes: The next Attempt has the files of ``saved_at``, so only what came after that is lost.
    """
    if attempt.ended_at is None:
        return 0.0
    kept_until = attempt.saved_at if resumes else None
    return max(0.0, (attempt.ended_at - (kept_until or attempt.started_at or attempt.admitted_at)).total_seconds())
