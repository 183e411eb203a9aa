"""The main job, end to end: submit, capture, queue, run, bring home. Real processes, a real kernel."""

import json
import shutil
import subprocess

import pytest

from tests.system.conftest import WAIT_S, cell

pytestmark = pytest.mark.timeout(400)

PARAMETERS = cell("n = 1", "parameters")


def test_one_command_brings_the_results_home(user):
    """--wait --json prints one JSON object, nothing else; outputs and files are at home; parameters counted."""
    work = cell("open('result.txt', 'w').write(str(n * 2)); open('data.csv', 'a').write('more'); print('n is', n)")
    user.write_notebook("sub/train.ipynb", PARAMETERS, work)
    (user.home / "sub" / "data.csv").write_text("some ")
    status, out, _ = user.run("submit", "sub/train.ipynb", "--param", "n=21", "--title", "T", "--wait", "--json")
    submission = json.loads(out)
    assert (status, submission["state"], submission["title"]) == (0, "succeeded", "T")
    short = submission["id"][:8]
    assert submission["executed_notebook"] == f"sub/train.batch-{short}.ipynb"
    assert (user.home / "sub" / "result.txt").read_text() == "42"
    assert (user.home / "sub" / "data.csv").read_text() == "some more"
    assert "n is 21\n" in user.outputs_of(submission["executed_notebook"])
    assert submission["outputs"]["state"] == "collected"
    assert [attempt["ended_by"] for attempt in submission["attempts"]] == ["succeeded"]
    usage = submission["attempts"][-1]["usage"]
    assert usage["peak_memory_bytes"] > 2**20
    assert usage["cpu_s"] > 0
    assert user.json("logs", short)["text"].count("n is 21") == 1
    assert [item["id"] for item in user.json("list", "--state", "succeeded")["submissions"]] == [submission["id"]]


def test_edits_and_upgrades_after_submitting_do_not_reach_the_job(user):
    """The notebook, a data file and a package change right after submit has returned; the job sees the old ones."""
    user.install("tool", "VERSION = 'old'\n")
    (user.home / "data.txt").write_text("old")
    user.write_notebook(
        "a.ipynb",
        cell("import time; time.sleep(4)"),
        cell("import tool; print('tool', tool.VERSION, 'data', open('data.txt').read())"),
    )
    submission = user.json("submit", "a.ipynb")
    user.install("tool", "VERSION = 'new'\n")
    shutil.rmtree(user.site / "__pycache__", ignore_errors=True)
    (user.home / "data.txt").write_text("new")
    edited = user.write_notebook("a.ipynb", cell("print('edited')")).read_text()
    user.reach(submission["id"], "collecting", "failed")
    user.json("outputs", submission["id"])
    ended = user.json("show", submission["id"])
    assert ended["state"] == "succeeded"
    assert user.outputs_of(ended["executed_notebook"])[-1] == "tool old data old\n"
    assert (user.home / "a.ipynb").read_text() == edited
    assert (user.home / "data.txt").read_text() == "new"
    again = user.json("resubmit", submission["id"], "--wait")
    assert user.outputs_of(again["executed_notebook"]) == ["edited\n"]


def test_a_failing_cell_is_explained_and_its_files_come_home(user):
    """Exit status 1, the cell and the exception, the notebook up to there, the files written before."""
    user.write_notebook("f.ipynb", cell("open('before.txt', 'w').write('x')"), cell("raise ValueError('no')"))
    status, out, _ = user.run("submit", "f.ipynb", "--wait", "--json")
    submission = json.loads(out)
    assert (status, submission["state"]) == (1, "failed")
    assert submission["explanation"]["code"] == "cell_failed"
    assert "ValueError" in submission["explanation"]["summary"]
    assert (user.home / "before.txt").read_text() == "x"
    assert submission["executed_notebook"] is not None


def test_what_both_sides_changed_exists_twice(user):
    """The user's file stays where it is; the job's lies beside it."""
    (user.home / "notes.txt").write_text("base")
    user.write_notebook("c.ipynb", cell("import time; time.sleep(2); open('notes.txt', 'w').write('job')"))
    submission = user.json("submit", "c.ipynb")
    (user.home / "notes.txt").write_text("mine")
    user.reach(submission["id"], "collecting")
    planned = user.json("outputs", submission["id"], "--dry-run")
    assert (user.home / "notes.txt").read_text() == "mine"
    report = user.json("outputs", submission["id"])
    assert [e["action"] for e in planned["entries"]] == [e["action"] for e in report["entries"]]
    (kept,) = (entry for entry in report["entries"] if entry["path"] == "notes.txt")
    assert (kept["action"], (user.home / kept["installed_as"]).read_text()) == ("kept_both", "job")
    assert (user.home / "notes.txt").read_text() == "mine"
    files = sorted(path.name for path in user.home.iterdir())
    user.json("outputs", submission["id"])
    assert sorted(path.name for path in user.home.iterdir()) == files
    assert user.json("show", submission["id"])["explanation"]["code"] == "collected_with_conflicts"


def test_killing_command_and_worker_loses_nothing(user):
    """kill -9 of both while it runs: it runs again by itself and ends succeeded, with two Attempts."""
    user.write_notebook("k.ipynb", cell("import time; time.sleep(5); open('done.txt', 'w').write('yes')"))
    with user.start("submit", "k.ipynb", "--wait") as waiting:
        while not (listed := user.json("list", "--state", "running")["submissions"]):
            assert waiting.poll() is None
        waiting.kill()
    user.kill_worker()
    submission_id = listed[0]["id"]
    ended = user.reach(submission_id, "collecting", "succeeded", "failed")
    assert [attempt["ended_by"] for attempt in ended["attempts"]] == ["WorkerLost", "succeeded"]
    user.json("outputs", submission_id)
    assert (user.json("show", submission_id)["state"], (user.home / "done.txt").read_text()) == ("succeeded", "yes")


def test_cancelling_a_run_keeps_what_it_has_produced(user):
    """Cancelled; the log stays; its files can be fetched."""
    user.write_notebook(
        "x.ipynb", cell("open('part.txt', 'w').write('1'); print('begun', flush=True)"), cell("while True: pass")
    )
    submission = user.json("submit", "x.ipynb")
    user.until(submission["id"], lambda seen: (seen["progress"] or {}).get("cell") == 2)
    user.json("cancel", submission["id"][:6])
    cancelled = user.reach(submission["id"], "cancelled")
    assert cancelled["explanation"]["code"] == "cancelled_by_user"
    assert "begun" in user.json("logs", submission["id"])["text"]
    user.json("outputs", submission["id"], "--to", "there")
    assert (user.home / "there" / "part.txt").read_text() == "1"
    assert not (user.home / "part.txt").exists()


def test_a_home_that_is_gone_keeps_the_files_waiting(user):
    """The run stays succeeded; the explanation says what to do; collecting later brings them."""
    user.write_notebook("deep/g.ipynb", cell("open('r.txt', 'w').write('r')"))
    submission = user.json("submit", "deep/g.ipynb", "--capture-from", "folder")
    user.reach(submission["id"], "collecting")
    (user.home / "deep").rename(user.home / "away")
    status, _, err = user.run("outputs", submission["id"])
    assert (status, err.split(":")[0]) == (1, "output_failed")
    seen = user.json("show", submission["id"])
    assert (seen["state"], seen["explanation"]["code"]) == ("succeeded", "collect_failed")
    assert seen["outputs"]["state"] == "available"
    (user.home / "away").rename(user.home / "deep")
    user.json("outputs", submission["id"])
    assert (user.home / "deep" / "r.txt").read_text() == "r"
    assert user.json("show", submission["id"])["outputs"]["state"] == "collected"


def test_two_that_watch_merge_once(user):
    """Two processes of one user bring the files home at once: nothing appears twice."""
    (user.home / "d.txt").write_text("base")
    user.write_notebook("t.ipynb", cell("import time; time.sleep(2); open('d.txt', 'w').write('job')"))
    watching = user.start("list", "--watch", "--json")
    submission = user.json("submit", "t.ipynb", "--wait")
    watching.send_signal(subprocess.signal.SIGINT)
    watching.communicate(timeout=WAIT_S)
    assert submission["state"] == "succeeded"
    short = submission["id"][:8]
    assert sorted(path.name for path in user.home.iterdir()) == ["d.txt", f"t.batch-{short}.ipynb", "t.ipynb"]
    assert (user.home / "d.txt").read_text() == "job"


def test_ctrl_c_leaves_it_running(user):
    """The command says how to come back; the Submission goes on."""
    user.write_notebook("i.ipynb", cell("import time; time.sleep(4)"))
    waiting = user.start("submit", "i.ipynb", "--wait")
    while not user.json("list", "--state", "running")["submissions"]:
        assert waiting.poll() is None
    waiting.send_signal(subprocess.signal.SIGINT)
    _, err = waiting.communicate(timeout=WAIT_S)
    assert waiting.returncode == 130
    (listed,) = user.json("list")["submissions"]
    assert f"jupyter ai-batch show {listed['id'][:8]}" in err
    assert user.reach(listed["id"], "collecting", "failed")["state"] == "collecting"
