"""The cluster's words about a job that it refuses, and what an admin applies."""

import json

import pytest
import yaml

from jupyterlab_ai_batch.queues.kueue.refusals import find_remedy

# As Kubernetes v1.36 and Kueue v0.19 say it.
NO_ACCOUNT = 'pods "a" is forbidden: error looking up service account alice/jobs: serviceaccount "jobs" not found'
QUOTA = (
    'pods "a" is forbidden: exceeded quota: tight, requested: limits.memory=512Mi,requests.cpu=200m,'
    " used: limits.memory=2Gi,requests.cpu=1, limited: limits.memory=2Gi,requests.cpu=1"
)
LIMIT_MEMORY = 'pods "a" is forbidden: maximum memory usage per Container is 256Mi, but limit is 512Mi'
LIMIT_CPU = 'pods "a" is forbidden: [maximum cpu usage per Container is 1500m, but limit is 4, other]'
ROOT = 'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsUser=0 (pod must not set runAsUser=0)'
VOLUME = 'pods "a" is forbidden: violates PodSecurity "restricted:latest": restricted volume types (volume "x": "nfs")'
POLICY = "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"
WEBHOOK_RULE = 'admission webhook "vjob.kb.io" denied the request: no'
WEBHOOK = (
    'The cluster cannot answer now: Internal error occurred: failed calling webhook "mjob.kb.io": failed to call'
    ' webhook: Post "https://kueue-webhook-service.kueue-system.svc:443/mutate?timeout=10s": connection refused'
)


@pytest.mark.parametrize(
    ("message", "cause", "line"),
    [
        (NO_ACCOUNT, "There is no ServiceAccount jobs", "kind: ServiceAccount"),
        (LIMIT_MEMORY, "allows 256Mi memory, and the profile slice asks for 512Mi", '"memory_bytes": 268435456,'),
        (LIMIT_CPU, "allows 1500m cpu", '"cpu_millicores": 1500,'),
        (ROOT, "Pod Security restricted", "c.KubeSpawner.uid = 1000"),
        (VOLUME, "Pod Security restricted", "pod-security.kubernetes.io/enforce=baseline --overwrite"),
        (POLICY, "ValidatingAdmissionPolicy p", "kubectl get validatingadmissionpolicy p --output=yaml"),
        (WEBHOOK_RULE, "webhook vjob.kb.io refuses", "kubectl get validatingwebhookconfigurations"),
        (WEBHOOK, "webhook mjob.kb.io does not answer", "--namespace=kueue-system --replicas=1"),
    ],
)
def test_each_refusal_has_its_remedy(message, cause, line):
    """The rule by its name, and lines that change it."""
    remedy = find_remedy(message, namespace="alice", profile="slice")
    assert remedy is not None
    assert cause in remedy.cause
    assert line in remedy.fix


def test_a_quota_is_raised_by_what_is_missing():
    """Used and requested together, each resource in its own unit."""
    remedy = find_remedy(QUOTA, namespace="alice", profile="slice")
    assert remedy is not None
    patch = json.loads(remedy.fix.partition("--patch='")[2].rstrip("'\n"))
    assert {"limits.memory": str(2560 * 1024**2), "requests.cpu": "1200m"} == patch["spec"]["hard"]


def test_an_account_is_made_where_it_is_missed():
    """In the namespace of the jobs."""
    remedy = find_remedy(NO_ACCOUNT, namespace="alice", profile="slice")
    assert remedy is not None
    assert {"name": "jobs", "namespace": "alice"} == yaml.safe_load(remedy.fix)["metadata"]


def test_other_words_have_no_remedy():
    """What nobody foresaw is shown as it is."""
    assert find_remedy("quota of patience exceeded", namespace="alice", profile="slice") is None
