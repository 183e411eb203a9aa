from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from jupyterlab_ai_batch.snapshot.environment import ask_environment, describe_environment
from jupyterlab_ai_batch.snapshot.headstart import HeadStart, headstart_path, load_headstart, look_at
from jupyterlab_ai_batch.snapshot.scout import Walk

OLD_S = 1_600_000_000
LATER_NS = 2**62
WALK = Walk.of(("/env",), ("/proc",), ("/env", "/home"))


@pytest.fixture
def place(tmp_path):
    """A directory with a file, and a file for a head start that depends on both and on something missing."""
    seen = tmp_path / "site"
    seen.mkdir()
    (seen / "a.pth").write_text("/src\n")
    known = HeadStart({"kernel_name": "python3"}, look(seen), WALK)
    known.save(str(tmp_path / "starts/x.json"))
    return tmp_path


def look(site: Path, asked_ns: int = LATER_NS):
    return look_at([str(site), str(site / "a.pth"), str(site.parent / "missing")], asked_ns=asked_ns)


def load(place: Path) -> HeadStart | None:
    return load_headstart(str(place / "starts/x.json"))


def test_what_was_saved_comes_back(place):
    """While nothing has changed, the next run knows what the last one found out."""
    assert load(place) == HeadStart({"kernel_name": "python3"}, look(place / "site"), WALK)


def _edit(place: Path) -> None:
    (place / "site/a.pth").write_text("/other\n")


def _edit_unseen(place: Path) -> None:
    """Of the same size, with the time set back."""
    found = (place / "site/a.pth").stat()
    (place / "site/a.pth").write_text("/SRC\n")
    os.utime(place / "site/a.pth", ns=(found.st_atime_ns, found.st_mtime_ns))


def _add(place: Path) -> None:
    (place / "site/b.pth").touch()


def _remove(place: Path) -> None:
    (place / "site/a.pth").unlink()


def _appear(place: Path) -> None:
    (place / "missing").mkdir()


def _damage(place: Path) -> None:
    (place / "starts/x.json").write_text('{"seen": []}')


def _truncate(place: Path) -> None:
    text = (place / "starts/x.json").read_text()
    (place / "starts/x.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize("change", [_edit, _edit_unseen, _add, _remove, _appear, _damage, _truncate])
def test_any_change_ends_it(place, change):
    """Whatever happens to what the answer was made from, it is asked for again."""
    change(place)
    assert load(place) is None


def test_what_has_just_changed_is_not_remembered(place):
    """A change within two seconds before the question may have come after the answer."""
    assert look(place / "site", asked_ns=time.time_ns()) is None


def test_the_place_depends_on_the_environment_variables_that_matter():
    """Another JUPYTER_PATH may mean another kernel; another title of the terminal does not."""
    path = headstart_path("/d", "python3", environ={"JUPYTER_PATH": "/a"})
    assert path == headstart_path("/d", "python3", environ={"JUPYTER_PATH": "/a", "TERM": "dumb"})
    assert path != headstart_path("/d", "python3", environ={"JUPYTER_PATH": "/b"})
    assert path != headstart_path("/d", "python4", environ={"JUPYTER_PATH": "/a"})


def test_only_the_newest_are_kept(tmp_path):
    """Old notebooks do not fill the directory."""
    known = HeadStart({}, {}, None)
    for number in range(70):
        known.save(str(tmp_path / f"starts/{number}.json"))
    assert len(list((tmp_path / "starts").iterdir())) == 64
    assert load_headstart(str(tmp_path / "starts/69.json")) == known


def test_an_environment_names_what_it_was_found_from(tmp_path):
    """A new editable install, or another kernelspec of that name, is seen in what the description depends on."""
    kernel = tmp_path / "kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": ["python", "-m", "x"], "display_name": "x", "language": "p"})
    )
    description, seen = ask_environment("python3", kernel_dirs=[str(tmp_path / "kernels")])
    assert description == describe_environment("python3", kernel_dirs=[str(tmp_path / "kernels")])
    site = next(str(path) for path in Path(description.prefix).glob("lib/python3*/site-packages"))
    assert {str(tmp_path / "kernels"), str(kernel / "kernel.json"), site, str(description.executable)} <= set(seen)
