"""The parts of ``deploy/`` fit each other, and the product; what they do on a cluster is tested there."""

import ast
from pathlib import Path

import pytest
import yaml
from traitlets.config import Config

from jupyterlab_ai_batch.app import BatchExtensionApp

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FOLDERS = sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))
LABEL = "jupyterlab-ai-batch/user"


def objects(folder):
    """What a folder's own files hold, by kind and name."""
    listed = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())["resources"]
    found = [body for name in listed for body in yaml.safe_load_all((DEPLOY / folder / name).read_text())]
    return {(body["kind"], body["metadata"]["name"]): body for body in found}


def named(folder, kind):
    return {name: body for (of_kind, name), body in objects(folder).items() if of_kind == kind}


def configured(name):
    """What a configuration file of the example sets."""
    config = Config()
    exec(compile((DEPLOY / "example" / name).read_text(), name, "exec"), {"get_config": lambda: config})  # noqa: S102
    return config


@pytest.fixture
def server(monkeypatch):
    """What the extension of alice's server is told."""
    monkeypatch.setenv("JUPYTERHUB_USER", "alice")
    return configured("user/jupyter_server_config.py").BatchExtensionApp


def variable(policy, name):
    """A list at the top of a policy."""
    found = named("policies", "ValidatingAdmissionPolicy")[policy]["spec"]["variables"]
    return ast.literal_eval(next(one["expression"] for one in found if one["name"] == name))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_file_is_applied(folder):
    """A kustomization names each manifest beside it."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    beside = [path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"]
    assert sorted(beside) == sorted(name for name in listed if name.endswith(".yaml"))
    assert [name for name in listed if not (folder / name).exists()] == []


def test_every_policy_is_in_force_for_users():
    """Each has a binding that denies, in the namespaces that the template makes."""
    bindings = named("policies", "ValidatingAdmissionPolicyBinding")
    namespace = objects("user")["Namespace", "user"]["metadata"]
    selector = {"matchLabels": {LABEL: namespace["labels"][LABEL]}}
    assert bindings.keys() == named("policies", "ValidatingAdmissionPolicy").keys()
    for name, binding in bindings.items():
        expected = (name, ["Deny"], selector)
        spec = binding["spec"]
        assert expected == (spec["policyName"], spec["validationActions"], spec["matchResources"]["namespaceSelector"])


def test_every_policy_says_what_to_do():
    """What is wrong, a colon, what to change."""
    for policy in named("policies", "ValidatingAdmissionPolicy").values():
        assert policy["spec"]["failurePolicy"] == "Fail"
        for rule in policy["spec"]["validations"]:
            assert ": " in rule.get("message", rule.get("messageExpression", ""))


def test_users_queues_are_those_of_the_pool():
    """LocalQueues name its ClusterQueues, which are the ones that sessions may read."""
    pool = named("queues", "ClusterQueue")
    queues = named("user", "LocalQueue")
    assert {body["spec"]["clusterQueue"] for body in queues.values()} == pool.keys()
    readers = objects("pool-readers")["ClusterRole", "ai-batch-pool"]["rules"]
    assert [sorted(rule["resourceNames"]) for rule in readers] == [sorted(pool)]


def test_the_servers_settings_fit_the_namespace_and_the_policies(server):
    """Their queues and Secrets exist and are allowed, and the pool covers what the profiles ask for."""
    assert [name for name in server if name not in BatchExtensionApp.class_own_traits(config=True)] == []
    assert set(server.queues) <= named("user", "LocalQueue").keys()
    assert server.queues == variable("ai-batch-queue", "queues")
    assert [server.registry_secret] == variable("ai-batch-volumes", "secrets")
    pool = named("queues", "ClusterQueue").values()
    covered = [set(body["spec"]["resourceGroups"][0]["coveredResources"]) for body in pool]
    asked = {profile["gpu_resource"] for profile in server.profiles if "gpu_resource" in profile}
    assert [asked - found for found in covered] == [set(), set()]


def test_the_server_tells_of_the_pool_what_kueue_does(server):
    """The ClusterQueues are those of ``deploy/``, and the half-life is that of Kueue's configuration."""
    assert {name for names in server.pool_queues.values() for name in names} == named("queues", "ClusterQueue").keys()
    kueue = yaml.safe_load((DEPLOY / "kueue/configuration.yaml").read_text())
    assert f"{server.usage_half_life_s // 3600}h" == kueue["admissionFairSharing"]["usageHalfLifeTime"]


def test_the_hub_mounts_what_the_settings_read(server):
    """Secret and ConfigMaps of the example's kustomizations, at the paths that the settings name."""
    hub = configured("jupyterhub_config.py").KubeSpawner
    sources = {one["name"]: one.get("secret", {}).get("secretName") or one["configMap"]["name"] for one in hub.volumes}
    mounts = {sources[one["name"]]: one["mountPath"] for one in hub.volume_mounts}
    assert server.registry_auth_file == f"{mounts[server.registry_secret]}/config.json"
    assert server.registry_ca_file == f"{mounts[server.registry_ca_config_map]}/ca.crt"
    settings = yaml.safe_load((DEPLOY / "example/user/kustomization.yaml").read_text())
    assert {"batch-config", server.registry_ca_config_map} == {one["name"] for one in settings["configMapGenerator"]}
    assert hub.service_account in named("user", "ServiceAccount")
