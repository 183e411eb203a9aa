"""Whether the server's account has the rights of its Role; what is missing, as a Role of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...models import PreflightCheck
from . import fixes
from .api import EVENTS, JOBS, LOCAL_QUEUES, PODS, VISIBILITY, WORKLOADS, ClusterApi
from .fixes import Right

# Without the first group nothing works, without the second less is explained and checked.
NEEDED = (
    Right(resource=JOBS, verbs=("create", "get", "list", "watch", "delete")),
    Right(resource=PODS, verbs=("get", "list", "watch")),
    Right(resource=PODS, subresource="log", verbs=("get",)),
    Right(resource=WORKLOADS, verbs=("list", "watch")),
)
HELPFUL = (
    Right(resource=PODS, verbs=("create",)),
    Right(resource=LOCAL_QUEUES, verbs=("get",)),
    Right(resource=VISIBILITY, subresource="pendingworkloads", verbs=("get",)),
    Right(resource=EVENTS, verbs=("list", "watch")),
)


async def check_needed(api: ClusterApi, user: str) -> PreflightCheck:
    """Raises: QueueError."""
    missing = await _missing(api, NEEDED)
    if not missing:
        summary = "Your server's account may submit, watch and cancel jobs."
        return PreflightCheck(name="rights", ok=True, summary=summary)
    return _lacking(api.namespace, user, missing, name="rights", ok=False)


async def check_helpful(api: ClusterApi, user: str) -> PreflightCheck:
    """Raises: QueueError."""
    missing = await _missing(api, HELPFUL)
    if not missing:
        summary = "Your server's account may see why a job waits."
        return PreflightCheck(name="helpful_rights", ok=True, summary=summary)
    return _lacking(api.namespace, user, missing, name="helpful_rights", ok=None)


async def _missing(api: ClusterApi, rights: Sequence[Right]) -> Sequence[Right]:
    """What of each right is missing; rights that are whole are left out."""

    async def look(right: Right) -> Right:
        answers = await asyncio.gather(
            *(api.may(verb, right.resource, subresource=right.subresource) for verb in right.verbs)
        )
        verbs = tuple(verb for verb, allowed in zip(right.verbs, answers, strict=True) if not allowed)
        return Right(resource=right.resource, subresource=right.subresource, verbs=verbs)

    return [right for right in await asyncio.gather(*map(look, rights)) if right.verbs]


def _lacking(namespace: str, user: str, missing: Sequence[Right], *, name: str, ok: bool | None) -> PreflightCheck:
    words = ", ".join(f"{verb} {right}" for right in missing for verb in right.verbs)
    account = fixes.parse_account(user)
    whose = f"Your server's account {account[1]}" if account is not None else "Your server's account"
    return PreflightCheck(
        name=name,
        ok=ok,
        summary=f"{whose} lacks rights in the namespace {namespace}: {words}.",
        resolution="Ask your admin to apply this Role, which adds them to what the account has.",
        fix=fixes.role(namespace, user, missing),
    )
