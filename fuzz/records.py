"""Fuzz the parsers of what stores give: manifest and config, the work tree's index, the environment's list.

The first byte chooses the parser, and whether a list is compressed as it should be; a manifest and its config are good
ones with parts replaced. Every error is one of ours.
"""

from __future__ import annotations

import gzip
import json
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

from seeds import image, write_records

from jupyterlab_ai_batch.errors import SnapshotCorruptError

CONTENT = "ai-batch.snapshot"
ODD = [None, True, -1, 1.5, 1 << 70, float("nan"), "", "/", "sha256:", "sha256:" + "0" * 64, [], {}, [[]], "\udc80"]
IMAGE, WORK, ENVIRONMENT, RAW_WORK, RAW_ENVIRONMENT = range(5)


def edited_image(choices: bytes) -> tuple[bytes, bytes]:
    """A good manifest and config with parts replaced; the label in the config is JSON in JSON."""
    provider = atheris.FuzzedDataProvider(choices)
    described = [json.loads(content) for content in image()]
    label = described[1]["config"]["Labels"]
    label[CONTENT] = json.loads(label[CONTENT])
    for _ in range(provider.ConsumeIntInRange(0, 3)):
        _replace_part(described, provider)
    with suppress(KeyError, TypeError, IndexError):
        label = described[1]["config"]["Labels"]
        label[CONTENT] = json.dumps(label[CONTENT])
    manifest, config = (json.dumps(part).encode() for part in (*described, None, None)[:2])
    return manifest, config


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
    kind, content = (data[0] % 5, data[1:]) if data else (IMAGE, b"")
    packed = gzip.compress(content, compresslevel=1) if kind in (WORK, ENVIRONMENT) else content
    try:
        if kind == IMAGE:
            manifest, config = edited_image(content)
            parse_config_digest(manifest)
            parse_image(manifest, config)
        elif kind in (WORK, RAW_WORK):
            for entry in read_work_index(packed):
                assert entry.path not in ("", "..")
                assert not entry.path.startswith("/")
        else:
            for found in read_environment_index(packed):
                assert ".." not in found.path.split("/")
                assert not found.path.startswith("/")
    except SnapshotCorruptError:
        pass


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        write_records(Path(corpus))
        atheris.Setup([*sys.argv, corpus], fuzz_records)
        atheris.Fuzz()
