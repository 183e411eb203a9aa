"""Why a Submission waits in the pool, is blocked, or is interrupted, in words for the user. Pure; codes are stable."""

from __future__ import annotations

from datetime import datetime

from ...explain import count_words
from ...models import Explanation, PoolReading, QueuePosition
from ..explanations import clip
from .view import Outlook

MAX_QUOTE_CHARS = 300

_ASK_ADMIN = "Ask your admin; cancel it if you do not want to wait for that."


def quote(text: str) -> str:
    """Somebody else's sentence, cut, with a full stop."""
    cut = clip(text, MAX_QUOTE_CHARS).rstrip(". ")
    return f"{cut}." if cut and not cut.endswith(("…", "!", "?")) else cut


def say(*sentences: str) -> str:
    """Sentences one after the other; empty ones are left out."""
    return " ".join(filter(None, sentences))


def ahead(outlook: Outlook) -> str:
    """Who is before it, by class; empty when that is not known."""
    return say(_before(outlook.position), _sessions(outlook.pool))


def _before(position: QueuePosition | None) -> str:
    if position is None:
        return ""
    if position.in_cluster_queue <= 0:
        return "It is next."
    own = min(max(position.in_local_queue, 0), position.in_cluster_queue)
    others = position.in_cluster_queue - own
    total = count_words(position.in_cluster_queue, "submission")
    if not own:
        return f"{total} of other users {_be(others)} ahead of it."
    if not others:
        return f"{total} of your own {_be(own)} ahead of it."
    return f"{total} are ahead of it: {own} of your own, {others} of other users."


def _sessions(pool: PoolReading | None) -> str:
    if pool is None or not pool.interactive_waiting:
        return ""
    verb = "waits, too, and goes" if pool.interactive_waiting == 1 else "wait, too, and go"
    return f"{count_words(pool.interactive_waiting, 'interactive session')} {verb} first."


def _holders(pool: PoolReading | None) -> str:
    """Who holds a pool that is full."""
    if pool is None or pool.free:
        return ""
    shares = (
        (pool.mine, "by your batch jobs"),
        (pool.others_batch, "by batch jobs of others"),
        (pool.interactive, "by interactive sessions"),
    )
    held = ", ".join(f"{count} {whose}" for count, whose in shares if count)
    return f"Its {count_words(pool.slots, 'slot')} {_be(pool.slots)} in use: {held}."


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


# --- Waiting ---------------------------------------------------------------------------------------------------------


def entering_queue() -> Explanation:
    return Explanation(code="entering_queue", summary="Your notebook is being put into the queue.")


def waiting_in_queue(outlook: Outlook) -> Explanation:
    return Explanation(
        code="waiting_in_queue",
        summary=say("Your notebook waits for its turn in the pool.", _holders(outlook.pool), ahead(outlook)),
    )


def waiting_for_quota(resource: str, outlook: Outlook) -> Explanation:
    free = f"enough {resource}" if resource else "a slot"
    return Explanation(
        code="waiting_for_quota",
        summary=say(
            f"The pool is full: your notebook waits until {free} is free.", _holders(outlook.pool), ahead(outlook)
        ),
    )


def waiting_for_preempted(outlook: Outlook) -> Explanation:
    return Explanation(
        code="waiting_for_preempted",
        summary=say("Your notebook gets its slot as soon as what runs there now has ended.", ahead(outlook)),
    )


def waiting_for_other_starts(outlook: Outlook) -> Explanation:
    return Explanation(
        code="waiting_for_other_starts",
        summary=say("Your notebook waits until those before it have started.", ahead(outlook)),
    )


def waiting_for_placement(said: str, outlook: Outlook) -> Explanation:
    return Explanation(
        code="waiting_for_placement",
        summary=say("The pool has room for your notebook, but not in one place.", quote(said), ahead(outlook)),
    )


def waiting_for_checks(names: str) -> Explanation:
    which = f": {quote(names)}" if names else "."
    return Explanation(
        code="waiting_for_checks",
        summary=f"Your notebook has its slot and waits for the pool's admission checks{which}",
    )


def admission_gated(said: str) -> Explanation:
    return Explanation(
        code="admission_gated",
        summary=say("Your notebook waits until another program of the cluster lets it in.", quote(said)),
    )


def backing_off(clause: str, until: datetime) -> Explanation:
    before = f"was interrupted {clause} and " if clause else ""
    return Explanation(
        code="backing_off",
        summary=f"Your notebook {before}pauses; it enters the queue again at {until:%H:%M:%S} UTC.",
    )


def requeued(times: int, clause: str, waiting: Explanation) -> Explanation:
    """Interrupted before, and waiting again, for the reason that ``waiting`` gives."""
    last = f", last {clause}" if clause and times > 1 else f" {clause}" if clause else ""
    return Explanation(
        code="requeued",
        summary=f"Your notebook was interrupted {_times(times)}{last}. {waiting.summary}",
        resolution=waiting.resolution,
    )


def waiting_unknown(reason: str, said: str, outlook: Outlook) -> Explanation:
    """A reason that this version does not know: shown as it is."""
    why = ": ".join(filter(None, (reason, said)))
    return Explanation(code="waiting_unknown", summary=say("Your notebook waits.", quote(why), ahead(outlook)))


# --- Blocked: it waits for a person ----------------------------------------------------------------------------------


def queue_missing(said: str) -> Explanation:
    return Explanation(
        code="queue_missing",
        summary=say("The queue that your notebook was sent to does not exist.", quote(said)),
        resolution="Cancel it and submit to a queue that exists, or ask your admin for this one.",
    )


def queue_stopped(said: str) -> Explanation:
    return Explanation(
        code="queue_stopped",
        summary=say("Your notebook waits because an admin stopped the queue.", quote(said)),
        resolution=_ASK_ADMIN,
    )


def namespace_refused() -> Explanation:
    return Explanation(
        code="namespace_refused",
        summary="The pool does not take submissions from your namespace.",
        resolution="Ask your admin to let it in (the ClusterQueue's namespaceSelector).",
    )


def exceeds_quota(resource: str, asked: str, most: str) -> Explanation:
    summary = "Your notebook asks for more than the pool has."
    if resource:
        summary = f"Your notebook asks for {asked} of {resource}; the pool has {most} at most."
    return Explanation(code="exceeds_quota", summary=summary, resolution="Cancel it and submit with another profile.")


def no_matching_flavor(resource: str, said: str) -> Explanation:
    summary = say("Nothing in the pool fits your notebook.", quote(said))
    if resource:
        summary = f"The pool does not offer {resource}."
    return Explanation(
        code="no_matching_flavor",
        summary=summary,
        resolution="Cancel it and submit with another profile, or ask your admin to add it to the pool.",
    )


def misconfigured(said: str) -> Explanation:
    return Explanation(
        code="misconfigured",
        summary=say("The pool cannot take your notebook as it is.", quote(said)),
        resolution="Cancel it; show this to your admin.",
    )


def on_hold(said: str) -> Explanation:
    return Explanation(code="on_hold", summary=say("Your notebook is on hold.", quote(said)), resolution=_ASK_ADMIN)


def stopped_by_admin() -> Explanation:
    return Explanation(
        code="stopped_by_admin",
        summary="An admin took your notebook out of the queue.",
        resolution=_ASK_ADMIN,
    )


def not_picked_up(*, queue: str, said: str) -> Explanation:
    where = f"for the queue {queue}" if queue else "because its Job names no queue"
    return Explanation(
        code="not_picked_up",
        summary=say(f"Kueue does not pick up your notebook {where}.", quote(said)),
        resolution="Ask your admin whether Kueue runs and manages your namespace.",
    )


def queue_bypassed() -> Explanation:
    return Explanation(
        code="queue_bypassed",
        summary="Your notebook did not go through the queue: Kueue does not manage its Job.",
        resolution="Tell your admin: it uses the pool without being counted.",
    )


# --- Interrupted -----------------------------------------------------------------------------------------------------


def preempted(clause: str) -> Explanation:
    return Explanation(
        code="preempted",
        summary=f"Your notebook is interrupted {clause}; what it has produced is being saved.",
        resolution="It goes back into the queue and runs again.",
    )


def evicted(clause: str) -> Explanation:
    return Explanation(
        code="evicted",
        summary=f"Your notebook is interrupted {clause}; what it has produced is being saved.",
    )


# --- Ended, as the queue sees it -------------------------------------------------------------------------------------


def never_started() -> Explanation:
    return Explanation(
        code="never_started",
        summary="Your notebook did not start in time again and again: it is not tried any more.",
        resolution="Ask your admin whether the nodes and the registry are well, then submit it again.",
    )


def check_rejected(said: str) -> Explanation:
    return Explanation(
        code="check_rejected",
        summary=say("One of the pool's admission checks refused your notebook.", quote(said)),
        resolution="Ask your admin what the check wants, then submit it again.",
    )


def deleted_elsewhere() -> Explanation:
    return Explanation(
        code="deleted_elsewhere",
        summary="Somebody deleted your notebook's Job in the cluster; it was not cancelled here.",
        resolution="Submit it again; ask your admin when you do not know why.",
    )


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times} times"
