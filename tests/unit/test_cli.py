"""The command line: real processes, exit statuses, JSON on stdout, words on stderr."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from jupyterlab_ai_batch.cli import build_parser, parse_assignments, parse_duration
from jupyterlab_ai_batch.errors import BatchError, InvalidSubmissionError, NotebookMissingError
from jupyterlab_ai_batch.locating import choose_root


class Home:
    """A user's directory and a way to run commands in it."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "home"
        self.path.mkdir()
        self.data_dir = tmp_path / "data"
        config = tmp_path / "config"
        config.mkdir()
        self.config = config
        self.environ = {**os.environ, "JUPYTER_CONFIG_DIR": str(config), "JUPYTER_DATA_DIR": str(tmp_path / "share")}

    def run(self, *arguments, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "jupyterlab_ai_batch", *map(str, arguments), "--data-dir", str(self.data_dir)],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("30min", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)],
)
def test_times(text, seconds):
    """What people write, in seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-1", "1.5h", "2h30"])
def test_words_that_are_no_times(text):
    """Anything else is a wrong command line."""
    with pytest.raises(argparse.ArgumentTypeError):
        parse_duration(text)


def test_assignments():
    """The first equals sign separates; a word without one is refused."""
    assert parse_assignments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for word in ("a", "=1", " =1"):
        with pytest.raises(InvalidSubmissionError):
            parse_assignments([word])


def test_every_read_has_json():
    """design: every read takes --json."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(commands.choices) == {
        "submit",
        "list",
        "show",
        "logs",
        "cancel",
        "outputs",
        "resubmit",
        "export",
        "queues",
        "profiles",
        "snapshot",
        "doctor",
    }
    assert all("--json" in parser._option_string_actions for parser in commands.choices.values())


def test_the_root_is_the_current_directory_or_the_notebook_s(tmp_path, monkeypatch):
    """As the server's root would be; --root decides otherwise."""
    inside = tmp_path / "here" / "sub" / "a.ipynb"
    outside = tmp_path / "there" / "b.ipynb"
    for path in (inside, outside):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.chdir(tmp_path / "here")
    assert choose_root(inside, None) == tmp_path / "here"
    assert choose_root(outside, None) == tmp_path / "there"
    assert choose_root(outside, tmp_path) == tmp_path
    with pytest.raises(InvalidSubmissionError):
        choose_root(outside, tmp_path / "here")
    with pytest.raises(NotebookMissingError):
        choose_root(tmp_path / "none.ipynb", None)


def test_an_error_is_a_code_and_a_hint(home):
    """On stderr, status 1, nothing on stdout."""
    done = home.run("show", "abcdef")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0].startswith("submission_not_found: ")
    assert done.stderr.splitlines()[1].startswith("hint: ")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["submit"], ["list", "--state", "happy"]])
def test_a_wrong_command_line_is_status_2(home, arguments):
    """Usage errors are told apart from failures."""
    assert home.run(*arguments).returncode == 2


def test_bad_notebooks_are_refused_before_anything_happens(home):
    """Missing, not JSON, unknown parameter: coded, status 1."""
    (home.path / "bad.ipynb").write_text("{")
    cell = {"cell_type": "code", "source": "1", "metadata": {}}
    good = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    (home.path / "good.ipynb").write_text(json.dumps(good))
    for arguments, code in (
        (["none.ipynb"], "notebook_missing"),
        (["bad.ipynb"], "notebook_invalid"),
        (["good.ipynb", "--param", "a=1"], "parameters_invalid"),
        (["good.ipynb", "--param", "a"], "invalid_submission"),
        (["good.ipynb", "--profile", "huge"], "profile_unknown"),
        (["good.ipynb", "--queue", "nowhere"], "queue_unknown"),
    ):
        done = home.run("submit", *arguments, "--wait", "--json")
        assert (done.returncode, done.stdout, done.stderr.split(":")[0]) == (1, "", code)
    assert json.loads(home.run("list", "--json").stdout) == {"submissions": [], "next_cursor": None}


def test_reading_an_empty_history(home):
    """Words for people, JSON for programs."""
    assert home.run("list").stdout.startswith("No Submissions yet.")
    assert [p["name"] for p in json.loads(home.run("profiles", "--json").stdout)["profiles"]][:1] == ["cpu"]
    assert json.loads(home.run("queues", "--json").stdout)["queues"][0]["waiting"] == 0
    doctor = json.loads(home.run("doctor", "--json").stdout)
    assert {check["name"] for check in doctor["checks"]} >= {"python", "data_directory", "kernels"}


def test_the_admin_s_traits_count(home):
    """Profiles from the server's configuration files are the command line's too."""
    traits = {"BatchExtensionApp": {"profiles": [{"name": "tiny", "title": "Tiny"}], "slots": 3}}
    (home.config / "jupyter_server_config.json").write_text(json.dumps(traits))
    assert [p["name"] for p in json.loads(home.run("profiles", "--json").stdout)["profiles"]] == ["tiny"]
    assert json.loads(home.run("queues", "--json").stdout)["queues"][0]["slots"] == 3


def test_a_data_directory_of_somebody_else_is_refused(home):
    """Owner checked; a directory of ours that others can enter is closed to them."""
    home.data_dir.mkdir(mode=0o755)
    assert home.run("list").returncode == 0
    assert home.data_dir.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        os.chown(home.data_dir, 12345, 12345)
        done = home.run("list")
        assert (done.returncode, done.stderr.split(":")[0]) == (1, "storage_permission")


def test_error_codes_are_unique():
    """One code, one meaning."""

    def kinds(root):
        return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]

    ours = [kind for kind in kinds(BatchError) if kind.__module__ == "jupyterlab_ai_batch.errors"]
    codes = [kind.code for kind in ours]
    assert len(codes) == len(set(codes))
