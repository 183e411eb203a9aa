"""How a Submission and an error look in a notebook: text first, the theme's colours, everything escaped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from ..errors import BatchError
from ..models import Submission

_BLOCK = (
    "font-family: var(--jp-ui-font-family, sans-serif); font-size: var(--jp-ui-font-size1, 13px); "
    "color: var(--jp-ui-font-color1, inherit); border-left: 3px solid var(--jp-border-color1, currentColor); "
    "padding: 2px 0 2px 10px; line-height: 1.5"
)
_MUTED = "color: var(--jp-ui-font-color2, inherit)"


@contextmanager
def plainly_raised() -> Iterator[None]:
    """Let errors of ours end a cell with ``code: message`` and a hint, in place of a traceback."""
    try:
        yield
    except BatchError as error:
        lines = [f"{error.code}: {error.message}", *([error.hint] if error.hint else [])]
        # IPython asks the exception itself how to be shown.
        error.__dict__["_render_traceback_"] = lambda: lines
        raise


def describe(submission: Submission, notices: tuple[str, ...]) -> list[str]:
    """What there is to say about a Submission, one sentence or fact a line, without its title and state."""
    explanation = submission.explanation
    said = [explanation.summary, explanation.resolution] if explanation else []
    facts = [fact for fact in _facts(submission) if not any(fact.rstrip(".") in text for text in said)]
    return [line for line in (*said, *facts, *notices) if line]


def _facts(submission: Submission) -> Iterator[str]:
    position, progress = submission.position, submission.progress
    if position:
        ahead = position.in_local_queue
        yield "Next in the queue." if ahead == 0 else f"{ahead} ahead in the queue."
    if progress and progress.of:
        yield f"Cell {progress.cell} of {progress.of}."
    if len(submission.attempts) > 1:
        yield f"Attempt {submission.attempts[-1].number}."
    if submission.executed_notebook:
        yield submission.executed_notebook
    if submission.stale:
        yield f"Last heard of at {submission.observed_at:%Y-%m-%d %H:%M:%S} UTC."


def as_text(submission: Submission, notices: tuple[str, ...] = ()) -> str:
    """Plain text, several lines."""
    head = f"{submission.title} · {submission.state.value} · {submission.short_id}"
    return "\n".join([head, *(f"  {line}" for line in describe(submission, notices))])


def as_html(submission: Submission, notices: tuple[str, ...] = ()) -> str:
    """The same as HTML, without a script or a link."""
    lines = "".join(f'<div style="{_MUTED}">{escape(line)}</div>' for line in describe(submission, notices))
    return (
        f'<div style="{_BLOCK}"><div><strong>{escape(submission.title)}</strong> · {escape(submission.state.value)} · '
        f"<code>{escape(submission.short_id)}</code></div>{lines}</div>"
    )
