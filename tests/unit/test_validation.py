"""Bad input is a coded error before anything is written down."""

import json

import pytest

from jupyterlab_ai_batch.errors import (
    InvalidSubmissionError,
    KernelUnknownError,
    NotebookInvalidError,
    NotebookMissingError,
    ParametersInvalidError,
    ProfileUnknownError,
    QueueUnknownError,
)
from jupyterlab_ai_batch.models import Profile, QueueReading, SubmissionRequest
from jupyterlab_ai_batch.validation import check_notebook, check_request, resolve_notebook

PROFILES = (Profile(name="cpu", title="CPU", default_max_duration_s=60), Profile(name="gpu", title="GPU"))
QUEUES = (QueueReading(name="local", backend="local", slots=1, busy=0, waiting=0),)


def notebook(*sources, metadata=None, nbformat=4, tags=()):
    cells = [{"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}} for source in sources]
    return {"nbformat": nbformat, "nbformat_minor": 5, "metadata": metadata or {}, "cells": cells}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.ipynb").write_text(json.dumps(notebook("1")))
    return tmp_path


@pytest.mark.parametrize("path", ["sub/a b.ipynb", "/sub/a b.ipynb", "RTC:sub/a b.ipynb", "sub/./a b.ipynb/"])
def test_paths_of_browsers_are_understood(root, path):
    """Leading slashes and drives are taken off."""
    assert resolve_notebook(root, path) == ("sub/a b.ipynb", root / "sub" / "a b.ipynb")


def test_a_colon_in_a_name_is_no_drive(root):
    """A file that is really called so is found."""
    (root / "x:y.ipynb").write_text("{}")
    assert resolve_notebook(root, "x:y.ipynb")[0] == "x:y.ipynb"


@pytest.mark.parametrize("path", ["../x.ipynb", "sub/../../x.ipynb", "", "/", ".", "a\x00b", "RTC:../x.ipynb", "RTC:"])
def test_paths_that_leave_the_root_are_refused(root, path):
    """No path of a request reaches outside."""
    (root.parent / "x.ipynb").write_text("{}")
    with pytest.raises(InvalidSubmissionError):
        resolve_notebook(root, path)


def test_a_symlink_below_the_root_is_followed(root, tmp_path_factory):
    """Users link notebooks from elsewhere."""
    target = tmp_path_factory.mktemp("other") / "t.ipynb"
    target.write_text(json.dumps(notebook("1")))
    (root / "link.ipynb").symlink_to(target)
    assert check_notebook(root, "link.ipynb").path == root / "link.ipynb"


@pytest.mark.parametrize("path", ["none.ipynb", "sub", "RTC:none.ipynb"])
def test_a_missing_notebook(root, path):
    """Missing, or a directory."""
    with pytest.raises(NotebookMissingError):
        check_notebook(root, path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "  \n",
        "not json",
        "[]",
        '{"cells": []}',
        "[" * 100_000,
        json.dumps(notebook()),
        json.dumps(notebook(" \n")),
        json.dumps(notebook("1", nbformat=5)),
        json.dumps(notebook("1", nbformat="4")),
        json.dumps({**notebook("1"), "cells": "x"}),
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_notebook_is_refused(root, content):
    """Empty, not JSON, no code, a newer format, rubbish."""
    (root / "n.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NotebookInvalidError):
        check_notebook(root, "n.ipynb")


@pytest.mark.parametrize(
    ("metadata", "asked", "resume"),
    [
        ({}, None, False),
        ({"ai_batch": {}}, None, False),
        ({"ai_batch": {"resume": True}}, None, True),
        ({"ai_batch": {"resume": False}}, None, False),
        ({"ai_batch": {"resume": True}}, False, False),
        ({}, True, True),
    ],
)
def test_whether_it_resumes(root, metadata, asked, resume):
    """What the Submission says, else what the notebook says, else no."""
    (root / "n.ipynb").write_text(json.dumps(notebook("1", metadata=metadata)))
    request = SubmissionRequest(notebook_path="n.ipynb", resume=asked)
    checked = check_request(request, check_notebook(root, "n.ipynb"), profiles=PROFILES, queues=QUEUES, backend="local")
    assert checked.resume is resume


@pytest.mark.parametrize("own", [{"resume": "yes"}, {"resume": 1}, {"resume": None}, True, None, "resume", ["resume"]])
def test_metadata_that_do_not_say_clearly_whether_to_resume(root, own):
    (root / "n.ipynb").write_text(json.dumps(notebook("1", metadata={"ai_batch": own})))
    with pytest.raises(NotebookInvalidError, match="resume") as caught:
        check_notebook(root, "n.ipynb")
    assert "ai_batch" in caught.value.hint


def test_a_kernel_that_is_not_installed(root):
    """The error names those that are."""
    (root / "n.ipynb").write_text(json.dumps(notebook("1", metadata={"kernelspec": {"name": "no-such"}})))
    with pytest.raises(KernelUnknownError) as caught:
        check_notebook(root, "n.ipynb")
    assert "python3" in caught.value.details["installed"]


@pytest.mark.parametrize(
    "metadata", [{}, {"kernelspec": None}, {"kernelspec": {"name": ""}}, {"kernelspec": {"name": 3}}]
)
def test_a_notebook_without_a_kernel_gets_the_default(root, metadata):
    """python3, as Jupyter does."""
    (root / "n.ipynb").write_text(json.dumps(notebook("1", metadata=metadata)))
    assert check_notebook(root, "n.ipynb").kernel_name == "python3"


def check(root, **fields):
    (root / "p.ipynb").write_text(json.dumps(notebook("n = 1", tags=["parameters"])))
    return check_request(
        SubmissionRequest(notebook_path="p.ipynb", **fields),
        check_notebook(root, "p.ipynb"),
        profiles=PROFILES,
        queues=QUEUES,
        backend="local",
    )


def test_defaults_are_filled_in(root):
    """Title from the name, first profile and queue, the profile's time limit."""
    checked = check(root)
    assert (checked.title, checked.profile, checked.queue, checked.target, checked.max_duration_s) == (
        "p",
        "cpu",
        "local",
        "local",
        60,
    )
    assert check(root, title=" My run ", profile="gpu", max_duration_s=5).max_duration_s == 5


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"profile": "huge"}, ProfileUnknownError),
        ({"queue": "nowhere"}, QueueUnknownError),
        ({"target": "moon"}, InvalidSubmissionError),
        ({"parameters": {"n": "x"}}, ParametersInvalidError),
        ({"parameters": {"m": 1}}, ParametersInvalidError),
        ({"max_duration_s": 0}, InvalidSubmissionError),
        ({"max_duration_s": 10**12}, InvalidSubmissionError),
        ({"priority": 10**6}, InvalidSubmissionError),
        ({"title": "x" * 300}, InvalidSubmissionError),
        ({"title": "a\nb"}, InvalidSubmissionError),
        ({"exclude": ("a\nb",)}, InvalidSubmissionError),
    ],
)
def test_wrong_wishes_are_refused(root, fields, error):
    """Each with its own code."""
    with pytest.raises(error):
        check(root, **fields)
