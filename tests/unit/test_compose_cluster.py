"""Whether jobs go to the cluster, and what is known of it then."""

import base64
import json
from pathlib import Path

import pytest

from jupyterlab_ai_batch import compose_cluster
from jupyterlab_ai_batch.compose import BatchConfig, build_config
from jupyterlab_ai_batch.errors import InvalidSubmissionError, QueueUnreachableError, SessionUnusableError
from jupyterlab_ai_batch.oci.probe import Step
from jupyterlab_ai_batch.queues.kueue import api_client, api_connection
from jupyterlab_ai_batch.queues.kueue.settings import DEFAULT_ENVIRONMENT
from jupyterlab_ai_batch.wire import dumps, loads

POD = {"POD_NAME": "jupyter-alice", "POD_NAMESPACE": "user-alice"}
SETTINGS = {"repository": "registry.example/users/alice", "queues": ["batch", "night"]}
SLICE = {
    "name": "slice",
    "title": "One slice",
    "gpu_slots": 1,
    "gpu_resource": "nvidia.com/mig-1g.5gb",
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "node_selector": {"pool": "*"},
}


class Queues:
    """A cluster that knows some LocalQueues, or is silent; a port of its own, not the API server's."""

    names = frozenset({"batch"})
    silent = False

    def __init__(self, settings):
        self.settings = settings

    async def get(self, resource, name):
        if self.silent:
            raise QueueUnreachableError("The cluster does not answer.")
        assert (resource.plural, self.settings.namespace) == ("localqueues", "user-alice")
        return {"metadata": {"name": name}} if name in self.names else None

    async def close(self):
        pass


@pytest.fixture
def in_pod(tmp_path, monkeypatch):
    """A pod with a service account; the cluster has the LocalQueue ``batch``."""
    (tmp_path / "token").write_text("x")
    monkeypatch.setattr(api_connection, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(Queues, "names", frozenset({"batch"}))
    monkeypatch.setattr(Queues, "silent", False)
    monkeypatch.setattr(api_client, "KubernetesApi", Queues)
    return tmp_path


def choose(environ=POD, *, is_prepared=False, **settings):
    return compose_cluster.choose_cluster({**SETTINGS, **settings}, environ=environ, is_prepared=is_prepared)


def test_from_a_prepared_pod_jobs_go_to_the_cluster(in_pod):
    registry = {"registry_secret": "login", "registry_ca_file": "/ca", "mount_from": ["environments"]}
    found = choose(profiles=[SLICE], **registry)
    settings = found.settings
    assert ("jupyter-alice", "user-alice", ("batch", "night")) == (found.pod, settings.namespace, settings.queues)
    assert (Path("/ca"), None, ("environments",)) == (
        found.registry_ca_file,
        found.registry_auth_file,
        found.mount_from,
    )
    assert ("login", DEFAULT_ENVIRONMENT) == (settings.registry_secret, settings.environment_allow)
    (profile,) = settings.profiles
    assert ("slice", 1) == (profile.profile.name, profile.profile.gpu_slots)
    assert ("nvidia.com/mig-1g.5gb", {"pool": "*"}) == (profile.gpu_resource, profile.node_selector)
    assert ({"key": "gpu", "operator": "Exists"},) == profile.tolerations


def test_a_silent_cluster_is_not_given_up(in_pod, monkeypatch):
    """Jobs may be running there: the local queue would call them lost."""
    monkeypatch.setattr(Queues, "silent", True)
    assert choose() is not None


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ("no queue", {}),
        ("no token", {}),
        ("no pod", {}),
        ("", {"repository": ""}),
        ("", {"backend": "local"}),
    ],
)
def test_elsewhere_jobs_stay_on_the_machine(in_pod, monkeypatch, change, settings):
    if change == "no queue":
        monkeypatch.setattr(Queues, "names", frozenset())
    if change == "no token":
        (in_pod / "token").unlink()
    assert choose({} if change == "no pod" else POD, **settings) is None


def test_kueue_by_name_asks_nobody(in_pod, monkeypatch):
    """The admin's word counts, also while the cluster has no such queue yet."""
    monkeypatch.setattr(Queues, "names", frozenset())
    (in_pod / "token").unlink()
    assert choose(backend="kueue", queues=None).settings.queues == ("default",)
    (profile,) = choose(backend="kueue").settings.profiles
    assert profile.profile.name == "cpu"


@pytest.mark.parametrize(
    ("environ", "settings", "error", "said"),
    [
        ({}, {}, SessionUnusableError, "own pod"),
        (POD, {"repository": ""}, InvalidSubmissionError, "repository"),
        (POD, {"repository": "registry.example/users/alice:v1"}, InvalidSubmissionError, "without a tag"),
        (POD, {"repository": "UPPER CASE"}, InvalidSubmissionError, "UPPER CASE"),
        (POD, {"backend": "slurm"}, InvalidSubmissionError, "auto, local, kueue"),
        (POD, {"queues": [1]}, InvalidSubmissionError, "queues"),
        (POD, {"profiles": [{"name": "a"}]}, InvalidSubmissionError, "profiles"),
        (POD, {"profiles": ["a"]}, InvalidSubmissionError, "profiles"),
        (POD, {"profiles": [{**SLICE, "tolerations": 3}]}, InvalidSubmissionError, "tolerations"),
    ],
)
def test_what_is_wrong_is_said(in_pod, environ, settings, error, said):
    with pytest.raises(error) as raised:
        choose(environ, **{"backend": "kueue", **settings})
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_the_configuration_travels(in_pod, tmp_path):
    """To the capture's process, whole and without the environment's secrets."""
    environ = {**POD, "JUPYTERHUB_API_TOKEN": "hidden"}
    config = build_config({**SETTINGS, "profiles": [SLICE]}, root_dir=tmp_path, data_dir=tmp_path, environ=environ)
    text = dumps(config)
    assert loads(BatchConfig, text) == config
    assert "hidden" not in text
    assert json.loads(text)["cluster"]["settings"]["namespace"] == "user-alice"
    assert config.profiles[0].name == "slice"


@pytest.mark.parametrize(
    ("environ", "settings", "is_found"),
    [(POD, {}, True), ({}, {}, False), (POD, {"repository": None}, False), (POD, {"backend": "local"}, False)],
)
def test_what_an_admin_meant(tmp_path, monkeypatch, environ, settings, is_found):
    """Without a token and without a queue it is the cluster all the same, and nobody is asked."""
    monkeypatch.setattr(api_connection, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(api_client, "KubernetesApi", None)
    assert is_found == (choose(environ, is_prepared=True, **settings) is not None)


def test_a_probe_without_credentials(tmp_path):
    """A file that should have been mounted is missed before anybody is asked."""
    config = choose(is_prepared=True, registry_auth_file=tmp_path / "config.json")
    found = compose_cluster.probe_registry(config, {}, None)
    assert (Step.NO_LOGIN, "registry.example") == (found.step, found.origin.host)


@pytest.mark.parametrize(
    ("claims", "name"),
    [({"kubernetes.io": {"serviceaccount": {"name": "notebook"}}}, "notebook"), ({"sub": "x"}, ""), ([], "")],
)
def test_whose_token_it_is(tmp_path, claims, name):
    """As its claims say; a token of another kind says nothing."""
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    (tmp_path / "token").write_text(f"e30.{middle}.x")
    assert name == api_connection.read_account(tmp_path)


def test_no_token(tmp_path):
    assert api_connection.read_account(tmp_path) == ""
