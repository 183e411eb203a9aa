"""Which environment layer a file belongs to, so that equal packages are equal layers wherever they are installed.

A layer per large distribution and a few buckets for the small ones hold what came out of packages; a package's layer
depends on nothing but the package, so different environments share it. What is made at installation or later is kept
apart, because it differs between installations of the same packages:

    compiled-N  bytecode: there or not, depending on the installer and on what has been imported since
    local       who installed what and how (RECORD, INSTALLER, REQUESTED, direct_url.json, conda-meta), scripts that
                installers write, pyvenv.cfg, and other small files of no package
    rest-other  small packages in prefixes other than the heaviest (a user's own site-packages), large files of no
                package
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OWN_LAYER_BYTES = 15 * 1000**2
MAX_OWN_LAYERS = 20
BUCKETS = 4
DIRECTORIES = "directories"
SOURCES = "sources"
LOCAL = "local"
OTHER = "rest-other"

_DIST_INFO = ".dist-info"
_RECORD = f"{_DIST_INFO}/RECORD"
_WRITTEN_BY_INSTALLERS = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "installed-files.txt"}
)
_CONDA_META = "/conda-meta"
_SMALL_BYTES = 64 * 1024
_SITE = re.compile(r"(.*/(?:site|dist)-packages)/([^/]+)")
_STANDARD_LIBRARY = re.compile(r"(?:.*/)?lib(?:64)?/python\d+\.\d+t?/(?!(?:site|dist)-packages/)")
_PYTHON = "python"


def assign_groups(
    sizes: Mapping[str, int], *, sources: Sequence[str], prefixes: Sequence[str], read: Callable[[str], bytes]
) -> dict[str, str]:
    """The layer name of every file and symlink.

    Args:
        sizes: Bytes by path; paths are absolute without their leading ``/``.
        sources: Source directories of editable installs; they share one layer.
        prefixes: The other directories, which may lie inside a source directory.
        read: Gives the content of one of the paths; empty when it cannot.
    """
    packages = _read_packages(sizes, read)
    places = _Places.of(sizes, sources, prefixes)
    owners = {path: packages.owner(path, size) for path, size in sizes.items()}
    weight: Counter[tuple[str, str]] = Counter()
    homes: dict[str, str] = {}
    for path, size in sizes.items():
        owner, home = owners[path], places.home(path)
        homes[path] = home
        if owner not in (None, LOCAL) and home != SOURCES and not is_compiled(path):
            weight[str(owner), home] += size
    heavy = [(bytes_, key) for key, bytes_ in weight.items() if bytes_ >= OWN_LAYER_BYTES]
    own = {key for _, key in sorted(heavy, reverse=True)[:MAX_OWN_LAYERS]}
    return {path: _group(path, owners[path], homes[path], is_own=(owners[path], homes[path]) in own) for path in sizes}


def is_compiled(path: str) -> bool:
    return path.endswith(".pyc") and "/__pycache__/" in path


def source_of(pyc: str) -> str:
    """The .py that ``__pycache__/name.tag.pyc`` was compiled from; the path itself when it is no such name."""
    directory, _, name = pyc.rpartition("/")
    parent, _, cache = directory.rpartition("/")
    return f"{parent}/{name.partition('.')[0]}.py" if cache == "__pycache__" else pyc


def _group(path: str, owner: str | None, home: str, *, is_own: bool) -> str:
    if home == SOURCES:
        return SOURCES
    if owner == LOCAL:
        return LOCAL
    if is_own and not is_compiled(path):
        return f"{owner} ({home})" if home else str(owner)
    if owner is None or home:
        return OTHER
    return f"{'compiled' if is_compiled(path) else 'rest'}-{_bucket(owner)}"


def _bucket(owner: str) -> int:
    return zlib.crc32(owner.encode(errors="surrogateescape")) % BUCKETS


@dataclass(frozen=True, slots=True)
class _Places:
    """Whose directory a path lies in: a source's, or a prefix's, of which the heaviest is the main one."""

    outer: tuple[str, ...]
    inner: tuple[str, ...]
    main: str
    starts: tuple[str, ...]

    @classmethod
    def of(cls, sizes: Mapping[str, int], sources: Sequence[str], prefixes: Sequence[str]) -> _Places:
        outer = _starts(sources)
        starts = tuple(sorted(_starts(prefixes), key=len, reverse=True))
        weight: Counter[str] = Counter()
        if len(starts) > 1:
            for path, size in sizes.items():
                weight[_start_of(path, starts)] += size
        main = max(starts, key=lambda start: (weight[start], start), default="")
        return cls(outer, tuple(start for start in starts if start.startswith(outer)), main, starts)

    def home(self, path: str) -> str:
        """SOURCES, empty for the main prefix, else the prefix."""
        if path.startswith(self.outer) and not path.startswith(self.inner):
            return SOURCES
        if len(self.starts) == 1:
            return ""
        start = _start_of(path, self.starts)
        return "" if start == self.main else f"/{start}".rstrip("/")


def _starts(directories: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{directory.lstrip('/')}/" for directory in directories)


def _start_of(path: str, starts: Iterable[str]) -> str:
    return next((start for start in starts if path.startswith(start)), "")


@dataclass(slots=True)
class _Packages:
    """What the packages' own records say.

    Attributes:
        owners: Package by path.
        written: Paths that an installer made, and no package has.
        tops: What packages with a record have directly in a site directory.
    """

    owners: dict[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    tops: set[str] = field(default_factory=set)

    def owner(self, path: str, size: int) -> str | None:
        """The package's name, LOCAL for what is made here, None for large files of no package."""
        if path in self.written:
            return LOCAL
        if is_compiled(path):
            path = source_of(path)
        owner = self.owners.get(path) or self._owner_without_record(path)
        return LOCAL if owner is None and size < _SMALL_BYTES else owner

    def _owner_without_record(self, path: str) -> str | None:
        """The standard library; in a site directory the top-level name, unless a record claims that name."""
        site = _SITE.match(path)
        if site is None:
            return _PYTHON if _STANDARD_LIBRARY.match(path) else None
        if site[0] in self.tops or site[2].startswith("~"):  # pip renames to ~ame what it is about to remove
            return None
        return re.split(r"[-.]", site[2])[0].lower() or None

    def add_distribution(self, record: str, content: bytes, sizes: Mapping[str, int]) -> None:
        directory = posixpath.dirname(record)
        site, folder = posixpath.split(directory)
        name = folder.removesuffix(_DIST_INFO).partition("-")[0].lower()
        self.written.update(f"{directory}/{file}" for file in _WRITTEN_BY_INSTALLERS)
        for file in _parse_record(content):
            path = f"{site}/{file}" if "./" not in file else posixpath.normpath(f"{site}/{file}")
            self.owners.setdefault(path, name)
            if path.startswith(f"{site}/"):
                self.tops.add(f"{site}/{path[len(site) + 1 :].partition('/')[0]}")
            elif posixpath.basename(posixpath.dirname(path)) == "bin" and sizes.get(path, 0) < _SMALL_BYTES:
                self.written.add(path)

    def add_conda_package(self, record: str, content: bytes) -> None:
        prefix = posixpath.dirname(posixpath.dirname(record))
        name, files, written = _parse_conda(content)
        self.owners.update((f"{prefix}/{file}", name) for file in files)
        self.written.update(f"{prefix}/{file}" for file in written)


def _read_packages(sizes: Mapping[str, int], read: Callable[[str], bytes]) -> _Packages:
    packages = _Packages()
    conda = sorted(path for path in sizes if _CONDA_META in path and path.rpartition("/")[0].endswith(_CONDA_META))
    packages.written.update(conda)
    for path in conda:
        if path.endswith(".json"):
            packages.add_conda_package(path, read(path))
    for path in sorted(path for path in sizes if path.endswith(_RECORD)):  # conda's packages own these files first
        packages.add_distribution(path, read(path), sizes)
    return packages


def _parse_record(content: bytes) -> list[str]:
    rows = csv.reader(io.StringIO(content.decode(errors="surrogateescape")))
    try:
        return [row[0] for row in rows if row]
    except csv.Error:
        return []


def _parse_conda(content: bytes) -> tuple[str, list[str], list[str]]:
    """(package, its files, those of them that the installation made)"""
    try:
        package = json.loads(content)
        files = [file for file in package["files"] if isinstance(file, str)]
        paths = package.get("paths_data", {}).get("paths", ())
        written = [str(path["_path"]) for path in paths if path.get("path_type") == "unix_python_entry_point"]
        return str(package["name"]).lower(), files, written
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", [], []
