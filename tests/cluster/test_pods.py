"""Pods run for real: their logs, their limits, their images, their network."""

from .objects import pod, pod_spec, service
from .reach import Namespace, wait_for

PORT = 8080


def _container_status(found: dict) -> dict:
    return (found["status"].get("containerStatuses") or [{}])[0]


def test_a_pod_runs_and_its_log_is_read(namespace: Namespace, shell_image: str):
    namespace.create(pod("speaks", pod_spec(shell_image, "echo one; echo two >&2")))

    found = namespace.wait_for_phase("speaks", "Succeeded", "Failed")

    assert found["status"]["phase"] == "Succeeded"
    assert sorted(namespace.log("speaks").splitlines()) == ["one", "two"]


def test_exit_status_of_a_failing_pod(namespace: Namespace, shell_image: str):
    namespace.create(pod("fails", pod_spec(shell_image, "exit 7")))

    found = namespace.wait_for_phase("fails", "Succeeded", "Failed")

    assert _container_status(found)["state"]["terminated"]["exitCode"] == 7


def test_memory_limit_kills(namespace: Namespace, shell_image: str):
    """The kernel kills what takes more than its limit, and the pod's status says so."""
    namespace.create(pod("greedy", pod_spec(shell_image, "tail /dev/zero", resources={"memory": "24Mi"})))

    found = namespace.wait_for_phase("greedy", "Succeeded", "Failed")

    terminated = _container_status(found)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


def test_missing_image_is_reported(namespace: Namespace, shell_image: str):
    namespace.create(pod("no-image", pod_spec(shell_image.replace("busybox", "no-such-image"), "true")))

    def reason() -> str | None:
        waiting = _container_status(namespace.pod("no-image")).get("state", {}).get("waiting", {})
        return waiting.get("reason") if waiting.get("reason") != "ContainerCreating" else None

    assert wait_for("the image cannot be pulled", reason) in {"ErrImagePull", "ImagePullBackOff"}


def test_service_is_found_by_name_and_by_address(namespace: Namespace, shell_image: str):
    """CoreDNS answers with the ClusterIP, and kube-proxy leads both to the pod."""
    answer = f"while true; do echo hello from here | nc -l -p {PORT}; done"
    namespace.create(pod("server", pod_spec(shell_image, answer), labels={"app": "server"}))
    namespace.wait_for_phase("server", "Running")
    address = namespace.create(service("greeter", {"app": "server"}, port=PORT))["spec"]["clusterIP"]
    name = f"greeter.{namespace.name}.svc.cluster.local"
    # The server is deaf between two answers, and the rules of the Service take a moment to arrive.
    retry = 'retry() { for i in 1 2 3 4 5 6 7 8 9 10; do "$@" && return; sleep 0.5; done; return 1; }'
    ask = f"for host in {address} {name} greeter; do retry nc -w 5 $host {PORT} </dev/null || exit 1; done"

    namespace.create(pod("client", pod_spec(shell_image, f"{retry}; retry nslookup {name} && {ask}")))
    namespace.wait_for_phase("client", "Succeeded", "Failed")

    log = namespace.log("client")
    assert log.count("hello from here") == 3, log
    assert address in log
