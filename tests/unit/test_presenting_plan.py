from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.capture_models import Excluded, PlannedLayer, SecretFinding, SnapshotPlan
from jupyterlab_ai_batch.presenting_plan import format_plan, shorten
from jupyterlab_ai_batch.wire import from_json

PLAN = from_json(SnapshotPlan, json.loads((Path(__file__).parent.parent / "wire" / "plan.json").read_text()))

EXPECTED = """\
Captured from /home/ada/projects (the root directory)
Files         812 files, 96 MB of at most 2.1 GB
Environment   30392 files, 1.2 GB, unchanged since last time
To be read    14 files, 2.1 MB; 2 files gone since

New or changed (14)
  2.1 MB  data/part-0003.csv
   812 B  notes/keys.txt
  … and 12 more

Heaviest directories
  61 MB  data/    63%
  20 MB  digits/  21%
  48 kB  notes/   0%

Left out
  41 MB  .git                       .git/ (default)
         digits/.ipynb_checkpoints  .ipynb_checkpoints/ (default)
         run/service.sock           a socket

Environment layers
  120 MB  scipy   2210 files
   80 MB  rest-0  8120 files

Secrets left out
  .aws/credentials
  .netrc

Looks like a secret, and would be captured
  notes/keys.txt, line 3  password

Note: The environment also uses /opt/shared/lib, which is captured as part of it."""


def test_a_plan_reads_well():
    """Every part of it, aligned."""
    assert format_plan(PLAN) == EXPECTED


def test_what_a_terminal_would_obey_is_not_printed():
    """File names are text that somebody chose."""
    evil = "a\x1b[2Jb"
    plan = replace(
        PLAN,
        work_root=evil,
        excluded=(Excluded(path=evil, rule=evil, origin=evil),),
        secrets_excluded=(evil,),
        findings=(SecretFinding(path=evil, line=1, kind="x"),),
        heaviest=((evil, 1),),
        new=((evil, 1),),
        warnings=(evil,),
    )
    assert "\x1b" not in format_plan(plan)


long_names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=300)


@given(st.lists(st.tuples(long_names, st.integers(0, 10**12)), max_size=15), long_names, st.integers(60, 200))
def test_lines_fit_the_terminal(pairs, rule, columns):
    """Names are shortened in their middle; only sentences may be longer."""
    plan = replace(
        PLAN,
        new=tuple(pairs),
        heaviest=tuple(pairs),
        excluded=tuple(Excluded(path=path, rule=rule, bytes=size) for path, size in pairs),
        environment_layers=tuple(PlannedLayer(name=n, files=s, bytes=s, new=True) for n, s in pairs),
        findings=tuple(SecretFinding(path=path, line=size, kind="GitHub token") for path, size in pairs),
        warnings=(),
    )
    blocks = format_plan(plan, columns=columns).split("\n\n")[1:]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= columns


@given(st.text(max_size=50), st.integers(10, 60))
def test_shortening_keeps_both_ends(text, width):
    """The end says most: it is a file's name."""
    short = shorten(text, width)
    assert len(short) == min(len(text), width)
    assert short == text or (text.startswith(short.partition("…")[0]) and text.endswith(short.rpartition("…")[2]))
