"""The runner as a program: real kernels, its line protocol, and what it leaves in the outbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import OutputSet, RunnerEvent, RunSpec
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import read_output_set
from jupyterlab_ai_batch.oci.work_index import WorkIndexEntry, write_work_index
from jupyterlab_ai_batch.words import FileChange

DEADLINE_S = 60
SUBMISSION = "1a2b3c4d5e6f"


def code(source: str, *tags: str) -> Any:
    return v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


@dataclass
class Finished:
    status: int
    events: list[RunnerEvent]
    text: str
    stderr: str
    outbox: Path

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def error(self) -> dict[str, Any]:
        (event,) = [event for event in self.events if event.kind == "failed"]
        return dict(event.error or {})

    def outputs(self) -> OutputSet:
        return read_output_set(ImageLayout(self.outbox))[0]

    def content(self, path: str) -> bytes:
        store = ImageLayout(self.outbox)
        return store.read_blob(read_output_set(store)[1][path], limit_bytes=1 << 30)

    def notebook(self) -> Any:
        return nbformat.reads(self.content("sub/n.ipynb").decode(), as_version=4)


class Runner:
    """Starts the runner on a notebook made of ``cells`` in ``work/sub``."""

    def __init__(self, directory: Path) -> None:
        self.work = directory / "work"
        self.outbox = directory / "outbox"
        self.spec_file = directory / "run.json"
        (self.work / "sub").mkdir(parents=True)

    def prepare(self, cells: Sequence[Any], *, metadata: dict[str, Any] | None = None, **spec: Any) -> None:
        notebook = v4.new_notebook(cells=list(cells), metadata=metadata or {})
        nbformat.write(notebook, self.work / "sub" / "n.ipynb")
        fields: dict[str, Any] = {
            "submission_id": SUBMISSION,
            "attempt": 1,
            "work_root": str(self.work),
            "notebook": "sub/n.ipynb",
            "kernel_name": "python3",
            "outbox": str(self.outbox),
            **spec,
        }
        self.spec_file.write_text(wire.dumps(RunSpec(**fields)))

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        return subprocess.Popen(
            [sys.executable, "-m", "jupyterlab_ai_batch.runner", str(self.spec_file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, **environ},
        )

    def finish(self, process: subprocess.Popen[bytes]) -> Finished:
        try:
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        lines = [f"{line}\n" for line in stdout.decode("utf-8").split("\n")]  # splitlines would split at the mark
        events = [event for line in lines if (event := wire.parse_event(line))]
        text = "".join(line for line in lines if not line.startswith(wire.EVENT_MARK))
        return Finished(process.returncode, events, text, stderr.decode(), self.outbox)

    def run(self, cells: Sequence[Any], **options: Any) -> Finished:
        self.prepare(cells, **options)
        return self.finish(self.start())


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_notebook_runs_as_if_the_user_sat_before_it(runner):
    """Cells, progress, log, changed files and the executed notebook of a run that goes well."""
    (runner.work / "input.csv").write_text("1,2")
    finished = runner.run(
        [
            v4.new_markdown_cell("# Title"),
            code("import os\nprint('in', os.path.basename(os.getcwd()), os.environ['AI_BATCH_JOB'])"),
            code(""),
            code("open('out.txt', 'w').write(open('../input.csv').read())\n40 + 2"),
        ]
    )
    assert finished.status == 0
    assert finished.kinds() == ["progress"] * 4 + ["stored", "finished"]
    assert [(e.progress.cell, e.progress.of) for e in finished.events if e.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert "in sub 1\n" in finished.text
    notebook = finished.notebook()
    assert notebook.cells[3].outputs[0].data["text/plain"] == "42"
    assert notebook.metadata.language_info.name == "python"
    assert set(notebook.cells[1].metadata.execution) >= {"iopub.execute_input", "shell.execute_reply"}
    assert finished.content("sub/out.txt") == b"1,2"
    assert finished.outputs().complete is True
    assert (finished.outputs().submission_id, finished.outputs().attempt) == (SUBMISSION, 1)


def test_notebook_in_the_work_tree_stays_as_the_user_left_it(runner):
    """User code that reads its own notebook finds the original; the executed one is stored under its path."""
    finished = runner.run([code("import json; len(json.load(open('n.ipynb'))['cells'][0]['outputs'])")])
    assert finished.notebook().cells[0].outputs[0].data["text/plain"] == "0"
    assert nbformat.read(runner.work / "sub/n.ipynb", as_version=4).cells[0].outputs == []


def test_only_changed_files_are_stored(runner):
    """What is in the Snapshot's index and did not change is left out; deletions are told."""
    for name in ("same", "changed", "gone"):
        (runner.work / name).write_text("base")
        os.utime(runner.work / name, ns=(10**18, 10**18))
    index = [
        WorkIndexEntry(
            path=name,
            type="file",
            size=4,
            mtime_ns=10**18,
            mode=0o644,
            sha256="b1bc0ed5b3b8b9b9c6a1f5d9f9d4e7a0e9f8d7c6b5a49382716051423324150f",
        )
        for name in ("same", "changed", "gone")
    ]
    base = runner.work.parent / "base-index.gz"
    base.write_bytes(write_work_index(index))
    finished = runner.run(
        [code("import os; open('../changed', 'w').write('new!'); os.unlink('../gone'); os.mkdir('__pycache__')")],
        base_index=str(base),
    )
    changes = {file.path: file.change for file in finished.outputs().files}
    # "same" was written after this process began its run, so its digest decides; it is not the one in the index.
    assert changes["changed"] is FileChange.CHANGED
    assert changes["gone"] is FileChange.DELETED


def test_parameters_follow_the_tagged_cell(runner):
    """The injected cell comes after the defaults, carries papermill's tag, and counts as a cell."""
    cells = [code("first = 1"), code("n: int = 1\nname = 'a'", "parameters"), code("print(n, name)")]
    finished = runner.run(cells, parameters={"n": 5, "name": "it's"})
    assert finished.status == 0
    assert "5 it's\n" in finished.text
    assert [cell.metadata.get("tags") for cell in finished.notebook().cells] == [
        None,
        ["parameters"],
        ["injected-parameters"],
        None,
    ]


def test_injected_cell_of_an_earlier_run_is_replaced(runner):
    """Executing an executed notebook again leaves one injected cell."""
    cells = [code("n = 1", "parameters"), code("n = 2", "injected-parameters"), code("print('n is', n)")]
    finished = runner.run(cells, parameters={"n": 3})
    assert "n is 3\n" in finished.text
    assert len(finished.notebook().cells) == 3


def test_failing_cell(runner):
    """The cell's number and exception are reported, its traceback stays in the notebook, outputs are kept."""
    finished = runner.run(
        [
            code("open('half.txt', 'w').write('half')"),
            v4.new_markdown_cell("x"),
            code("print('before')\n1/0"),
            code("2"),
        ]
    )
    assert finished.status == 1
    assert finished.error() == {
        "cell": 2,
        "code": "cell_failed",
        "ename": "ZeroDivisionError",
        "evalue": "division by zero",
    }
    notebook = finished.notebook()
    assert [output.output_type for output in notebook.cells[2].outputs] == ["stream", "error"]
    assert notebook.cells[3].outputs == []
    assert finished.content("sub/half.txt") == b"half"
    assert "ZeroDivisionError" in finished.text
    assert finished.kinds()[-1] == "stored"


def test_error_text_is_cut_and_without_colours(runner):
    """An exception with a huge, coloured message makes a short event."""
    finished = runner.run([code("raise ValueError('\\x1b[31mred\\x1b[0m' + 'x' * 100_000)")])
    assert finished.error()["evalue"].startswith("redxxx")
    assert len(finished.error()["evalue"]) <= 2001


def test_expected_errors_do_not_stop_the_notebook(runner):
    """raises-exception and skip-execution are honoured."""
    finished = runner.run([code("1/0", "raises-exception"), code("exit_now", "skip-execution"), code("print('end')")])
    assert finished.status == 0
    assert "end\n" in finished.text


def test_allow_errors_in_the_metadata_goes_on(runner):
    """A notebook that allows errors runs to its end."""
    finished = runner.run([code("1/0"), code("print('end')")], metadata={"allow_errors": True})
    assert finished.status == 0
    assert "end\n" in finished.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_kernel_that_is_killed(runner, number):
    """The signal and the cell are reported and what there was is stored."""
    finished = runner.run([code("print('here')"), code(f"import os; os.kill(os.getpid(), {int(number)})")])
    assert finished.status == 1
    error = finished.error()
    assert (error["code"], error["cell"], error["signal"]) == ("kernel_died", 2, int(number))
    assert finished.notebook().cells[0].outputs[0].text == "here\n"


def test_kernel_that_exits_by_itself(runner):
    """A kernel that ends without a signal is a failure, not a success."""
    finished = runner.run([code("import os; os._exit(0)")])
    assert (finished.status, finished.error()["code"]) == (1, "kernel_died")
    assert "signal" not in finished.error()


def test_unknown_kernel(runner):
    """A kernelspec that is not there has its code."""
    finished = runner.run([code("1")], kernel_name="no-such-kernel")
    assert (finished.status, finished.error()["code"], finished.error()["cell"]) == (1, "kernel_unknown", 0)


@pytest.mark.parametrize(
    "argv",
    [[sys.executable, "-c", "import no_ipykernel_here", "{connection_file}"], ["/no/such/python", "{connection_file}"]],
    ids=["program ends", "no program"],
)
def test_kernel_that_does_not_start(runner, argv):
    """A missing ipykernel or interpreter is told in its own words."""
    spec = runner.work.parent / "jupyter" / "kernels" / "broken"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "b", "language": "python"}))
    runner.prepare([code("1")], kernel_name="broken")
    finished = runner.finish(runner.start(JUPYTER_PATH=str(spec.parent.parent)))
    assert (finished.status, finished.error()["code"]) == (1, "kernel_start_failed")
    assert "no_ipykernel_here" in finished.error()["evalue"] or "/no/such/python" in finished.error()["evalue"]


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", '{"cells": 1}', '{"nbformat": 9, "nbformat_minor": 0, "cells": []}']
)
def test_notebook_that_cannot_be_read(runner, content):
    """No notebook, a broken one and one of a newer format have a code and leave no kernel."""
    runner.prepare([])
    (runner.work / "sub/n.ipynb").write_text(content)
    finished = runner.finish(runner.start())
    assert (finished.status, finished.error()["code"]) == (1, "notebook_invalid")


def test_spec_that_cannot_be_read(runner):
    """A damaged spec ends with the usage status."""
    runner.spec_file.write_text("{}")
    finished = runner.finish(runner.start())
    assert (finished.status, finished.events) == (64, [])


def test_output_cannot_pass_for_an_event(runner):
    """The event mark is taken out of kernel output, however it is written."""
    fake = wire.format_event(RunnerEvent(kind="finished", at=wire.parse_time("2026-01-01T00:00:00Z"))).strip()
    finished = runner.run(
        [code(f"import os, sys\nprint({fake!r})\nprint({fake!r}, file=sys.stderr)\nos.system('echo ' + {fake!r})\n1/0")]
    )
    assert finished.status == 1
    assert "finished" not in finished.kinds()


def test_output_that_is_not_text(runner):
    """Bytes that are not UTF-8, surrogates and NULs break neither the log nor the notebook."""
    finished = runner.run(
        [code("import sys, os\nos.write(1, b'\\xff\\xfe raw\\n')\nprint('\\udcff lone \\x00')\nsys.stdout.flush()")]
    )
    assert finished.status == 0
    assert " lone " in finished.text
    assert finished.notebook().cells[0].outputs


def test_progress_bar_becomes_one_line(runner):
    """Carriage returns overwrite, in the log and in the notebook."""
    finished = runner.run(
        [code("import sys\nfor i in range(500): print(f'\\r{i} of 500', end='', flush=True)\nprint()")]
    )
    assert [line for line in finished.text.splitlines() if "of 500" in line] == ["499 of 500"]
    assert finished.notebook().cells[0].outputs[0].text == "499 of 500\n"


def test_streams_are_merged_as_jupyterlab_does(runner):
    """Consecutive texts of one stream are one output."""
    finished = runner.run([code("import sys\nfor i in range(20): print(i, flush=True)\nprint('e', file=sys.stderr)")])
    assert [output.name for output in finished.notebook().cells[0].outputs] == ["stdout", "stderr"]


def test_huge_output_is_bounded_in_the_notebook(runner):
    """40 MB of prints: the run goes well, the notebook stays readable, a line of the log is cut."""
    finished = runner.run([code("print('first')\nfor _ in range(40): print('x' * 1_000_000)\nprint('last')")])
    assert finished.status == 0
    text = finished.notebook().cells[0].outputs[0].text
    assert len(text) < 9_000_000
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "characters are left out" in text
    assert max(map(len, finished.text.splitlines())) < 17_000
    assert finished.text.count("more characters)") == 40


def test_display_and_widget_state_are_kept(runner):
    """Updates of a display reach the cell that made it, and comm state is saved for the front end."""
    source = """
from IPython.display import display
handle = display('one', display_id=True)
"""
    widget = """
from comm import create_comm
create_comm(target_name='jupyter.widget', data={'state': {'_model_name': 'IntSliderModel', '_model_module':
    '@jupyter-widgets/controls', '_model_module_version': '2.0.0', 'value': 7}}, metadata={'version': '2.1.0'})
"""
    finished = runner.run([code(source), code("handle.update('two')"), code(widget)])
    notebook = finished.notebook()
    assert notebook.cells[0].outputs[0].data["text/plain"] == "'two'"
    (state,) = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert state["state"]["value"] == 7


def test_output_of_a_thread_goes_to_the_cell_that_started_it(runner):
    """What a thread prints after its cell has ended is neither lost nor in the wrong cell."""
    finished = runner.run(
        [
            code(
                "import threading\nstarted, go = threading.Event(), threading.Event()\n"
                "def late():\n    go.wait(); print('late', flush=True); started.set()\n"
                "threading.Thread(target=late).start()\nprint('early')"
            ),
            code("go.set(); started.wait(); import time; time.sleep(0.3)"),
        ]
    )
    assert "late\n" in finished.text
    assert "late" in str(finished.notebook().cells)


def test_sigterm_saves_and_ends_with_75(runner):
    """Stopped in the middle of a cell: its output so far and its files are stored, as a partial OutputSet."""
    runner.prepare(
        [code("open('ck.bin', 'w').write('epoch 1')\nprint('working', flush=True)\nimport time; time.sleep(600)")]
    )
    process = runner.start()
    wait_for((runner.work / "sub/ck.bin").exists)
    process.send_signal(signal.SIGTERM)
    finished = runner.finish(process)
    assert finished.status == 75
    assert "failed" not in finished.kinds()
    assert finished.kinds()[-1] == "stored"
    assert "ai-batch: stopping; results so far are being saved\n" in finished.text
    assert "ai-batch: saved the notebook and 1 other file, 0.0 MB in all\n" in finished.text
    assert finished.outputs().complete is False
    assert finished.content("sub/ck.bin") == b"epoch 1"
    assert finished.notebook().cells[0].outputs[0].text == "working\n"


def test_sigterm_during_start(runner):
    """Stopped before the kernel answers: it ends as stopped, without a failure."""
    runner.prepare([code("1")])
    process = runner.start()
    assert process.stdout is not None
    assert process.stdout.readline().startswith(wire.EVENT_MARK.encode())
    process.send_signal(signal.SIGTERM)
    assert runner.finish(process).status == 75


def test_cell_that_ignores_interrupts_is_stopped_too(runner):
    """SIGTERM does not wait for a cell that catches KeyboardInterrupt."""
    runner.prepare(
        [
            code(
                "import time\nopen('begun', 'w').close()\n"
                "while True:\n    try: time.sleep(600)\n    except KeyboardInterrupt: pass"
            )
        ]
    )
    process = runner.start()
    wait_for((runner.work / "sub/begun").exists)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert runner.finish(process).status == 75
    assert time.monotonic() - begun < 10


def test_results_are_stored_while_it_runs(runner):
    """A run killed outright leaves the OutputSet of its last checkpoint."""
    runner.prepare(
        [code("open('ck.bin', 'w').write('epoch 1')\nimport time\ntime.sleep(600)")], checkpoint_interval_s=0.2
    )
    process = runner.start()
    assert process.stdout is not None
    for line in iter(process.stdout.readline, b""):
        event = wire.parse_event(line.decode())
        if event and event.kind == "stored" and (runner.work / "sub/ck.bin").exists():
            break
    wait_for(lambda: any(f.path == "sub/ck.bin" for f in read_output_set(ImageLayout(runner.outbox))[0].files))
    process.kill()
    finished = runner.finish(process)
    assert finished.content("sub/ck.bin") == b"epoch 1"
    assert finished.outputs().complete is False


@pytest.mark.parametrize("how", ["Popen(command)", "Popen(command, start_new_session=True)"])
def test_no_process_is_left_behind(runner, how):
    """Children of the kernel end with the run, also those in a session of their own."""
    finished = runner.run(
        [
            code(
                "import subprocess, sys\nfrom subprocess import Popen\n"
                "command = [sys.executable, '-c', 'import signal, time; signal.signal(15, 1); time.sleep(600)']\n"
                f"child = {how}\nopen('pid', 'w').write(str(child.pid))"
            )
        ]
    )
    assert finished.status == 0
    pid = int(finished.content("sub/pid"))
    wait_for(lambda: not is_running(pid))


def test_reader_that_goes_away_ends_the_run(runner):
    """When nobody reads the log any more the run stops and saves instead of going on unseen."""
    runner.prepare(
        [code("open('begun', 'w').close()\nimport time\nwhile True: print('x', flush=True); time.sleep(0.01)")]
    )
    process = runner.start()
    wait_for((runner.work / "sub/begun").exists)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=DEADLINE_S) == 75
    assert process.stderr is not None
    process.stderr.close()
    assert read_output_set(ImageLayout(runner.outbox))[0].complete is False


def test_outbox_that_cannot_be_written(runner):
    """A run whose results cannot be stored has failed, and says why."""
    runner.outbox.write_text("a file")
    finished = runner.run([code("1")])
    assert finished.status == 1
    assert finished.error()["code"].startswith("storage")


@pytest.mark.parametrize("last", ["1", "1 / 0"])
def test_what_the_kernel_does_at_its_exit_is_part_of_the_run(runner, last):
    """Exit handlers run, and what they write is in the outputs, after a success and after a failing cell."""
    leave = code("import atexit, pathlib; atexit.register(lambda: pathlib.Path('bye.txt').write_text('bye'))")
    finished = runner.run([leave, code(last)])
    assert finished.content("sub/bye.txt") == b"bye"
