"""What our own cluster promises about its parts."""

import os
import signal

from .objects import pod, pod_spec
from .reach import Cluster, Namespace, Testbed, wait_for


def test_component_that_dies_comes_back(testbed: Testbed, cluster: Cluster):
    before = testbed.component("scheduler")

    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = testbed.component("scheduler")
        return now["state"] == "ready" and now["pid"] != before["pid"]

    assert wait_for("the scheduler is back", back)
    assert testbed.component("scheduler")["restarts"] == before["restarts"] + 1


def test_image_cannot_be_pulled_while_the_registry_is_down(testbed: Testbed, namespace: Namespace, shell_image: str):
    testbed.stop("registry")
    try:
        spec = pod_spec(shell_image, "true")
        spec["containers"][0]["imagePullPolicy"] = "Always"
        namespace.create(pod("waits", spec))
        wait_for("the pull fails", lambda: _waiting_reason(namespace) in {"ErrImagePull", "ImagePullBackOff"})
    finally:
        testbed.start("registry")

    namespace.wait_for_phase("waits", "Succeeded")


def _waiting_reason(namespace: Namespace) -> str | None:
    statuses = namespace.pod("waits")["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {}).get("waiting", {}).get("reason")
