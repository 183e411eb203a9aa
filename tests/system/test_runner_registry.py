"""The runner against a real registry, with a real kernel: what it stores there is what comes home."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import OutputFile, OutputSet, RunSpec
from jupyterlab_ai_batch.oci import outputset
from jupyterlab_ai_batch.oci.credentials import Credentials
from jupyterlab_ai_batch.oci.outputset import (
    open_log,
    outputs_tag,
    parse_outputs_tag,
    read_output_set,
    store_output_set,
)
from jupyterlab_ai_batch.words import FileChange
from tests.programs import program
from tests.registries import (
    PASSWORD,
    USER,
    Authority,
    RegistryServer,
    Wire,
    htpasswd_registry,
    open_registry,
    tls_registry,
    wait_until,
)
from tests.system.test_registry import Proxy

SUBMISSION = "0123456789abcdef0123456789abcdef"
REPOSITORY = "team/work"
DEADLINE_S = 90
MIB = 1 << 20
RUN = [sys.executable, "-m", "jupyterlab_ai_batch.runner"]
WAIT_FOR = "import os, time\ndef wait_for(name):\n    while not os.path.exists(name): time.sleep(0.02)\n"


@pytest.fixture(autouse=True, scope="module")
def _needs_registry():
    program("docker-registry")


@pytest.fixture
def server(tmp_path):
    with RegistryServer(tmp_path / "registry") as running:
        yield running


@dataclass
class Ended:
    status: int
    stdout: bytes

    @property
    def events(self):
        lines = self.stdout.decode().split("\n")
        return [event for line in lines if (event := wire.parse_event(f"{line}\n"))]

    def kinds(self):
        return [event.kind for event in self.events]

    def error(self):
        (event,) = [event for event in self.events if event.kind == "failed"]
        return dict(event.error)


class Pod:
    """One Attempt: its directories, its RunSpec, and the runner's process. stdout is read as it comes."""

    def __init__(self, directory: Path, outputs_to: str, *, uid: str = "pod-a") -> None:
        self.work = directory / "work"
        self.scratch = directory / "scratch"
        self.outbox = self.scratch / "outbox"
        self.work.mkdir(parents=True)
        self.outputs_to = outputs_to
        self.uid = uid
        self.stdout = bytearray()
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self, *cells: str, command: list[str] = RUN, environ: dict[str, str] | None = None, **spec: Any) -> None:
        notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
        nbformat.write(notebook, self.work / "n.ipynb")
        fields: dict[str, Any] = {
            "submission_id": SUBMISSION,
            "attempt": 1,
            "work_root": str(self.work),
            "notebook": "n.ipynb",
            "kernel_name": "python3",
            "outbox": str(self.outbox),
            "outputs_to": self.outputs_to,
            **spec,
        }
        run = {"AI_BATCH_RUN": wire.dumps(RunSpec(**fields)), "AI_BATCH_POD_UID": self.uid}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**inherited, **run, **(environ or {})}
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while chunk := self.process.stdout.read1(1 << 16):
            self.stdout += chunk

    def says(self, text: str, *, times: int = 1) -> None:
        """Wait until the log holds it."""
        wait_until(lambda: bytes(self.stdout).count(text.encode()) >= times, text)

    def stored(self, times: int = 1) -> None:
        self.says('"kind":"stored"', times=times)

    def touch(self, name: str) -> None:
        (self.work / name).touch()

    def end(self, *, signal_: int | None = None) -> Ended:
        assert self.process is not None
        if signal_ is not None:
            self.process.send_signal(signal_)
        try:
            status = self.process.wait(timeout=DEADLINE_S)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()
        return Ended(status, bytes(self.stdout))

    def run(self, *cells: str, **options: Any) -> Ended:
        self.start(*cells, **options)
        return self.end()


@dataclass
class Restored:
    """What the registry has under the tag of an Attempt."""

    output_set: OutputSet
    contents: dict[str, bytes]
    log: bytes

    def cell(self, number: int) -> Any:
        return nbformat.reads(self.contents["n.ipynb"].decode(), as_version=4).cells[number]


def restore(server, attempt=1, **options):
    with open_registry(server.host, REPOSITORY, **options) as store:
        output_set, blobs = read_output_set(store, outputs_tag(SUBMISSION, attempt))
        contents = {path: store.read_blob(digest, limit_bytes=1 << 30) for path, digest in blobs.items()}
        with open_log(store, output_set) as log:
            return Restored(output_set, contents, log.read())


def numbers(server):
    with open_registry(server.host, REPOSITORY) as store:
        return sorted(parse_outputs_tag(name)[1] for name in store.tag_names())


@pytest.fixture
def pod(tmp_path, server):
    return Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")


def test_a_run_comes_home_through_a_registry(pod, server):
    """Executed notebook, files and, byte by byte, the whole log; the local outbox holds no layout."""
    ended = pod.run(
        "print('hello')\nopen('out.bin', 'wb').write(bytes(range(256)))", "import os; os.system('echo raw')"
    )
    assert ended.status == 0
    assert ended.kinds() == ["progress"] * 3 + ["stored", "finished"]
    restored = restore(server)
    assert (restored.output_set.attempt, restored.output_set.complete) == (1, True)
    assert restored.output_set.pod_uid == "pod-a"
    assert restored.contents["out.bin"] == bytes(range(256))
    assert restored.cell(0).outputs[0].text == "hello\n"
    assert restored.log == ended.stdout
    assert restored.output_set.log_bytes == len(ended.stdout)
    assert b"raw\n" in restored.log
    assert not (pod.outbox / "index.json").exists()


def test_the_kernel_sees_none_of_our_variables(pod):
    """Only that this is a job."""
    source = "import os; print(sorted(name for name in os.environ if name.startswith('AI_BATCH')))"
    ended = pod.run(source, environ={"AI_BATCH_OTHER": "x", "AI_BATCH_JOB": "0"})
    assert b"['AI_BATCH_JOB']\n" in ended.stdout


def test_a_password_from_the_mounted_file(tmp_path):
    """The runner gets in; what the kernel has in its environment and its memory of us has no trace of it."""
    config = tmp_path / "config.json"
    with htpasswd_registry(tmp_path / "registry") as server:
        config.write_text(json.dumps({"auths": {server.host: {"username": USER, "password": PASSWORD}}}))
        pod = Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")
        ended = pod.run(
            "import os; print(dict(os.environ), open('/proc/self/cmdline').read())", registry_auth=str(config)
        )
        assert ended.status == 0
        assert PASSWORD.encode() not in ended.stdout
        found = restore(server, find=lambda _: Credentials(username=USER, password=PASSWORD))
        assert found.output_set.complete


@pytest.mark.parametrize("password", ["open barley", None])
def test_a_registry_that_says_no_ends_the_run_at_once(tmp_path, password):
    """Hours of computing would have nowhere to go; the words name no password."""
    with htpasswd_registry(tmp_path / "registry") as server:
        config = tmp_path / "config.json"
        entry = {server.host: {"username": USER, "password": password}} if password else {}
        config.write_text(json.dumps({"auths": entry}))
        pod = Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")
        ended = pod.run("import time; time.sleep(600)", registry_auth=str(config))
    assert (ended.status, ended.error()["code"]) == (1, "registry_denied")
    assert server.host in ended.error()["hint"]
    assert b"barley" not in ended.stdout


def test_a_registry_of_the_site(tmp_path):
    """TLS by an authority that only the mounted file knows, through the site's proxy."""
    authority = Authority(tmp_path / "authority")
    with tls_registry(tmp_path / "registry", authority) as server, Proxy({"registry.test:5000": server.port}) as proxy:
        environ = {"https_proxy": f"http://{proxy.host}"}
        pod = Pod(tmp_path / "one", f"registry.test:5000/{REPOSITORY}")
        ended = pod.run("print('hello')", environ=environ, registry_ca=str(authority.certificate))
        assert ended.status == 0
        found = restore(server, plain_http=False, ca_file=authority.certificate)
        assert found.log == ended.stdout
        untrusting = Pod(tmp_path / "two", f"registry.test:5000/{REPOSITORY}")
        ended = untrusting.run("import time; time.sleep(600)", environ=environ)
        assert (ended.status, ended.error()["code"]) == (1, "registry_failed")


def test_a_name_that_is_none_is_told(tmp_path):
    """Not a crash."""
    ended = Pod(tmp_path / "pod", "registry.test:5000/NO SUCH").run("import time; time.sleep(600)")
    assert (ended.status, ended.error()["code"]) == (1, "invalid_submission")


def test_each_pod_takes_the_next_number(tmp_path, server):
    """Also where another Submission has many; a pod that starts again keeps its own."""
    for uid, expected in (("pod-a", 1), ("pod-b", 2), ("pod-b", 2), ("pod-c", 3)):
        pod = Pod(tmp_path / f"{uid}-{len(list(tmp_path.iterdir()))}", f"{server.host}/{REPOSITORY}", uid=uid)
        assert pod.run(f"print({uid!r})").status == 0
        restored = restore(server, expected)
        assert (restored.output_set.attempt, restored.output_set.pod_uid) == (expected, uid)
        assert uid.encode() in restored.log
    assert numbers(server) == [1, 2, 3]


def test_pods_that_start_together_do_not_share_a_number(tmp_path, server):
    """An old pod that still ends and the new one: each has its own results."""
    uids = ["pod-a", "pod-b", "pod-c"]
    pods = [Pod(tmp_path / uid, f"{server.host}/{REPOSITORY}", uid=uid) for uid in uids]
    for pod in pods:
        pod.start(f"open('who', 'w').write({pod.uid!r})")
    assert [pod.end().status for pod in pods] == [0, 0, 0]
    found = {number: restore(server, number) for number in numbers(server)}
    last = {restored.output_set.pod_uid: restored for restored in found.values() if restored.output_set.complete}
    assert {uid: last[uid].contents["who"].decode() for uid in last} == {uid: uid for uid in uids}


def test_sigterm_saves_and_ends_with_75(pod, server):
    """Notebook and files so far, as a partial OutputSet, and the log that says so."""
    pod.start("open('ck.bin', 'w').write('epoch 1')\nprint('working', flush=True)\nimport time; time.sleep(600)")
    pod.says("working")
    ended = pod.end(signal_=signal.SIGTERM)
    assert ended.status == 75
    restored = restore(server)
    assert restored.output_set.complete is False
    assert restored.contents["ck.bin"] == b"epoch 1"
    assert restored.cell(0).outputs[0].text == "working\n"
    assert b"results so far are being saved" in restored.log
    assert restored.log == ended.stdout


def test_sigterm_during_start(pod, server):
    """Before the kernel answers, and while the number is being claimed: it ends as stopped, and its log is there."""
    pod.start("1")
    pod.says('"kind":"progress"')
    ended = pod.end(signal_=signal.SIGTERM)
    assert ended.status == 75
    restored = restore(server)
    assert restored.output_set.complete is False
    assert restored.log == ended.stdout


def test_a_run_that_is_killed_leaves_its_last_checkpoint(pod, server):
    """Files and a log that is the beginning of what was said."""
    pod.start("open('ck.bin', 'w').write('epoch 1')\nimport time; time.sleep(600)", checkpoint_interval_s=0.2)
    wait_until((pod.work / "ck.bin").exists, "the checkpoint file")
    stored = bytes(pod.stdout).count(b'"kind":"stored"')
    pod.stored(times=stored + 2)
    ended = pod.end(signal_=signal.SIGKILL)
    restored = restore(server)
    assert restored.output_set.complete is False
    assert restored.contents["ck.bin"] == b"epoch 1"
    assert b'"kind":"stored"' in restored.log
    assert ended.stdout.startswith(restored.log)


def test_a_registry_that_restarts_during_the_run(pod, server):
    """Said in the log, tried again at the next checkpoint; nothing is lost."""
    pod.start(
        f"{WAIT_FOR}open('early', 'w').write('1')\nwait_for('go')\nopen('late', 'w').write('2')",
        checkpoint_interval_s=0.2,
    )
    pod.stored()
    server.stop()
    pod.says("intermediate results could not be stored")
    before = bytes(pod.stdout).count(b'"kind":"stored"')
    server.start()
    pod.stored(times=before + 1)
    pod.touch("go")
    ended = pod.end()
    assert ended.status == 0
    restored = restore(server)
    assert restored.output_set.complete
    assert (restored.contents["early"], restored.contents["late"]) == (b"1", b"2")
    assert restored.log == ended.stdout


def test_a_registry_that_is_away_at_the_end_is_waited_for(pod, server):
    """It comes back, and everything is there."""
    pod.start(f"{WAIT_FOR}open('out', 'w').write('x' * 1000)\nwait_for('go')")
    wait_until((pod.work / "out").exists, "the file")
    server.stop()
    pod.touch("go")
    pod.says("could not be stored yet, trying again")
    server.start()
    ended = pod.end()
    assert (ended.status, ended.kinds()[-2:]) == (0, ["stored", "finished"])
    restored = restore(server)
    assert (restored.output_set.attempt, restored.output_set.complete) == (1, True)
    assert restored.contents["out"] == b"x" * 1000


def test_a_registry_that_stays_away_fails_the_run(tmp_path, server):
    """With its own code, said on stdout; the executed notebook lies in the local outbox."""
    pod = Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")
    server.stop()
    impatient = (
        "from jupyterlab_ai_batch.runner import patience; patience.UNREACHABLE_S = 2.0\n"
        "from jupyterlab_ai_batch.runner.entry import main; main([])"
    )
    ended = pod.run("print('computed')", command=[sys.executable, "-c", impatient])
    assert (ended.status, ended.error()["code"]) == (1, "registry_unreachable")
    executed = nbformat.read(pod.outbox / "executed.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "computed\n"


def test_the_failure_of_a_cell_counts_more_than_the_registry(tmp_path, server):
    """One failed event, the cell's."""
    pod = Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")
    server.stop()
    impatient = (
        "from jupyterlab_ai_batch.runner import patience; patience.UNREACHABLE_S = 0.0\n"
        "from jupyterlab_ai_batch.runner.entry import main; main([])"
    )
    ended = pod.run("1 / 0", command=[sys.executable, "-c", impatient])
    assert (ended.status, ended.error()["code"]) == (1, "cell_failed")
    assert b"the results could not be stored" in ended.stdout


def test_sigterm_does_not_wait_for_a_registry_that_says_nothing(tmp_path):
    """Connections are taken and nothing is ever answered: the pod ends within its grace period of 30 s all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pod = Pod(tmp_path / "pod", f"127.0.0.1:{silent.getsockname()[1]}/{REPOSITORY}")
        pod.start("print('working', flush=True)\nimport time; time.sleep(600)", checkpoint_interval_s=0.2)
        pod.says("working")
        begun = time.monotonic()
        ended = pod.end(signal_=signal.SIGTERM)
        assert time.monotonic() - begun < 27
    assert ended.status == 75
    assert b"the results could not be stored: There was no time left" in ended.stdout
    executed = nbformat.read(pod.outbox / "executed.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "working\n"


def test_sigterm_keeps_what_there_was_time_for(tmp_path, server):
    """A large file is still on its slow way: notebook and log of now, and the file as it was stored last."""
    with Wire(server.port) as slow:
        pod = Pod(tmp_path / "pod", f"{slow.host}/{REPOSITORY}")
        pod.start(
            f"{WAIT_FOR}open('model', 'wb').write(b'epoch 1')\nwait_for('go')\n"
            "open('new', 'wb').write(os.urandom(64 * 2**20))\nos.replace('new', 'model')\n"
            "print('grown', flush=True)\nwait_for('never')",
            checkpoint_interval_s=0.2,
        )
        wait_until((pod.work / "model").exists, "the first model")
        pod.stored(times=bytes(pod.stdout).count(b'"kind":"stored"') + 2)
        slow.bytes_per_s = 1 * MIB
        pod.touch("go")
        pod.says("grown")
        ended = pod.end(signal_=signal.SIGTERM)
    assert ended.status == 75
    restored = restore(server)
    assert restored.contents["model"] == b"epoch 1"
    assert restored.cell(0).outputs[0].text == "grown\n"
    assert b"grown\n" in restored.log
    assert b"what was stored at" in ended.stdout


def test_what_is_there_is_not_sent_again(tmp_path, server):
    """Many checkpoints of an unchanged file of 30 MB cost it once, and the next Attempt nothing."""
    make = "import random; open('model', 'wb').write(random.Random(1).randbytes(30 * 2**20))\n"
    with Wire(server.port) as wire_:
        pod = Pod(tmp_path / "one", f"{wire_.host}/{REPOSITORY}")
        pod.start(f"{WAIT_FOR}{make}wait_for('go')", checkpoint_interval_s=0.2)
        wait_until((pod.work / "model").exists, "the file")
        pod.stored(times=bytes(pod.stdout).count(b'"kind":"stored"') + 4)
        pod.touch("go")
        assert pod.end().status == 0
        assert 30 * MIB < wire_.carried["up"] < 35 * MIB
        again = Pod(tmp_path / "two", f"{wire_.host}/{REPOSITORY}", uid="pod-b")
        assert again.run(make).status == 0
        assert wire_.carried["up"] < 35 * MIB
    assert restore(server, 2).contents["model"] == restore(server, 1).contents["model"]


def test_memory_does_not_grow_with_the_files(tmp_path, server):
    """300 MB come home through less than 200 MB of memory."""
    pod = Pod(tmp_path / "pod", f"{server.host}/{REPOSITORY}")
    make = "with open('large', 'wb') as f:\n    for _ in range(300): f.write(os.urandom(2**20))\n"
    pod.start(f"{WAIT_FOR}{make}open('made', 'w').close()\nwait_for('go')", checkpoint_interval_s=0.2)
    wait_until((pod.work / "made").exists, "the file")
    pod.stored(times=bytes(pod.stdout).count(b'"kind":"stored"') + 2)
    status = Path(f"/proc/{pod.process.pid}/status").read_text()
    (peak_kib,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    pod.touch("go")
    assert pod.end().status == 0
    assert peak_kib < 200 * 1024
    with open_registry(server.host, REPOSITORY) as store:
        (file,) = [file for file in read_output_set(store, outputs_tag(SUBMISSION, 1))[0].files if file.path == "large"]
        assert file.size_bytes == 300 * MIB
        assert store.has_blob(f"sha256:{file.sha256}")
    assert list(pod.outbox.glob("spool/*")) == []


def test_a_run_that_cannot_start_leaves_its_log(pod, server):
    """An OutputSet without files; its log says why."""
    ended = pod.run("1", kernel_name="no-such-kernel")
    assert (ended.status, ended.error()["code"]) == (1, "kernel_unknown")
    restored = restore(server)
    assert (restored.output_set.complete, restored.contents) == (False, {})
    assert restored.log == ended.stdout


def test_a_long_log_comes_home_whole(pod, server):
    """More than any pipe holds, in lines of all lengths, from the kernel's process and from cells."""
    ended = pod.run(
        "for i in range(20_000): print(i, 'x' * (i % 300))",
        "import os\nfor i in range(2000): os.write(2, b'raw %d\\n' % i)",
        checkpoint_interval_s=0.1,
    )
    assert ended.status == 0
    assert len(ended.stdout) > 2 * MIB
    assert restore(server).log == ended.stdout


@pytest.mark.parametrize("run", [None, "", "{}", "[1", '{"submission_id": 1}'])
def test_a_run_that_cannot_be_read(run):
    """Ends with the usage status, and says what it wants."""
    environ = {name: value for name, value in os.environ.items() if name != "AI_BATCH_RUN"}
    if run is not None:
        environ["AI_BATCH_RUN"] = run
    result = subprocess.run(RUN, env=environ, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr.startswith(("usage: ", "ai-batch: the run cannot be read"))


def test_more_files_than_a_manifest_takes(server, monkeypatch):
    """The parts are manifests of their own, which registries hand out."""
    monkeypatch.setattr(outputset, "FILES_PER_MANIFEST", 3)
    contents = {f"f{i}": f"{i}".encode() for i in range(10)}
    files = [
        OutputFile(path=path, change=FileChange.NEW, size_bytes=1, sha256=hashlib.sha256(content).hexdigest())
        for path, content in contents.items()
    ]
    at = datetime(2026, 11, 22, tzinfo=timezone.utc)
    many = OutputSet(
        submission_id="1a2b", attempt=1, complete=True, stored_at=at, executed_notebook="n.ipynb", files=tuple(files)
    )
    with open_registry(server.host, REPOSITORY) as store:
        store_output_set(store, many, lambda file: io.BytesIO(contents[file.path]), tag="outputs-1a2b-1")
    with open_registry(server.host, REPOSITORY) as store:
        assert read_output_set(store, "outputs-1a2b-1")[0] == many
        assert list(store.tag_names()) == ["outputs-1a2b-1"]
