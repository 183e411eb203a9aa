"""``kill -9`` of everything of ours between any two calls that leave the process: one Job, or none and a reason."""

import urllib.error
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyterlab_ai_batch.oci.mentions import mentioned

from .hub import PORT, SESSION, SETTINGS, TOKEN, Session, copy_login, prepare_namespace, session_pod
from .reach import Cluster, Namespace, Testbed, wait_for

pytestmark = pytest.mark.timeout(900)

PLACE = "/tmp/injected"
INJECTED = Path(__file__).parent / "injected" / "sitecustomize.py"
SERVER = f"jupyter lab --ip=0.0.0.0 --port={PORT} --IdentityProvider.token={TOKEN} --ServerApp.port_retries=0"
MOST_POINTS = 40
WAITS = frozenset({"queued", "blocked"})


class Mortal:
    """A session whose server, and all that it starts, dies at a step; the container outlives it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def start(self) -> None:
        """A new server, which is told nothing."""
        self.session.run(f"rm -f {PLACE}/limit {PLACE}/passed; nohup {SERVER} >>/tmp/server.log 2>&1 </dev/null &")
        wait_for("the server answers", self._answers)

    def submit(self, *, die_at: int) -> list[str]:
        """Submit, and die at that step; the steps that were taken."""
        self.session.run(f"rm -f {PLACE}/passed; echo {die_at} > {PLACE}/limit")
        self.key = uuid.uuid4().hex
        try:
            self._post()
        except (urllib.error.URLError, OSError):
            pass
        else:
            wait_for("it is queued, or all are dead", self._is_over)
        return self.session.run(f"cat {PLACE}/passed 2>/dev/null || true").split()

    def submit_again(self) -> str:
        """What a browser does whose request was not answered."""
        return self._post()["id"]

    def _post(self) -> Any:
        body = {"notebook_path": "a.ipynb", "profile": "slice"}
        return self.session.call("POST", "submissions", body, headers={"Idempotency-Key": self.key})

    def _is_over(self) -> bool:
        try:
            listed = self.session.call("GET", "submissions?limit=1")["submissions"]
        except (urllib.error.URLError, OSError):
            return True
        return bool(listed) and listed[0]["state"] != "capturing"

    def _answers(self) -> bool:
        try:
            self.session.call("GET", "profiles")
        except (urllib.error.URLError, OSError):
            return False
        return True


@pytest.fixture
def mortal(testbed: Testbed, cluster: Cluster, make_user: Callable[..., Namespace]) -> Mortal:
    """In front of a pool that has no slice, so that Jobs stay in the queue."""
    namespace = make_user(slices=0)
    copy_login(cluster, namespace)
    prepare_namespace(namespace, settings=SETTINGS, authority=testbed.authority)
    body = session_pod(environ={"PYTHONPATH": PLACE})
    body["spec"]["containers"][0] |= {"command": ["sleep", "3600"], "args": []}
    namespace.create(body)
    session = Session(namespace, namespace.wait_for_phase(SESSION, "Running")["status"]["podIP"])
    session.run(f"mkdir -p {PLACE} && cat > {PLACE}/sitecustomize.py", stdin=INJECTED.read_bytes())
    session.write_notebook("a.ipynb", "1")
    return Mortal(session)


def jobs_of(session: Session) -> list[str]:
    found = session.namespace.cluster.list("batch/v1", "Job", namespace=session.namespace.name)
    return [job["metadata"]["labels"]["jupyterlab-ai-batch/submission"] for job in found]


def test_a_kill_between_any_two_calls(
    mortal: Mortal, registry: Callable, state_figure: Callable[[str], None], capsys: pytest.CaptureFixture
):
    """Whatever was under way: asked again, there is one Submission, with one Job, or none and the reason."""
    mortal.start()
    steps = mortal.submit(die_at=10_000)
    clean_up(mortal)
    steps = mortal.submit(die_at=10_000)  # the second one is of an environment that is known
    clean_up(mortal)
    assert len(steps) >= 20, steps
    every = max(1, -(-len(steps) // MOST_POINTS))
    outcomes: Counter[str] = Counter()
    for number in range(1, len(steps) + 1, every):
        passed = mortal.submit(die_at=number)
        mortal.start()
        outcomes[settle(mortal, f"killed after {passed[-1:]} ({number})")] += 1
        clean_up(mortal)
    with registry("users/alice", user="alice") as repository:
        for tag in [tag for tag in repository.tag_names() if tag.startswith("snapshot-")]:
            manifest, _ = repository.get_manifest(tag)
            assert [found.digest for found in mentioned(manifest) if not repository.has_blob(found.digest)] == [], tag
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    state_figure(f"kill -9 at {sum(outcomes.values())} of {len(steps)} steps of a submit: {told}")
    assert sum(outcomes.values()) >= 20


def settle(mortal: Mortal, when: str) -> str:
    """How it ended: as its state says, with the Jobs that belong to that."""
    session = mortal.session
    submission = mortal.submit_again()
    seen = wait_for(
        f"a clear state: {when}",
        lambda: session.get(submission),
        until=lambda seen: seen["state"] in WAITS | {"failed"},
        within_s=60,
    )
    jobs = jobs_of(session)
    if seen["state"] == "failed":
        assert jobs == [], (when, seen)
        assert seen["explanation"]["code"] == "capture_interrupted", (when, seen)
        assert seen["explanation"]["resolution"], (when, seen)
        return "without a Job, and said so"
    assert jobs == [submission], (when, seen)
    listed = [one["id"] for one in session.call("GET", "submissions?state=queued&state=blocked")["submissions"]]
    assert listed == [submission], (when, listed)
    return "with one Job"


def clean_up(mortal: Mortal) -> None:
    """End what waits; nothing of it is left in the cluster."""
    session = mortal.session
    for one in session.call("GET", "submissions?limit=5")["submissions"]:
        if one["state"] in WAITS:
            session.call("POST", f"submissions/{one['id']}/cancel")
            session.wait_for(one["id"], "cancelled")
    wait_for("the Jobs are gone", lambda: jobs_of(session) == [])
