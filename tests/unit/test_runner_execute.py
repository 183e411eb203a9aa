"""Stream outputs of a notebook, and the notebook as a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode, v4

from jupyterlab_ai_batch.runner.execute import StreamText
from jupyterlab_ai_batch.runner.notebook import inject_parameters, write_notebook


def settled(*texts: str, limit_chars: int = 1000) -> str:
    stream = StreamText(NotebookNode(text=""), limit_chars=limit_chars)
    for text in texts:
        stream.append(text)
    stream.settle()
    stream.settle()
    return str(stream.node["text"])


@given(st.lists(st.text(st.sampled_from("abc\n"), max_size=30), max_size=20))
def test_short_text_stays_as_it_is(texts):
    """Below the limit nothing is lost, however it came."""
    assert settled(*texts) == "".join(texts)


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["\r1", "\r2", "\r3\n"], "3\n"),
        (["1\r", "2\r", "\n"], "2\n"),
        (["a\r\nb\r\n"], "a\nb\n"),
        (["done\r"], "done\r"),
    ],
)
def test_progress_bar_is_reduced_to_its_last_state(texts, shown):
    """What a terminal would show is what the notebook keeps."""
    assert settled(*texts) == shown


def test_long_text_keeps_its_beginning_and_end():
    """Beyond the limit the middle is left out, and counted."""
    text = settled(*(f"{number:05d}\n" for number in range(10_000)), limit_chars=1200)
    assert text.startswith("00000\n00001\n")
    assert text.endswith("09998\n09999\n")
    assert "… 58800 characters are left out here" in text
    assert len(text) < 1300


def test_notebook_with_lone_surrogates_can_be_written():
    """Text that is not text cannot keep a notebook from being saved."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("x", outputs=[v4.new_output("stream", text="\udcff")])])
    assert write_notebook(notebook).decode().endswith("}\n")


def test_older_notebook_gets_no_cell_ids():
    """A notebook of format 4.4 stays valid when parameters are injected."""
    notebook = v4.new_notebook(cells=[], nbformat_minor=4)
    inject_parameters(notebook, {"n": 1}, "python")
    assert "id" not in notebook.cells[0]


def test_parameters_without_a_tagged_cell_come_first():
    """papermill's rule."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("print(n)")])
    inject_parameters(notebook, {"n": 1}, "python")
    assert notebook.cells[0].source == "# Parameters\nn = 1"


def test_no_parameters_no_cell():
    """A notebook without parameters is executed as it is."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]})])
    inject_parameters(notebook, {}, "python")
    assert len(notebook.cells) == 1
