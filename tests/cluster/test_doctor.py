"""Whatever is taken away from a session, ``doctor`` names it, and what it prints mends it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from .hub import (
    AUTHORITIES,
    PROFILE,
    REPOSITORY,
    SECRET,
    SESSION,
    WAITS,
    Session,
    answers,
    objects_of_docs,
    session_pod,
    start_session,
)
from .mending import (
    WRONG_LOGIN,
    applied,
    apply,
    credentials,
    doctor,
    forget_events,
    get,
    heal,
    healed,
    kubectl,
    look,
    missing,
    patch,
    patched,
    policy_ports,
    service_address,
    shut,
)
from .queues import Kueue
from .reach import KUEUE, Cluster, Namespace, Testbed, unique, wait_for

pytestmark = pytest.mark.timeout(400)

RBAC = "rbac.authorization.k8s.io/v1"
ROLE = "ai-batch"
VISIBILITY = "v1beta2.visibility.kueue.x-k8s.io"
RIGHTS = [
    (index, verb)
    for body in objects_of_docs()
    if body["kind"] == "Role"
    for index, rule in enumerate(body["rules"])
    for verb in rule["verbs"]
]


@pytest.fixture(scope="module")
def session(cluster: Cluster, testbed: Testbed) -> Iterator[Session]:
    """One for all: each test gives back what it takes away."""
    kueue = Kueue(cluster)
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    name = unique("doctor")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_for("the default account", lambda: cluster.get("v1", "ServiceAccount", "default", namespace=name))
    namespace = Namespace(cluster, name)
    kueue.make_pool(slices=1, fair=False).admit(namespace)
    yield start_session(cluster, namespace, authority=testbed.authority)
    cluster.delete("v1", "Namespace", name)
    kueue.clean_up()


def test_a_whole_session_lacks_nothing(session: Session):
    """Every check holds; the command line says the same as the server."""
    told = {name: check["ok"] for name, check in doctor(session).items()}
    assert dict.fromkeys(told, True) == told
    assert set(look(session)) <= set(told)


def test_each_right_of_the_role(session: Session):
    """One right at a time: its verb and resource are named, and the Role that is printed adds it."""
    role = session.namespace.cluster.get(RBAC, "Role", ROLE, namespace=session.namespace.name)
    assert role is not None
    rules = role["rules"]
    for index, verb in RIGHTS:
        rule = rules[index]
        verbs = [other for other in rule["verbs"] if other != verb]
        less = [*rules[:index], *([{**rule, "verbs": verbs}] if verbs else []), *rules[index + 1 :]]
        with patched(session, RBAC, "Role", ROLE, {"rules": less}, {"rules": rules}):
            resource, _, sub = rule["resources"][0].partition("/")
            group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] else ""
            words = f"{verb} {resource}{group}{'/' * bool(sub)}{sub}"
            check = missing(session, "rights", "helpful_rights", says=words)
            with applied(session, check["fix"]):
                healed(session, check["name"])


def test_queues(session: Session):
    """A LocalQueue that is gone or stopped, a ClusterQueue that is stopped or gone."""
    namespace = session.namespace
    queue = get(session, KUEUE, "LocalQueue", "batch")
    pool = queue["spec"]["clusterQueue"]
    look(session)
    namespace.cluster.delete(KUEUE, "LocalQueue", "batch", namespace=namespace.name)
    heal(session, missing(session, "queue batch", says="no LocalQueue of that name"))
    assert pool == get(session, KUEUE, "LocalQueue", "batch")["spec"]["clusterQueue"]

    patch(session, KUEUE, "LocalQueue", "batch", {"spec": {"stopPolicy": "Hold"}})
    heal(session, missing(session, "queue batch", says="stopped"))

    namespace.cluster.patch(KUEUE, "ClusterQueue", pool, {"spec": {"stopPolicy": "Hold"}})
    heal(session, missing(session, "queue batch", says="takes no jobs"))

    namespace.cluster.delete(KUEUE, "ClusterQueue", pool)
    heal(session, missing(session, "queue batch", says="takes no jobs"))


def test_positions(session: Session):
    """Kueue's visibility API, taken out of the aggregation layer."""
    session.namespace.cluster.delete("apiregistration.k8s.io/v1", "APIService", VISIBILITY)
    heal(session, missing(session, "positions", says="no APIService"))


def test_rules_about_pods(session: Session):
    """A quota and a limit that leave no room for a job."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}}
    session.namespace.create({**quota, "spec": {"hard": {"requests.memory": "600Mi"}}})
    wait_for("it counts", lambda: get(session, "v1", "ResourceQuota", "tight").get("status", {}).get("used"))
    heal(session, missing(session, "pod", says="ResourceQuota tight"))
    session.namespace.cluster.delete("v1", "ResourceQuota", "tight", namespace=session.namespace.name)

    limit = {"type": "Container", "max": {"memory": "256Mi"}}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "low"}, "spec": {"limits": [limit]}}
    session.namespace.create(body)
    check = missing(session, "pod", says="LimitRange allows 256Mi memory")
    assert '"memory_bytes": 268435456,' in check["fix"]
    session.namespace.cluster.delete("v1", "LimitRange", "low", namespace=session.namespace.name)
    healed(session, "pod")


def test_secret_of_jobs(session: Session):
    """A job did not find it; once it is made anew that very job goes on, and nothing is missing."""
    login = get(session, "v1", "Secret", SECRET)
    session.namespace.cluster.delete("v1", "Secret", SECRET, namespace=session.namespace.name)
    submission = session.submit_cells("secret", WAITS)
    check = missing(session, "registry_secret", says=f"Secret {SECRET}")
    user, password = credentials(login)
    apply(session, check["fix"].replace("USER", user).replace("PASSWORD", password))
    session.wait_for(submission, "running")
    session.call("POST", f"submissions/{submission}/cancel")
    healed(session, "registry_secret")


def test_authorities_of_jobs(session: Session):
    """The kubelet says that the session's own ConfigMap is gone; what it said is forgotten after a while."""
    kept = get(session, "v1", "ConfigMap", AUTHORITIES)
    session.namespace.cluster.delete("v1", "ConfigMap", AUTHORITIES, namespace=session.namespace.name)
    patch(session, "v1", "Pod", SESSION, {"metadata": {"annotations": {"look": "again"}}})
    check = missing(session, "registry_authorities", says=f"ConfigMap {AUTHORITIES}")
    apply(session, check["fix"], files={"AUTHORITY.pem": kept["data"]["ca.crt"]})
    forget_events(session)
    healed(session, "registry_authorities")


@pytest.mark.parametrize(
    ("component", "says"), [("registry", "Nothing listens at"), ("coredns", "cannot be looked up")]
)
def test_network_of_the_registry(session: Session, testbed: Testbed, component: str, says: str):
    """A way that is shut is named with what a NetworkPolicy would have to allow."""
    testbed.stop(component)
    try:
        check = missing(session, "registry", says=says)
    finally:
        testbed.start(component)
    assert policy_ports(check["fix"]) >= {53, 443}
    apply(session, check["fix"])
    healed(session, "registry")


def test_way_to_the_registry(session: Session):
    """Packets to the registry get lost: its address and port are named."""
    port = REPOSITORY.partition("/")[0].rpartition(":")[2]
    with shut(["-s", session.address, "-p", "tcp", "--dport", port, "-j", "DROP"]):
        check = missing(session, "registry", says="gives no answer at")
    assert int(port) in policy_ports(check["fix"])
    apply(session, check["fix"])
    healed(session, "registry")


@pytest.mark.parametrize(
    ("settings", "environ", "name", "says", "fix"),
    [
        (
            {"repository": "nowhere.testbed:5000/users/alice"},
            "",
            "registry",
            "has no address",
            "c.BatchExtensionApp.rep",
        ),
        ({"repository": REPOSITORY.replace("alice", "bob")}, "", "registry", "does not let", "users/bob"),
        ({"registry_ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "", "registry", "not trusted", "AUTHORITY.pem"),
        ({"registry_auth_file": WRONG_LOGIN}, "", "registry", "does not accept", "docker-password=PASSWORD"),
        ({"registry_auth_file": "/nowhere.json"}, "", "registry", "is not there", "registry_auth_file"),
        ({"service_account": "jobs"}, "", "pod", "no ServiceAccount jobs", "kind: ServiceAccount"),
        (
            {"profiles": [{**PROFILE, "gpu_resource": "x.example/y"}]},
            "",
            "queue batch",
            "gives no x.example/y",
            "kubectl",
        ),
        ({}, "-u POD_NAME", "own_pod", "POD_NAME missing", "metadata.name"),
    ],
)
def test_settings(session: Session, settings: Mapping[str, Any], environ: str, name: str, says: str, fix: str):
    """What an admin set wrongly, as the command line finds it in a configuration that goes before the hub's."""
    told = doctor(session, settings, environ)
    assert told[name]["ok"] is False, told
    assert says in told[name]["summary"]
    assert fix in told[name]["fix"]
    if "\nkind: " in told[name]["fix"] or "\nkubectl patch" in told[name]["fix"]:
        apply(session, told[name]["fix"])
        wait_for("it holds", lambda: doctor(session, settings, environ)[name], until=lambda check: check["ok"] is True)


def test_network_of_the_cluster(session: Session):
    """The API server's address is shut for the session: doctor says so, and looks at the registry all the same."""
    rule = ["-s", session.address, "-d", service_address(session), "-p", "tcp", "-j", "DROP"]
    with shut(rule):
        checks = doctor(session)
    assert (False, True) == (checks["api"]["ok"], checks["registry"]["ok"])
    assert 443 in policy_ports(checks["api"]["fix"])
    apply(session, checks["api"]["fix"])
    assert look(session)["api"]["ok"]


def test_webhook_of_kueue(session: Session):
    """Kueue does not run: no Job could be made, and no position is told."""
    kubectl("scale", "deployment/kueue-controller-manager", "--namespace=kueue-system", "--replicas=0")
    missing(session, "positions", says="does not answer")
    check = missing(session, "pod", says="webhook")
    heal(session, check)
    healed(session, "positions")
    kubectl("rollout", "status", "deployment/kueue-controller-manager", "--namespace=kueue-system", "--timeout=60s")


def test_own_account(session: Session):
    """Last, for the token dies with it: the account is named, and made anew by what is printed."""
    session.namespace.cluster.delete("v1", "ServiceAccount", "notebook", namespace=session.namespace.name)
    check = missing(session, "api", says="ServiceAccount is notebook")
    apply(session, check["fix"])

    namespace = session.namespace
    namespace.cluster.delete("v1", "Pod", SESSION, namespace=namespace.name)
    wait_for("the session has ended", lambda: namespace.pod(SESSION) is None)
    namespace.create(session_pod(environ={}))
    again = Session(namespace, namespace.wait_for_phase(SESSION, "Running")["status"]["podIP"])
    wait_for("the server answers", lambda: answers(again))
    healed(again, "api")
