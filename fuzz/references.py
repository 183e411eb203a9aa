"""Fuzz the parser of image names: refused as invalid, or written back as the same name."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jupyterlab_ai_batch.oci.reference"]):
    from jupyterlab_ai_batch.oci.reference import parse_reference

from jupyterlab_ai_batch.errors import InvalidSubmissionError

NAMES = (
    "python:3.12",
    "localhost:5000/a__b/c-d.e",
    "[::1]:5000/a",
    "registry.example.org/team/image:v1.0@sha256:" + "0" * 64,
)


def fuzz_references(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        reference = parse_reference(text)
    except InvalidSubmissionError:
        return
    assert parse_reference(str(reference)) == reference
    assert not set(str(reference)) & set(" \n\\?#%"), text


if __name__ == "__main__":
    atheris.enabled_hooks.add("RegEx")
    with tempfile.TemporaryDirectory() as corpus:
        for number, name in enumerate(NAMES):
            (Path(corpus) / str(number)).write_text(name)
        atheris.Setup([*sys.argv, corpus, "-max_len=300"], fuzz_references)
        atheris.Fuzz()
