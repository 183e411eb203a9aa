"""Parameters are read from the tagged cell, checked against it and written as source again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import ParametersInvalidError
from jupyterlab_ai_batch.parameters import (
    Parameter,
    find_parameters_cell,
    infer_parameters,
    parse_values,
    render_parameters,
    validate_parameters,
)

CELL = """\
%matplotlib inline
epochs = 20  # how often
lr: float = 1
quick = False
name = 'a#b'
layers = [1, 2]
limit: int | None = None
where = Path('x')
"""


def test_types_defaults_and_help_come_from_the_cell():
    """Literals give types, annotations win, comments are help, computed defaults are shown as source."""
    expected = (
        Parameter(name="epochs", type="int", default=20, help="how often"),
        Parameter(name="lr", type="float", default=1.0),
        Parameter(name="quick", type="bool", default=False),
        Parameter(name="name", type="str", default="a#b"),
        Parameter(name="layers", type="json", default=[1, 2]),
        Parameter(name="limit", type="int", default=None),
        Parameter(name="where", type="json", default=None, help="default: Path('x')"),
    )
    assert infer_parameters(CELL, "python") == expected


def test_r_and_julia_cells_are_read_by_line():
    """Assignments of other languages give names and types."""
    expected = (
        Parameter(name="n", type="int", default=5, help="count"),
        Parameter(name="on", type="bool", default=True),
        Parameter(name="x", type="str", default="hi"),
    )
    assert infer_parameters("n <- 5L # count\non = TRUE\nx <- 'hi'", "R") == expected


@pytest.mark.parametrize("source", ["", "def", "x = ", "\x00", "(" * 300])
def test_a_cell_that_does_not_parse_has_no_parameters(source):
    """Broken source is not an error at submission: the run will say it."""
    assert infer_parameters(source, "python") == ()


def test_only_a_tagged_code_cell_counts():
    """Markdown cells and malformed metadata are passed over."""
    notebook = {
        "cells": [
            {"cell_type": "markdown", "metadata": {"tags": ["parameters"]}, "source": "x"},
            {"cell_type": "code", "metadata": {"tags": "parameters"}, "source": "x"},
            {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a = 1\n", "b = 2"]},
        ]
    }
    found = find_parameters_cell(notebook)
    assert found is not None
    assert (found.index, found.source) == (2, "a = 1\nb = 2")
    assert find_parameters_cell({"cells": None}) is None


def test_words_of_a_command_line_are_typed_by_the_cell():
    """`5` is a string for a text parameter, a number for a number, and plain text needs no quotes."""
    known = infer_parameters("a = 'x'\nb = 1\nc = True\nd = {}", "python")
    texts = {"a": "5", "b": "5", "c": "yes", "d": '{"k": 1}', "e": "plain"}
    assert parse_values(texts, known) == {"a": "5", "b": 5, "c": True, "d": {"k": 1}, "e": "plain"}


def test_an_integer_is_good_for_a_float():
    """A float parameter takes 1 and gets 1.0."""
    assert validate_parameters({"lr": 1}, infer_parameters("lr = 0.5", "python")) == {"lr": 1.0}


@pytest.mark.parametrize(
    "values",
    [
        {"n": "x"},
        {"n": True},
        {"n": 1.5},
        {"other": 1},
        {"lr": float("nan")},
        {"j": [float("inf")]},
        {"j": "x" * 300_000},
    ],
)
def test_wrong_values_are_refused(values):
    """Wrong types, unknown names, NaN and huge values are coded errors."""
    with pytest.raises(ParametersInvalidError):
        validate_parameters(values, infer_parameters("n = 1\nlr = 0.5\nj = []", "python"))


def test_values_without_a_tagged_cell_are_refused():
    """The message names the missing tag; no values is fine."""
    with pytest.raises(ParametersInvalidError, match="no cell tagged 'parameters'"):
        validate_parameters({"n": 1}, None)
    assert validate_parameters({}, None) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_python_source_gives_the_value_back(value):
    """Executing the injected cell sets exactly the value that was given."""
    scope: dict[str, object] = {}
    exec(render_parameters({"x": value}, "python"), scope)  # noqa: S102
    assert scope["x"] == value


def test_r_and_julia_source():
    """Other languages get their own literals; Julia's interpolation is escaped."""
    values = {"a": True, "b": None, "c": [1, 2], "d": '$x "q"\n', "e": {"k": 1.5}}
    expected_r = '# Parameters\na <- TRUE\nb <- NULL\nc <- c(1L, 2L)\nd <- "$x \\"q\\"\\n"\ne <- list("k" = 1.5)'
    expected_julia = '# Parameters\na = true\nb = nothing\nc = [1, 2]\nd = "\\$x \\"q\\"\\n"\ne = Dict("k" => 1.5)'
    assert render_parameters(values, "R") == expected_r
    assert render_parameters(values, "julia") == expected_julia


@pytest.mark.parametrize(
    ("name", "language"), [("a b", "python"), ("x=1;y", "R"), ("class", "python"), ("x\n", "julia")]
)
def test_names_that_are_not_names_are_refused(name, language):
    """A parameter's name never becomes source of another kind."""
    with pytest.raises(ParametersInvalidError):
        render_parameters({name: 1}, language)


def test_a_language_without_a_dialect_is_said():
    """No parameters for, say, Haskell."""
    with pytest.raises(ParametersInvalidError, match="haskell"):
        render_parameters({"x": 1}, "haskell")


def test_inferred_parameters_are_json():
    """Whatever the cell holds, the form's data can be sent."""
    source = "a = {1, 2}\nb = b'x'\nc = {1: 2}\nd = 1e400\ne = (1, 2)"
    assert json.dumps([parameter.default for parameter in infer_parameters(source, "python")])
