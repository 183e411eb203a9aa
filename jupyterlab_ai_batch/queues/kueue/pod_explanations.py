"""How a pod starts, is ended by the cluster, or fails, in words for the user. Pure; codes are stable."""

from __future__ import annotations

from ...models import Explanation
from ..explanations import clip, format_duration, format_size
from .explanations import quote, say

_AGAIN = "It runs again from the start."
_SUBMIT_AGAIN = "Submit it again; ask your admin when it keeps happening."


# --- Starting --------------------------------------------------------------------------------------------------------


def starting() -> Explanation:
    return Explanation(code="starting", summary="Your notebook has its slot and is being started.")


def pulling_image(image: str, waited_s: float, added_bytes: int | None) -> Explanation:
    """How much at most, where its size is known: Kubernetes does not tell how far a node is.

    ``waited_s`` counts in whole minutes, so that the sentence does not change at every look.
    """
    minutes = int(waited_s // 60)
    so_far = f", for {format_duration(minutes * 60)} so far" if minutes > 0 else ""
    what = f" ({clip(image, 120)})" if image else ""
    size = "" if added_bytes is None else f", at most {format_size(added_bytes)} more than your session's image has"
    return Explanation(
        code="pulling_image",
        summary=f"The node fetches your notebook's environment and files{what}{size}{so_far}.",
    )


def image_pull_failed(reason: str, said: str) -> Explanation:
    return Explanation(
        code="image_pull_failed",
        summary=say("The node cannot fetch your notebook's environment and files.", quote(said)),
        resolution=_after_failed_pull(said),
        raw_reason=reason or None,
    )


def unschedulable(reason: str, said: str) -> Explanation:
    return Explanation(
        code="unschedulable",
        summary=say("Your notebook has its slot, but no node has room for it yet.", quote(said)),
        resolution="It is tried again by itself; tell your admin when it takes long.",
        raw_reason=reason or None,
    )


def container_config_missing(reason: str, said: str) -> Explanation:
    return Explanation(
        code="container_config_missing",
        summary=say("Something that your notebook's pod needs is missing.", quote(said)),
        resolution="Show this to your admin; it starts by itself once that is there.",
        raw_reason=reason or None,
    )


def container_not_created(reason: str, said: str) -> Explanation:
    return Explanation(
        code="container_not_created",
        summary=say(f"The node cannot start your notebook ({reason}).", quote(said)),
        resolution="It is tried again by itself; show this to your admin when it takes long.",
        raw_reason=reason or None,
    )


def pod_refused(said: str) -> Explanation:
    return Explanation(
        code="pod_refused",
        summary=say("The cluster's rules refuse your notebook's pod:", quote(said)),
        resolution="Cancel it, so that its slot is free again; show this to your admin.",
        raw_reason="FailedCreate",
    )


def namespace_quota(said: str) -> Explanation:
    return Explanation(
        code="namespace_quota",
        summary=say("Your namespace has used up its own quota, so your notebook cannot start yet.", quote(said)),
        resolution="Stop something else of yours, or ask your admin for more.",
        raw_reason="FailedCreate",
    )


def pod_not_created(said: str) -> Explanation:
    return Explanation(
        code="pod_not_created",
        summary=say("The cluster could not make your notebook's pod.", quote(said)),
        resolution="It is tried again by itself; show this to your admin when it takes long.",
        raw_reason="FailedCreate",
    )


def recovering(reason: str) -> Explanation:
    return Explanation(
        code="recovering",
        summary="Your notebook lost its pod and is being started anew.",
        resolution=_AGAIN,
        raw_reason=reason or None,
    )


def end_unrecorded() -> Explanation:
    return Explanation(
        code="end_unrecorded",
        summary="Your notebook has run, and the cluster has not recorded its end yet.",
        resolution="Its files come home as soon as it has; tell your admin when it takes long.",
    )


# --- Ended by the cluster --------------------------------------------------------------------------------------------


def node_lost(reason: str, *, again: bool) -> Explanation:
    return Explanation(
        code="node_lost",
        summary="The node that your notebook ran on failed or was shut down.",
        resolution=_AGAIN if again else _SUBMIT_AGAIN,
        raw_reason=reason or None,
    )


def node_drained(reason: str) -> Explanation:
    return Explanation(
        code="node_drained",
        summary="Your notebook has to leave its node, which is being emptied.",
        resolution=_AGAIN,
        raw_reason=reason or None,
    )


def node_pressure(reason: str, said: str, *, again: bool) -> Explanation:
    return Explanation(
        code="node_pressure",
        summary=say("The node ended your notebook because it ran short of something.", quote(said)),
        resolution=_AGAIN if again else _SUBMIT_AGAIN,
        raw_reason=reason or None,
    )


def outranked(reason: str) -> Explanation:
    return Explanation(
        code="outranked",
        summary="Your notebook has to make room on its node for a pod of higher priority.",
        resolution=_AGAIN,
        raw_reason=reason or None,
    )


def pod_stopped(reason: str = "") -> Explanation:
    return Explanation(
        code="pod_stopped",
        summary="Your notebook's pod was told to end from outside, neither by you here nor by the queue.",
        resolution=_SUBMIT_AGAIN,
        raw_reason=reason or None,
    )


# --- Failed ----------------------------------------------------------------------------------------------------------


def disk_quota(limit: str) -> Explanation:
    return Explanation(
        code="disk_quota",
        summary=f"Your notebook used more disk space than the {limit} that its profile allows.",
        resolution="Write less, delete what is not needed as you go, or submit it with a larger profile.",
        raw_reason="Evicted",
    )


def node_refused(reason: str, said: str) -> Explanation:
    return Explanation(
        code="node_refused",
        summary=say(f"The node refused your notebook ({reason}).", quote(said)),
        resolution=_SUBMIT_AGAIN,
        raw_reason=reason or None,
    )


def python_missing(reason: str, said: str) -> Explanation:
    return Explanation(
        code="python_missing",
        summary=say("The Python that should execute your notebook cannot be started in its image.", quote(said)),
        resolution="Show this to your admin: the job needs the Python that the Jupyter server of the session runs on.",
        raw_reason=reason or None,
    )


def pod_lost(reason: str, said: str) -> Explanation:
    return Explanation(
        code="pod_lost",
        summary=say("Your notebook's pod is gone, and nothing is left that says why it failed.", quote(said)),
        resolution=_SUBMIT_AGAIN,
        raw_reason=reason or None,
    )


def _after_failed_pull(said: str) -> str:
    lower = said.lower()
    if any(mark in lower for mark in ("unauthorized", "denied", "forbidden", "401", "403", "authoriz")):
        return "Show this to your admin: the registry does not let the node in (imagePullSecret)."
    if any(mark in lower for mark in ("not found", "manifest unknown", "404", "invalid", "couldn't parse")):
        return "The image is gone or its name is wrong: cancel it and submit it again, so that it is stored anew."
    return "The registry may be down; it is tried again by itself."
