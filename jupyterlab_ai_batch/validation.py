"""Is this a notebook that can be run as asked? Paths, nbformat, kernelspec, parameters, limits."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import (
    InvalidSubmissionError,
    KernelUnknownError,
    NotebookInvalidError,
    NotebookMissingError,
    ProfileUnknownError,
    QueueUnknownError,
)
from .locating import kernel_of
from .models import Profile, QueueReading, SubmissionRequest
from .parameters import (
    Parameter,
    cell_source,
    find_parameters_cell,
    infer_parameters,
    render_parameters,
    validate_parameters,
)

MAX_NOTEBOOK_BYTES = 256 * 1024**2
MAX_TITLE_CHARS = 200
MAX_DURATION_S = 366 * 24 * 3600
MAX_PRIORITY = 1000
MAX_EXCLUDES = 1000

_DRIVE = re.compile(r"[A-Za-z][\w-]*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookParameters:
    """What a submit form needs to know about a notebook.

    ``resume`` is what its metadata say for Submissions that do not say it themselves.
    """

    kernel_name: str
    language: str
    parameters: tuple[Parameter, ...] = ()
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNotebook:
    """A notebook that can be run: ``api_path`` without a drive, ``path`` absolute; ``tagged`` None without a cell.

    ``resume`` is what its metadata say for Submissions that do not say it themselves.
    """

    api_path: str
    path: Path
    kernel_name: str
    language: str
    tagged: tuple[Parameter, ...] | None = None
    resume: bool = False


def resolve_notebook(root_dir: Path, api_path: str) -> tuple[str, Path]:
    """(clean API path, absolute path) of a path from a browser, which may carry a drive like ``RTC:``.

    Symlinks are followed by whoever opens the file; the path itself may not leave the root directory.

    Raises:
        NotebookMissingError: no such file.
        InvalidSubmissionError: not a path below the root directory.
    """
    clean = _inside(api_path)
    path = root_dir / clean
    if not path.exists() and (drive := _DRIVE.match(clean)) is not None:
        clean = _inside(clean[drive.end() :])
        path = root_dir / clean
    if not path.is_file():
        raise NotebookMissingError(
            f"There is no notebook '{clean}'.",
            hint="It may have been renamed or moved: save it and submit again.",
            details={"notebook_path": clean},
        )
    return clean, path


def _inside(api_path: str) -> str:
    clean = os.path.normpath(api_path.strip("/")) if api_path.strip("/") else ""
    if not clean or clean == "." or not _is_text(clean) or ".." in PurePosixPath(clean).parts:
        raise InvalidSubmissionError(
            "This is not a path below the server's root directory.", details={"field": "notebook_path"}
        )
    return clean


def _is_text(path: str) -> bool:
    """Whether it can travel as JSON and name a file."""
    try:
        return b"\x00" not in path.encode()
    except UnicodeEncodeError:
        return False


def check_notebook(root_dir: Path, api_path: str) -> CheckedNotebook:
    """Read and check a notebook; takes as long as reading the file.

    Raises:
        NotebookMissingError, NotebookInvalidError, KernelUnknownError, InvalidSubmissionError
    """
    clean, path = resolve_notebook(root_dir, api_path)
    notebook = _read_notebook(clean, path)
    kernel_name, language = _check_kernel(notebook)
    cell = find_parameters_cell(notebook)
    tagged = infer_parameters(cell.source, language) if cell is not None else None
    return CheckedNotebook(
        api_path=clean,
        path=path,
        kernel_name=kernel_name,
        language=language,
        tagged=tagged,
        resume=_wants_resume(clean, notebook),
    )


def _wants_resume(name: str, notebook: Mapping[str, Any]) -> bool:
    metadata = notebook.get("metadata")
    own = metadata.get("ai_batch", {}) if isinstance(metadata, dict) else {}
    said = own.get("resume", False) if isinstance(own, dict) else None
    if not isinstance(said, bool):
        raise NotebookInvalidError(
            f"The metadata of '{name}' do not say clearly whether its batch jobs resume.",
            hint='Write {"ai_batch": {"resume": true}} there, or take "ai_batch" out.',
            details={"notebook_path": name, "field": "ai_batch.resume"},
        )
    return said


def _read_notebook(name: str, path: Path) -> Mapping[str, Any]:
    notebook = _parse_notebook(name, path)
    version = notebook.get("nbformat")
    if not isinstance(version, int) or version < 1:
        raise NotebookInvalidError(f"'{name}' is JSON, but not a notebook.", details={"notebook_path": name})
    newest = _current_nbformat()
    if version > newest:
        raise NotebookInvalidError(
            f"'{name}' is of notebook format {version}; up to {newest} can be run here.",
            hint="Upgrade nbformat, or save it in the older format.",
            details={"notebook_path": name, "nbformat": version},
        )
    if not any(source.strip() for source in _code_sources(notebook)):
        raise NotebookInvalidError(
            f"'{name}' has no code to run.",
            hint="Add a code cell, save, submit again.",
            details={"notebook_path": name},
        )
    return notebook


def _parse_notebook(name: str, path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_NOTEBOOK_BYTES + 1)
    except OSError as exc:
        raise NotebookInvalidError(
            f"'{name}' cannot be read: {exc.strerror}.", hint="Check its permissions.", details={"notebook_path": name}
        ) from exc
    if len(content) > MAX_NOTEBOOK_BYTES:
        raise NotebookInvalidError(
            f"'{name}' is larger than {MAX_NOTEBOOK_BYTES >> 20} MiB.", hint="Clear its outputs."
        )
    if not content.strip():
        raise NotebookInvalidError(f"'{name}' is empty.", hint="Save it, then submit again.")
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError):
        notebook = None
    if not isinstance(notebook, dict):
        raise NotebookInvalidError(
            f"'{name}' is not a notebook: it is not JSON.",
            hint="Open it and save it again.",
            details={"notebook_path": name},
        )
    return notebook


def _code_sources(notebook: Mapping[str, Any]) -> list[str]:
    sheets = notebook.get("worksheets")  # nbformat 3 and older
    holders = [notebook, *(sheets if isinstance(sheets, list) else ())]
    cells = [cell for holder in holders if isinstance(holder, dict) for cell in _as_list(holder.get("cells"))]
    code = [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    return [cell_source(cell) or cell_source({"source": cell.get("input", "")}) for cell in code]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _current_nbformat() -> int:
    import nbformat

    return int(nbformat.current_nbformat)


def _check_kernel(notebook: Mapping[str, Any]) -> tuple[str, str]:
    """(kernelspec name, language); a notebook that names none gets the default."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    name = kernel_of(notebook)
    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel as exc:
        installed = sorted(manager.find_kernel_specs())
        raise KernelUnknownError(
            f"The notebook wants the kernel '{name[:80]}', which is not installed here.",
            hint=f"Choose another kernel in the notebook and save it. Installed: {', '.join(installed) or 'none'}.",
            details={"kernel_name": name, "installed": installed},
        ) from exc
    return name, str(spec.language or "python")


def check_request(
    request: SubmissionRequest,
    notebook: CheckedNotebook,
    *,
    profiles: Sequence[Profile],
    queues: Sequence[QueueReading],
    backend: str,
) -> SubmissionRequest:
    """The request with every default filled in.

    Raises:
        ParametersInvalidError, ProfileUnknownError, QueueUnknownError, InvalidSubmissionError
    """
    parameters = validate_parameters(request.parameters, notebook.tagged)
    if parameters:
        render_parameters(parameters, notebook.language)
    _check_limits(request)
    profile = _choose_profile(request.profile, profiles)
    if request.target not in (None, backend):
        raise InvalidSubmissionError(
            f"There is no target '{str(request.target)[:80]}' here.",
            hint=f"Leave it out, or choose: {backend}.",
            details={"field": "target", "known": [backend]},
        )
    return SubmissionRequest(
        notebook_path=notebook.api_path,
        profile=profile.name,
        queue=_choose_queue(request.queue, queues),
        parameters=parameters,
        title=(request.title or "").strip() or PurePosixPath(notebook.api_path).stem,
        max_duration_s=request.max_duration_s or profile.default_max_duration_s,
        target=request.target or backend,
        priority=request.priority,
        capture_from=request.capture_from,
        replace_notebook=request.replace_notebook,
        exclude=request.exclude,
        resume=notebook.resume if request.resume is None else request.resume,
    )


def _check_limits(request: SubmissionRequest) -> None:
    duration = request.max_duration_s
    title = request.title or ""
    problems = (
        (
            "title",
            len(title) > MAX_TITLE_CHARS or not title.isprintable(),
            f"one line, up to {MAX_TITLE_CHARS} characters",
        ),
        ("max_duration_s", duration is not None and not 0 < duration <= MAX_DURATION_S, "1 s to 366 days"),
        ("priority", abs(request.priority) > MAX_PRIORITY, f"-{MAX_PRIORITY} to {MAX_PRIORITY}"),
        ("exclude", len(request.exclude) > MAX_EXCLUDES or any("\n" in p for p in request.exclude), "up to 1000 lines"),
    )
    for name, wrong, allowed in problems:
        if wrong:
            raise InvalidSubmissionError(f"'{name}' is out of range: {allowed}.", details={"field": name})


def _choose_profile(name: str | None, profiles: Sequence[Profile]) -> Profile:
    known = {profile.name: profile for profile in profiles}
    if name is None and known:
        return next(iter(known.values()))
    if name is None or name not in known:
        raise ProfileUnknownError(
            f"There is no profile '{(name or '')[:80]}'.",
            hint=f"Choose one of: {', '.join(known) or 'none is defined; ask your admin'}.",
            details={"profile": name, "known": list(known)},
        )
    return known[name]


def _choose_queue(name: str | None, queues: Sequence[QueueReading]) -> str:
    known = [queue.name for queue in queues]
    if name is None and known:
        return known[0]
    if name is None or name not in known:
        raise QueueUnknownError(
            f"There is no queue '{(name or '')[:80]}'.",
            hint=f"Choose one of: {', '.join(known) or 'none; ask your admin'}.",
            details={"queue": name, "known": known},
        )
    return name
