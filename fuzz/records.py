"""Fuzz the parsers of what stores give: manifest and config, the work tree's index, the environment's list.

The first byte chooses the parser, and whether a list is compressed as it should be; a manifest and its config are good
ones with parts replaced. Every error is one of ours.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

with atheris.instrument_imports(include=["jupyterlab_ai_batch"]):
    from jupyterlab_ai_batch.oci.manifest import parse_config_digest, parse_image
    from jupyterlab_ai_batch.oci.work_index import read_work_index
    from jupyterlab_ai_batch.snapshot.environment_index import read_environment_index

from seeds import image, index_lines, write_records

from jupyterlab_ai_batch.errors import SnapshotCorruptError

CONTENT = "ai-batch.snapshot"
ODD = [
    None,
    True,
    -1,
    1.5,
    1 << 70,
    10**40,
    float("inf"),
    float("nan"),
    "",
    "/",
    "sha256:",
    "sha256:" + "0" * 64,
    [],
    {},
    [[]],
    "\udc80",
]
IMAGE, WORK, ENVIRONMENT, PACKED_WORK, PACKED_ENVIRONMENT, EDITED_WORK, EDITED_ENVIRONMENT = range(7)
LINES = index_lines()
SOME_FILE = os.memfd_create("some-file")


def pack(kind: int, content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1) if kind in (WORK, ENVIRONMENT) else content


def check(path: str, size: int, mtime_ns: int = 0) -> None:
    """What the parsers let through can be used."""
    assert not {"", ".", ".."} & set(path.split("/"))
    assert size >= 0
    os.utime(SOME_FILE, ns=(mtime_ns, mtime_ns))


def edited_image(provider: atheris.FuzzedDataProvider) -> tuple[bytes, bytes]:
    """A good manifest and config with parts replaced; the label in the config is JSON in JSON."""
    described = [json.loads(content) for content in image()]
    label = described[1]["config"]["Labels"]
    label[CONTENT] = json.loads(label[CONTENT])
    _replace_parts(described, provider)
    with suppress(KeyError, TypeError, IndexError):
        label = described[1]["config"]["Labels"]
        label[CONTENT] = json.dumps(label[CONTENT])
    manifest, config = (json.dumps(part).encode() for part in (*described, None, None)[:2])
    return manifest, config


def edited_list(line: bytes, provider: atheris.FuzzedDataProvider) -> bytes:
    """Several lines of a list, good ones but for parts."""
    lines = [json.loads(line) for _ in range(3)]
    _replace_parts(lines, provider)
    return gzip.compress("\n".join(map(json.dumps, lines)).encode(), compresslevel=1)


def _replace_parts(tree: Any, provider: atheris.FuzzedDataProvider) -> None:
    for _ in range(provider.ConsumeIntInRange(0, 3)):
        if not tree:
            return
        _replace_part(tree, provider)


def _replace_part(tree: Any, provider: atheris.FuzzedDataProvider) -> None:
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[provider.ConsumeIntInRange(0, len(keys) - 1)]
        below = tree[key]
        if not isinstance(below, dict | list) or not below or provider.ConsumeIntInRange(0, 3) == 0:
            text = provider.ConsumeUnicode(12)
            tree[key] = deepcopy(provider.PickValueInList([*ODD, text, [text], {text: text}]))
            return
        tree = below


def fuzz_records(data: bytes) -> None:
    kind, content = (data[0] % 7, data[1:]) if data else (IMAGE, b"")
    provider = atheris.FuzzedDataProvider(content)
    work, environment = LINES
    try:
        if kind == IMAGE:
            manifest, config = edited_image(provider)
            parse_config_digest(manifest)
            parse_image(manifest, config)
        elif kind in (WORK, PACKED_WORK, EDITED_WORK):
            for entry in read_work_index(edited_list(work, provider) if kind == EDITED_WORK else pack(kind, content)):
                check(entry.path, entry.size, entry.mtime_ns)
        else:
            listed = edited_list(environment, provider) if kind == EDITED_ENVIRONMENT else pack(kind, content)
            for found in read_environment_index(listed):
                check(found.path, found.size)
    except SnapshotCorruptError:
        pass


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        write_records(Path(corpus))
        atheris.Setup([*sys.argv, corpus], fuzz_records)
        atheris.Fuzz()
