"""The whole way from a session in a pod to its own files and back: what a user of the shared pool sees."""

from collections.abc import Callable

import pytest

from .hub import Session, start_session
from .queues import Kueue
from .reach import Cluster, Namespace, Testbed, wait_for

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def session(testbed: Testbed, cluster: Cluster, kueue: Kueue, make_namespace: Callable[..., Namespace]) -> Session:
    """A user's, under Pod Security ``restricted``, beside a pool of one slice."""
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    namespace = make_namespace("user", **{"pod-security.kubernetes.io__enforce": "restricted"})
    kueue.make_pool(slices=1, fair=False).admit(namespace)
    authority = (testbed.directory / "certificates" / "ca.crt").read_text()
    return start_session(cluster, namespace, authority=authority, environ={"OMP_NUM_THREADS": "3", "SITE": "here"})


def test_a_notebook_runs_and_comes_home(session: Session):
    """submit → queued → running → succeeded, with the executed notebook and the files at home."""
    session.write_notebook("study/a.ipynb", "open('result.txt', 'w').write('42')", "print('hello')")
    submission = session.submit("study/a.ipynb")
    seen = session.wait_for(submission)
    assert (seen["backend"], seen["state"], seen["outputs"]["state"]) == ("kueue", "succeeded", "collected"), seen
    assert session.read("study/result.txt") == "42"
    assert "hello" in session.run('cat "$HOME"/study/a*.ipynb')
