from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from snapshot_world import NOTEBOOK, OLD_S, describe_tree

from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.snapshot import restore
from tests.programs import program
from tests.registries import RegistryServer


class Person:
    """Somebody with a notebook, a kernel that is no Python, and a terminal."""

    def __init__(self, base: Path) -> None:
        self.home, self.target = base / "home", base / "image"
        self.notebook = self.home / "project/n.ipynb"
        self.notebook.parent.mkdir(parents=True)
        metadata = {"kernelspec": {"name": "shell", "display_name": "Shell"}}
        self.notebook.write_text(json.dumps({**json.loads(NOTEBOOK), "metadata": metadata}))
        (self.home / "project/data").write_text("data")
        self.kernels = base / "share/kernels"
        (self.kernels / "shell").mkdir(parents=True)
        spec = {"argv": ["sh", "-c", "true"], "display_name": "Shell", "language": "sh"}
        (self.kernels / "shell/kernel.json").write_text(json.dumps(spec))
        self.age(self.home, self.kernels)

    def age(self, *tops: Path) -> None:
        for top in tops:
            for path in top.rglob("*"):
                os.utime(path, (OLD_S, OLD_S), follow_symlinks=False)

    @property
    def variables(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "JUPYTER_PATH": str(self.kernels.parent)}

    def run(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jupyterlab_ai_batch", "snapshot", "n.ipynb", *options]
        env = {**self.variables, **variables}
        return subprocess.run(command, env=env, cwd=self.notebook.parent, capture_output=True, text=True, check=False)

    def snapshot(self, *options: str) -> dict:
        done = self.run("--to", str(self.target), "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def learn(self) -> None:
        """Snapshots until one has noted what it found out: that takes until nothing is so young that it may change."""
        starts = self.home / ".local/share/jupyter/ai-batch/headstarts"
        for _ in range(60):
            self.snapshot()
            if starts.is_dir() and any(starts.iterdir()):
                return
        raise AssertionError("nothing was noted")


@pytest.fixture
def person(tmp_path):
    return Person(tmp_path)


def test_a_notebook_becomes_one_image_in_a_layout(person):
    """What is written can be restored, and the answer says what it is."""
    answer = person.snapshot()
    store = ImageLayout(person.target)
    assert dict(store.tags()) == {"latest": answer["digest"]}
    restored = person.home.parent / "restored"
    restored.mkdir()
    restore.restore_work(store, answer["digest"], restored)
    assert describe_tree(restored) == describe_tree(person.notebook.parent)
    assert answer["reference"] == str(person.target)
    assert answer["files"] >= 2


def test_again_gives_the_same_and_writes_nothing(person):
    """The second run knows what the first one found out, and says the same."""
    first = person.snapshot()
    person.learn()
    second = person.snapshot()
    assert (second["digest"], second["new_bytes"]) == (first["digest"], 0)


def test_the_target_is_never_captured(person):
    """A layout inside the captured folder does not end up in itself."""
    person.target = person.notebook.parent / "image"
    first, second = person.snapshot(), person.snapshot()
    assert second["files"] == first["files"]


def test_each_target_gets_everything(person):
    """What one target has says nothing about another; a target that was emptied is filled again."""
    first = person.snapshot()
    shutil.rmtree(person.target)
    again = person.snapshot()
    person.target = person.home.parent / "other"
    other = person.snapshot()
    assert first["digest"] == again["digest"] == other["digest"]
    for target in (person.target, person.home.parent / "image"):
        image = restore.read_image(ImageLayout(target), first["digest"])
        assert all(ImageLayout(target).has_blob(layer.digest) for layer in image.layers)
        assert len(image.with_role(LayerRole.WORK)) == 1


def test_a_change_of_the_kernelspec_is_seen(person):
    """The head start ends when what it was made from changes."""
    first = person.snapshot()
    (person.kernels / "shell/logo.svg").write_text("<svg/>")
    assert person.snapshot()["digest"] != first["digest"]


def test_an_image_can_be_put_on_a_base(person):
    """Another layout's: its layers come along, below; a base of another kind is refused."""
    base = person.home.parent / "base"
    below = person.snapshot()
    person.target.rename(base)
    person.age(person.home)
    (person.notebook.parent / "data").write_text("later")
    person.target = person.home.parent / "composed"
    answer = person.snapshot("--base", str(base))
    image = restore.read_image(ImageLayout(person.target), answer["digest"])
    layers = restore.read_image(ImageLayout(base), below["digest"]).layers
    assert [layer.digest for layer in image.with_role(LayerRole.BASE)] == [layer.digest for layer in layers]
    assert image.content.base is None  # a kernelspec that was written since: nothing in it is the base's for certain
    assert person.snapshot("--base", str(base))["digest"] == answer["digest"]


def test_layers_are_taken_over_from_a_neighbour(person, tmp_path):
    """A second repository of the registry gets the layers of the first without sending them."""
    program("docker-registry")
    with RegistryServer(tmp_path / "registry") as registry:

        def push(repository, *options):
            done = person.run("--to", f"{registry.host}/{repository}:1", "--json", *options)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        first = push("ada/snapshots")
        second = push("bob/snapshots", "--mount-from", "nobody/here", "--mount-from", "ada/snapshots")
        assert second["digest"] == first["digest"]
        assert (first["sent_bytes"] > 0, second["sent_bytes"]) == (True, 0)
        refused = person.run("--to", f"{registry.host}/bob/snapshots:2", "--mount-from", "No Name")
        assert (refused.returncode, refused.stderr.partition(":")[0]) == (1, "invalid_submission")


@pytest.mark.parametrize(
    ("options", "start"),
    [
        (["--base", "./nowhere", "--to", "./image"], "snapshot_corrupt:"),
        (["--base", "No Name", "--to", "./image"], "invalid_submission:"),
        (["--base", "localhost/base:1"], "usage:"),
    ],
)
def test_a_base_that_cannot_be_is_an_error(person, options, start):
    """Nothing there, no name of an image, or nothing to put on it."""
    done = person.run(*options)
    assert done.returncode != 0
    assert done.stderr.startswith(start)
    assert not (person.notebook.parent / "image/index.json").exists()


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("localhost:1/x:tag@sha256:" + "0" * 64, "invalid_submission"),
        ("No Name", "invalid_submission"),
        ("localhost:9/a/b:c", "registry_unreachable"),
    ],
)
def test_a_target_that_cannot_be_is_an_error(person, reference, code):
    """Errors go to stderr with their code."""
    done = person.run("--to", reference)
    assert (done.returncode, done.stdout, done.stderr.split(":")[0]) == (1, "", code)


def test_a_notebook_without_its_kernel_is_an_error(person):
    """The kernel must be installed here: its environment is a part of the image."""
    done = person.run("--to", str(person.target), JUPYTER_PATH="/nowhere")
    assert done.stderr.startswith("kernel_unknown:")


def test_a_signal_leaves_nothing_behind(person):
    """SIGTERM in the middle: no name in the target, no temporary file."""
    (person.notebook.parent / "large").write_bytes(os.urandom(64 << 20))
    command = [sys.executable, "-m", "jupyterlab_ai_batch", "snapshot", "n.ipynb", "--to", str(person.target)]
    with subprocess.Popen(command, env=person.variables, cwd=person.notebook.parent) as child:
        temporary = person.target / "tmp"
        while child.poll() is None and not (temporary.is_dir() and any(temporary.iterdir())):
            pass
        child.send_signal(signal.SIGTERM)
    assert list(temporary.iterdir()) == []
    if child.returncode:
        assert child.returncode == 128 + signal.SIGTERM
        assert dict(ImageLayout(person.target).tags()) == {}
    assert person.snapshot()["files"] >= 3


def test_what_is_not_needed_is_not_imported(person):
    """The command must not wait for a server, a kernel manager or a configuration system that it does not use."""
    person.learn()
    script = (
        "import sys; from jupyterlab_ai_batch.cli import main; main(sys.argv[1:]);"
        " heavy = 'asyncio tornado jupyter_server traitlets jupyter_client nbformat pathspec urllib3 isal'.split();"
        " sys.stderr.write(repr([name for name in heavy if name in sys.modules]))"
    )
    command = [sys.executable, "-c", script, "snapshot", "n.ipynb", "--to", str(person.target), "--json"]
    done = subprocess.run(
        command, env=person.variables, cwd=person.notebook.parent, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
