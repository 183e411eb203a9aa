"""``jupyter ai-batch``: everything that the sidebar does, without a server.

``main`` also answers to the hidden commands ``carry``, ``plan`` and ``worker``: processes that the service starts.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from .errors import BatchError, InvalidSubmissionError
from .words import CaptureFrom, SubmissionState

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
MAX_PAGE = 1000

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?\Z")
_HIDDEN = ("carry", "plan", "worker")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _HIDDEN:
        return _run_hidden(arguments)
    parser = build_parser()
    options = parser.parse_args(arguments)
    if getattr(options, "base", None) and not options.reference:
        parser.error("--base goes with --to")
    try:
        return _run_snapshot_to(options) if getattr(options, "reference", None) else _run_command(options)
    except BatchError as exc:
        return report_error(exc)
    except KeyboardInterrupt:
        hint = getattr(options, "come_back", None)
        sys.stderr.write(f"\n{hint}\n" if hint else "\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _run_command(options: argparse.Namespace) -> int:
    import asyncio
    import logging

    from . import commands

    gc.enable()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    command: Callable[[argparse.Namespace], Coroutine[Any, Any, int]] = getattr(commands, f"run_{options.command}")
    return asyncio.run(command(options))


def _run_snapshot_to(options: argparse.Namespace) -> int:
    from .pushing import run_snapshot_to  # without the service and all that it needs: this is to be done in a blink

    return run_snapshot_to(options, environ=os.environ)


def report_error(error: BatchError) -> int:
    """Say what is wrong and what to do, on stderr."""
    sys.stderr.write(f"{error.code}: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    return EXIT_FAILED


# --- the command line ---------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """Every command and option that users see."""
    parser = argparse.ArgumentParser(
        prog="jupyter ai-batch", description="Run notebooks as batch jobs and bring their files home."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_submit(commands)
    _add_list(commands)
    _add_show(commands)
    _add_logs(commands)
    _add(commands, "cancel", "end a Submission; what it has produced is kept", with_id=True)
    _add_outputs(commands)
    resubmit = _add(commands, "resubmit", "submit the same again, with the files of now", with_id=True)
    _add_waiting(resubmit)
    _add(commands, "export", "a Submission to a cluster as YAML that kubectl apply takes", with_id=True)
    _add(commands, "queues", "the queues that you may use, and how busy they are")
    profiles = _add(commands, "profiles", "the resource shapes that you may ask for")
    profiles.add_argument("--notebook", metavar="PATH", help="say how they fit what this notebook has used")
    _add_snapshot(commands)
    _add(commands, "doctor", "check that a notebook can be captured and run here")
    return parser


def _add(commands: Any, name: str, purpose: str, *, with_id: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, description=f"{purpose[:1].upper()}{purpose[1:]}."
    )
    if with_id:
        parser.add_argument("id", metavar="ID", help="id of the Submission, or its first 4 or more characters")
    parser.add_argument("--json", action="store_true", help="print one JSON value on standard output, nothing else")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where batch jobs are kept (default: as configured)"
    )
    return parser


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="wait until it has ended; exit status 0 only if it succeeded"
    )


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capture-from",
        choices=[item.value for item in CaptureFrom],
        default=CaptureFrom.AUTO.value,
        help="take files from the root directory, the notebook's folder, or the first that fits (auto, default)",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out what matches (gitignore syntax)"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="root directory (default: the current one if the notebook is below it, else the notebook's folder)",
    )


def _add_submit(commands: Any) -> None:
    parser = _add(commands, "submit", "capture a notebook with its files and environment, and run it as a batch job")
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path, help="path of the notebook")
    parser.add_argument("--profile", metavar="NAME", help="resource shape (default: the first of 'profiles')")
    parser.add_argument("--queue", metavar="NAME", help="queue (default: the first of 'queues')")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="value for the cell tagged 'parameters'"
    )
    parser.add_argument("--title", metavar="TEXT", help="what it is called in lists (default: the notebook's name)")
    parser.add_argument(
        "--max-duration",
        type=parse_duration,
        metavar="TIME",
        help="limit of each run: 90s, 30m, 2h, 1d (default: profile's)",
    )
    parser.add_argument("--target", metavar="NAME", help="where it runs (default: the backend's only one)")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="higher runs first (default: 0)")
    parser.add_argument(
        "--replace-notebook", action="store_true", help="install the executed notebook over the original if untouched"
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="after an interruption, begin with the files saved last (default: as the notebook's metadata say)",
    )
    _add_capture(parser)
    _add_waiting(parser)


def _add_list(commands: Any) -> None:
    parser = _add(commands, "list", "your Submissions, newest first")
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        choices=[s.value for s in SubmissionState],
        help="only these (repeatable)",
    )
    parser.add_argument(
        "--notebook", metavar="PATH", help="only of this notebook, by its path below the root directory"
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help=f"how many, up to {MAX_PAGE} (default: 20)")
    parser.add_argument("--cursor", metavar="TEXT", help="continue where a page ended (its next_cursor)")
    parser.add_argument("--watch", action="store_true", help="print again at every change, until Ctrl-C")


def _add_show(commands: Any) -> None:
    _add(commands, "show", "everything that is known about a Submission", with_id=True)


def _add_logs(commands: Any) -> None:
    parser = _add(commands, "logs", "what a run has printed", with_id=True)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    parser.add_argument("--attempt", type=int, metavar="N", help="which run of it (default: the latest)")


def _add_outputs(commands: Any) -> None:
    parser = _add(commands, "outputs", "bring the files of a run home; nothing of yours is overwritten", with_id=True)
    parser.add_argument("--to", type=Path, metavar="DIR", help="copy them into DIR instead, also while it still runs")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
    parser.add_argument(
        "--replace-notebook", action="store_true", help="install the executed notebook over the original"
    )


def _add_snapshot(commands: Any) -> None:
    parser = _add(commands, "snapshot", "capture a notebook's files and environment without running it")
    parser.add_argument(
        "path", metavar="PATH", nargs="?", type=Path, default=Path(), help="notebook, or a folder with one (default: .)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dry-run", action="store_true", help="say what would be captured and left out, write nothing")
    where.add_argument(
        "--to",
        dest="reference",
        metavar="REFERENCE",
        help="write it as one image: REGISTRY/REPOSITORY[:TAG], or the directory of an OCI layout (/… or ./…)",
    )
    parser.add_argument(
        "--base",
        metavar="REFERENCE",
        help="with --to: the image to put it on, named alike; only what differs from it is captured",
    )
    parser.add_argument(
        "--mount-from",
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="with --to: a repository of the same registry that may have some layers already, like your group's; may be"
        " repeated",
    )
    _add_capture(parser)


def parse_duration(text: str) -> int:
    """Seconds of ``90``, ``90s``, ``30m``, ``2h``, ``1d12h``."""
    text = text.strip().lower()
    match = _DURATION.match(f"{text}s" if text.isdecimal() else text)
    if match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time like 90s, 30m, 2h or 1d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """``name=value`` words, each name once.

    Raises:
        InvalidSubmissionError: not of that form.
    """
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, _) in zip(words, pairs, strict=True):
        if not equals or not name.strip():
            raise InvalidSubmissionError(f"'{word[:80]}' is not NAME=VALUE.", hint="For example: --param epochs=20")
    return {name.strip(): value for name, _, value in pairs}


class _Version(argparse.Action):
    """As argparse's own, but the version is looked up only for those who ask."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from . import __version__

        sys.stdout.write(f"{__version__}\n")
        parser.exit()


# --- what the service starts --------------------------------------------------------------------------------------


def _run_hidden(arguments: Sequence[str]) -> int:
    import logging

    options = _hidden_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    from . import compose

    try:
        if options.command == "carry":
            os.nice(5)
            queued = compose.run_carry(options.data_dir, options.id, options.lock_fd, environ=os.environ)
            return EXIT_OK if queued else EXIT_FAILED
        gc.enable()
        if options.command == "worker":
            return compose.run_worker(options.data_dir)
        from .planning import answer_plan

        sys.stdout.write(answer_plan(sys.stdin.buffer.read(), partial(compose.plan_order, environ=os.environ)))
    except BatchError as exc:
        return report_error(exc)
    return EXIT_OK


def _hidden_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jupyter ai-batch")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _HIDDEN:
        command = commands.add_parser(name)
        command.add_argument("--data-dir", type=Path, required=True)
        if name == "carry":
            command.add_argument("id")
            command.add_argument("--lock-fd", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
