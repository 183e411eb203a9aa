"""Who may do what: RBAC for service accounts, admission policies, Pod Security."""

from collections.abc import Callable, Iterator

import pytest
from kubernetes.dynamic.exceptions import ForbiddenError, UnprocessibleEntityError

from .objects import QUEUE_LABEL, job, pod, pod_spec
from .reach import Cluster, Namespace, unique, wait_for

RBAC = "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"


@pytest.fixture
def as_notebook(cluster: Cluster, namespace: Namespace) -> Iterator[Cluster]:
    """The cluster as a service account that may create Jobs and get pods here, and nothing else."""
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]
    subject = {"kind": "ServiceAccount", "name": "notebook", "namespace": namespace.name}
    named = {"metadata": {"name": "notebook"}}
    namespace.create({"apiVersion": "v1", "kind": "ServiceAccount", **named})
    namespace.create({"apiVersion": RBAC, "kind": "Role", "rules": rules, **named})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "notebook"}
    namespace.create({"apiVersion": RBAC, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference, **named})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = cluster.core.create_namespaced_service_account_token("notebook", namespace.name, body).status.token
    reached = Cluster(token=token)
    yield reached
    reached.close()


def test_token_may_do_what_its_role_says(as_notebook: Cluster, namespace: Namespace, shell_image: str):
    body = job("allowed", pod_spec(shell_image, "true"))

    wait_for("the role is in force", lambda: _is_allowed(as_notebook, body, namespace.name))

    assert as_notebook.create(body, namespace=namespace.name)["metadata"]["name"] == "allowed"


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("v1", "Pod"), ("v1", "Secret"), ("v1", "ConfigMap"), ("batch/v1", "Job")],
)
def test_token_may_list_nothing(as_notebook: Cluster, namespace: Namespace, api_version: str, kind: str):
    with pytest.raises(ForbiddenError):
        as_notebook.list(api_version, kind, namespace=namespace.name)


def test_token_may_do_nothing_elsewhere(as_notebook: Cluster, make_namespace: Callable, shell_image: str):
    other = make_namespace("other")

    with pytest.raises(ForbiddenError):
        as_notebook.create(job("foreign", pod_spec(shell_image, "true")), namespace=other.name)


@pytest.fixture
def guarded(cluster: Cluster, namespace: Namespace) -> Iterator[Namespace]:
    """A namespace where a Job must name the batch queue."""
    name = unique("must-queue")
    expression = f"object.metadata.?labels['{QUEUE_LABEL}'].orValue('') == 'batch'"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression, "message": "A Job must name the queue batch."}],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    }
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    for kind, spec in kinds.items():
        cluster.create({"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
    yield namespace
    for kind in kinds:
        cluster.delete(ADMISSION, kind, name)


def test_admission_policy_refuses_and_says_why(guarded: Namespace, shell_image: str):
    spec = pod_spec(shell_image, "true")

    def refusal() -> str | None:
        """Its text; policies come into force a moment after they are made."""
        try:
            guarded.create(job(unique("unqueued"), spec), dry_run="All")
        except UnprocessibleEntityError as error:
            return str(error.body)
        return None

    assert "A Job must name the queue batch." in wait_for("a Job without a queue is refused", refusal)
    guarded.create(job("queued", spec, labels={QUEUE_LABEL: "batch"}), dry_run="All")


def test_pod_security_refuses_privileged_pods(make_namespace: Callable, shell_image: str):
    restricted = make_namespace(**{"pod-security.kubernetes.io__enforce": "restricted"})
    privileged = pod_spec(shell_image, "true")
    privileged["containers"][0]["securityContext"] = {"privileged": True}

    with pytest.raises(ForbiddenError, match="violates PodSecurity"):
        restricted.create(pod("privileged", privileged))

    restricted.create(pod("modest", pod_spec(shell_image, "true")))


def _is_allowed(reached: Cluster, body: dict, namespace: str) -> bool:
    try:
        return bool(reached.create(body, namespace=namespace, dry_run="All"))
    except ForbiddenError:
        return False
