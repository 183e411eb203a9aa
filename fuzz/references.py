"""Fuzz the parser of image names: refused as invalid, or written back as the same name."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["jupyterlab_ai_batch.oci.reference"]):
    from jupyterlab_ai_batch.oci.reference import parse_reference

from jupyterlab_ai_batch.errors import InvalidSubmissionError


def fuzz_references(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        reference = parse_reference(text)
    except InvalidSubmissionError:
        return
    assert parse_reference(str(reference)) == reference
    assert not set(str(reference)) & set(" \n\\?#%"), text


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-max_len=300"], fuzz_references)
    atheris.Fuzz()
