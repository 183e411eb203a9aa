"""The kernel's environment, as its own interpreter describes it.

The kernel's interpreter may lack this package, so the questions are sent to it as source text.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..capture_models import EnvironmentDescription
from ..errors import KernelUnknownError

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 1 << 20

_QUESTIONS = r"""
import json, os, site, sys, sysconfig
seen = []
def editables(directory):
    found = []
    seen.append(directory)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return found
    for name in names:
        path = os.path.join(directory, name)
        try:
            if name.endswith(".dist-info"):
                origin = os.path.join(path, "direct_url.json")
                with open(origin, encoding="utf-8") as stream:
                    direct = json.load(stream)
                seen.append(origin)
                url = direct.get("url", "")
                if direct.get("dir_info", {}).get("editable") and url.startswith("file://"):
                    from urllib.parse import unquote
                    found.append(unquote(url[7:]))
            elif name.endswith((".pth", ".egg-link")):
                seen.append(path)
                with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                    lines = [line.strip() for line in stream]
                found += [line for line in lines if os.path.isabs(line) and os.path.isdir(line)]
                seen.extend(line for line in lines if os.path.isabs(line) and not os.path.isdir(line))
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return found
sites = [os.path.abspath(path) for path in site.getsitepackages()]
user = site.getusersitepackages() if site.ENABLE_USER_SITE else None
places = sites + ([user] if user else [])
print("\n" + json.dumps({
    "executable": sys.executable, "prefix": sys.prefix, "base_prefix": sys.base_prefix, "sites": sites,
    "user_site": user, "stdlib": sysconfig.get_path("stdlib"), "version": "%d.%d.%d" % sys.version_info[:3],
    "editable": [source for place in places for source in editables(place)],
    "seen": seen + [os.path.join(sys.prefix, "pyvenv.cfg")],
}))
"""


def describe_environment(kernel_name: str, *, kernel_dirs: Sequence[str] | None = None) -> EnvironmentDescription:
    """Ask the kernel's interpreter where its packages are. Nothing is cached.

    Args:
        kernel_dirs: Where kernelspecs are looked for; None takes Jupyter's own places.

    Raises:
        KernelUnknownError: no such kernelspec, or its interpreter cannot be started.
    """
    return ask_environment(kernel_name, kernel_dirs=kernel_dirs)[0]


def ask_environment(
    kernel_name: str, *, kernel_dirs: Sequence[str] | None = None
) -> tuple[EnvironmentDescription, tuple[str, ...]]:
    """As ``describe_environment``, and the files and directories that the answer was made from.

    While none of these changes, appears or goes, and the environment variables stay the same, so does the answer.
    """
    manager = _spec_manager(kernel_dirs)
    spec = _find_spec(manager, kernel_name)
    description, seen = _describe(kernel_name, spec)
    kernel_file = os.path.join(spec.resource_dir, "kernel.json")
    return description, (*manager.kernel_dirs, spec.resource_dir, kernel_file, *seen)


def _describe(kernel_name: str, spec: KernelSpec) -> tuple[EnvironmentDescription, Sequence[str]]:
    resources = Path(spec.resource_dir).absolute()
    executable = _resolve_executable(spec)
    if executable is None:
        raise KernelUnknownError(
            f"The program of the kernel {kernel_name!r} is not installed.",
            hint="Choose another kernel for the notebook, or repair its kernelspec.",
            details={"kernel_name": kernel_name},
        )
    if not _is_python(spec):
        program = EnvironmentDescription(kernel_name=kernel_name, executable=None, prefix=None, prefixes=(resources,))
        return program, (executable,)
    answer = _ask(executable, spec)
    if answer is None:
        raise KernelUnknownError(
            f"The Python of the kernel {kernel_name!r} cannot be started.",
            hint=f"Check that {executable} runs, or choose another kernel for the notebook.",
            details={"kernel_name": kernel_name, "executable": executable},
        )
    linked = [Path(path) for path in answer["editable"]]
    others = [path for path in linked if _is_site(path)]
    sources = [path for path in linked if not _is_site(path)]
    prefixes = _outermost([*_prefix_parts(answer), *_user_site(answer), *others, resources])
    description = EnvironmentDescription(
        kernel_name=kernel_name,
        executable=Path(answer["executable"]),
        prefix=Path(answer["prefix"]),
        prefixes=prefixes,
        apart=_apart(Path(answer["prefix"])),
        editable_sources=tuple(source for source in _outermost(sources) if not _is_below_any(source, prefixes)),
        python_version=answer["version"],
    )
    return description, (executable, os.path.realpath(executable), *map(str, prefixes), *answer["seen"])


def _spec_manager(kernel_dirs: Sequence[str] | None) -> KernelSpecManager:
    from jupyter_client.kernelspec import KernelSpecManager  # a tenth of a second

    manager = KernelSpecManager()
    if kernel_dirs is not None:
        manager.kernel_dirs = list(kernel_dirs)
    return manager


def _find_spec(manager: KernelSpecManager, kernel_name: str) -> KernelSpec:
    from jupyter_client.kernelspec import NoSuchKernel

    try:
        return manager.get_kernel_spec(kernel_name)
    except (NoSuchKernel, OSError, ValueError) as exc:
        raise KernelUnknownError(
            f"The notebook's kernel {kernel_name!r} is not installed.",
            hint="Choose another kernel for the notebook, or install this one.",
            details={"kernel_name": kernel_name, "installed": sorted(manager.find_kernel_specs())[:50]},
        ) from exc


def _resolve_executable(spec: KernelSpec) -> str | None:
    """``argv[0]`` as the kernel manager starts it: a bare python name means the server's own interpreter."""
    if not spec.argv:
        return None
    program = spec.argv[0]
    names = {"python", f"python{sys.version_info[0]}", "python" + ".".join(map(str, sys.version_info[:2]))}
    if program in names:
        return sys.executable
    return shutil.which(program.replace("{resource_dir}", spec.resource_dir))


def _is_python(spec: KernelSpec) -> bool:
    """By the program's name: a wrapper script must not be handed Python source."""
    return Path(spec.argv[0]).name.lower().startswith(("python", "pypy"))


def _ask(executable: str, spec: KernelSpec) -> dict[str, Any] | None:
    """The interpreter's answers; None when the program is no Python that answers."""
    if _is_this_one(executable, spec):
        lines: list[str] = []
        exec(_QUESTIONS, {"print": lines.append})  # noqa: S102 - our own text, which starting Python anew would run, too
        return _parse_answer(lines[0].encode("utf-8", "surrogateescape"))
    environment = {**os.environ, **{key: str(value) for key, value in spec.env.items()}}
    for name in ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    try:
        done = subprocess.run(
            [executable, "-B", "-c", _QUESTIONS],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=_TIMEOUT_S,
            check=True,
        )
        return _parse_answer(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _is_this_one(executable: str, spec: KernelSpec) -> bool:
    """Whether starting it would give an interpreter with this one's places."""
    told = any(name.startswith("PYTHON") for name in spec.env)
    return executable == sys.executable and not told and not sys.flags.isolated and not sys.flags.no_user_site


def _parse_answer(stdout: bytes) -> dict[str, Any]:
    answer = json.loads(stdout[-_MAX_ANSWER_BYTES:].strip().rsplit(b"\n", 1)[-1])
    texts = ("executable", "prefix", "base_prefix", "stdlib", "version")
    if not all(isinstance(answer[name], str) and answer[name] for name in texts):
        raise ValueError("not an answer")
    for name in ("sites", "editable", "seen"):
        answer[name] = [text for text in answer[name] if isinstance(text, str) and text.startswith("/")]
    return dict(answer)


def _prefix_parts(answer: Mapping[str, Any]) -> list[Path]:
    """What to capture of the prefix: all of it, but only Python's own parts of one that others share."""
    prefix = Path(answer["prefix"])
    if prefix == Path("/usr"):
        return [path for path in map(Path, answer["sites"]) if path.is_dir()]
    if prefix == Path("/usr/local"):
        parts = [Path(answer["stdlib"]), prefix / "bin", prefix / "share/jupyter", prefix / "etc/jupyter"]
        return [path for path in parts if path.is_dir()]
    return [prefix]


def _apart(prefix: Path) -> tuple[Path, ...]:
    """What lies in the prefix of conda's base environment and is not part of it."""
    if not (prefix / "conda-meta").is_dir():
        return ()
    return tuple(path for path in (prefix / "envs", prefix / "pkgs") if path.is_dir())


def _user_site(answer: Mapping[str, Any]) -> list[Path]:
    user_site = answer["user_site"]
    return [Path(user_site)] if isinstance(user_site, str) and Path(user_site).is_dir() else []


def _is_site(path: Path) -> bool:
    """Another environment's packages, linked by a .pth file: installers replace files there, editors stay away."""
    return path.name in ("site-packages", "dist-packages")


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Without repetitions and without what lies below another; in the order of their names."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not _is_below_any(path, kept):
            kept.append(path)
    return tuple(kept)


def _is_below_any(path: Path, others: Iterable[Path]) -> bool:
    return any(path.is_relative_to(other) for other in others)
