"""What is kept of a single-user server's pod."""

from __future__ import annotations

import copy
from datetime import datetime, timezone

import pytest
from kueue_sessions import (
    BASE,
    FULL_SETTINGS,
    environment,
    hub_pod,
    make_entry,
    make_job,
    make_settings,
    mounts,
    pod_spec,
    small_pod,
    with_status,
)

from jupyterlab_ai_batch.errors import QueueError, SessionUnusableError
from jupyterlab_ai_batch.queues.kueue.identity import parse_session
from jupyterlab_ai_batch.queues.kueue.settings import DEFAULT_ENVIRONMENT

DIGEST = f"sha256:{'d' * 64}"
OTHER = f"sha256:{'e' * 64}"


def test_a_hubs_pod_is_read():
    """Which pod it is, what it runs and since when."""
    session = parse_session(hub_pod())
    assert (session.namespace, session.pod) == ("user-alice", "jupyter-alice")
    assert session.uid == "6c0f3c5e-3a54-4f0e-9d4b-0f5a3d0a8e11"
    assert session.image == BASE
    assert session.started_at == datetime(2026, 11, 22, 9, 0, 7, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("image_id", "spec_image", "expected"),
    [
        (f"registry.example/a/b@{DIGEST}", "other:1", f"registry.example/a/b@{DIGEST}"),
        (f"docker-pullable://registry.example:5000/a@{DIGEST}", "x", f"registry.example:5000/a@{DIGEST}"),
        (f"docker://{DIGEST}", "registry.example/a:1", f"registry.example/a@{DIGEST}"),
        (DIGEST, "registry.example/a/b:2026", f"registry.example/a/b@{DIGEST}"),
        (DIGEST, f"registry.example/a/b:1@{OTHER}", f"registry.example/a/b@{OTHER}"),
        (DIGEST, "lab", f"docker.io/library/lab@{DIGEST}"),
        (f"docker.io/library/lab@{DIGEST}", "lab", f"docker.io/library/lab@{DIGEST}"),
    ],
)
def test_the_image_is_known_by_digest(image_id, spec_image, expected):
    """In each form in which runtimes report it; a digest alone belongs to the specified repository."""
    pod = small_pod(container={"image": spec_image}, status={"imageID": image_id})
    assert parse_session(pod).image == expected


@pytest.mark.parametrize(
    "image_id", ["", None, 7, "registry.example/a:1", "sha256:12", "docker-pullable://", "UP@x", "a b"]
)
def test_an_image_without_digest_is_refused(image_id):
    """A tag may mean something else tomorrow."""
    with pytest.raises(SessionUnusableError) as caught:
        parse_session(small_pod(status={"imageID": image_id}))
    assert isinstance(caught.value, QueueError)
    assert caught.value.hint


@pytest.mark.parametrize("state", [None, {}, {"waiting": {}}, {"running": {}}, {"running": {"startedAt": "yesterday"}}])
def test_a_container_that_does_not_run_is_refused(state):
    """Nobody could tell what changed since it started."""
    with pytest.raises(SessionUnusableError, match="since when"):
        parse_session(small_pod(status={"state": state}))


def with_containers(*names):
    status = small_pod()["status"]["containerStatuses"][0]
    pod = small_pod(containers=[{"name": name, "image": f"{name}:1"} for name in names])
    pod["status"]["containerStatuses"] = [
        {**status, "name": name, "imageID": f"registry.example/{name}@{DIGEST}"} for name in names
    ]
    return pod


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (["notebook"], None, "notebook"),
        (["lab", "notebook"], None, "notebook"),
        (["istio-proxy", "lab"], None, "lab"),
        (["lab", "oauth-proxy", "fluent-bit"], None, "lab"),
        (["lab", "helper"], "lab", "lab"),
        (["notebook", "lab"], "lab", "lab"),
        (["lab"], None, "lab"),
    ],
)
def test_the_notebooks_container_is_found(names, given, found):
    """The one that was named, else ``notebook``, else the only one that is no sidecar."""
    assert parse_session(with_containers(*names), container=given).image == f"registry.example/{found}@{DIGEST}"


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (["lab", "helper"], None, "lab, helper"),
        (["istio-proxy"], None, "none"),
        (["notebook"], "lab", "'lab'"),
        ([], None, "none"),
    ],
)
def test_a_container_is_never_guessed(names, given, said):
    """The message says what was found, the hint whom to ask."""
    with pytest.raises(SessionUnusableError, match=said) as caught:
        parse_session(with_containers(*names), container=given)
    assert "admin" in caught.value.hint
    assert caught.value.details == {"containers": names}


def variables(*entries, allow=("*",)):
    """What of a session's environment a job gets, given these entries; ours left out."""
    job = make_job(small_pod(container={"env": list(entries)}), settings=make_settings(environment_allow=allow))
    own = {"JUPYTER_RUNTIME_DIR", "AI_BATCH_RUN", "AI_BATCH_POD_UID", "NVIDIA_VISIBLE_DEVICES"}
    found = environment(job)
    assert {name for name, _ in found[-4:]} == own
    return dict(found[:-4])


@pytest.mark.parametrize(
    "name",
    [
        *("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER", "jupyterhub_x", "JPY_API_TOKEN", "JPY_SESSION_NAME"),
        *(
            "HF_TOKEN",
            "hf_token",
            "TOKEN_FILE",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "APIKEY",
            "OPENAI_API_KEY",
        ),
        *("DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "SSH_PASSPHRASE", "NB_PASSWD", "GOOGLE_CREDENTIALS", "GITHUB_PAT"),
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_MIG_CONFIG_DEVICES"),
        *("AI_BATCH_RUN", "AI_BATCH_JOB", "JUPYTER_RUNTIME_DIR", "", "1X", "A B", "A=B"),
    ],
)
def test_some_variables_stay_with_the_session(name):
    """Whatever an admin allows: the server's own, secrets, its devices, ours."""
    assert variables({"name": name, "value": "value"}) == {}


@pytest.mark.parametrize(
    "name", ["PWD", "OLDPWD", "CPATH", "KEYBOARD", "JUPYTER_PATH", "NVIDIA_DRIVER_CAPABILITIES", "LANG"]
)
def test_other_variables_are_for_the_admin_to_allow(name):
    """Names that only look a little like secrets are none."""
    entry = {"name": name, "value": "value"}
    assert variables(entry) == {name: "value"}
    assert variables(entry, allow=("OTHER",)) == {}


@pytest.mark.parametrize(
    "value",
    ["http://alice:pw@proxy:3128", "https://ghp_0123@example/x", "see also: 12345678-secret!", "x12345678-secretx"],
)
def test_values_with_credentials_stay_too(value):
    """In a URL, or the same that a secret variable has."""
    secret = {"name": "DB_PASSWORD", "value": "12345678-secret"}
    assert variables(secret, {"name": "LANG", "value": value}, {"name": "TZ", "value": "UTC"}) == {"TZ": "UTC"}


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        (
            {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            {"fieldRef": {"fieldPath": "metadata.name"}},
        ),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, {"fieldRef": {"fieldPath": "spec.nodeName"}}),
        (
            {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi", "containerName": "notebook"}},
            {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
        ),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, {"resourceFieldRef": {"resource": "limits.cpu"}}),
        ({"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}, None),
        ({"fieldRef": {"fieldPath": "metadata.annotations['token']"}}, None),
        ({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}, None),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, None),
        ({"configMapKeyRef": {"name": "s", "key": "k"}}, None),
        ({}, None),
        ("x", None),
    ],
)
def test_only_harmless_sources_are_kept(source, kept):
    """Those that speak of the job's own pod; nothing is looked up elsewhere."""
    assert variables({"name": "LANG", "valueFrom": source}) == ({} if kept is None else {"LANG": kept})


def test_the_last_of_two_variables_counts():
    """As in the cluster; also when it is one that stays."""
    first, last = {"name": "LANG", "value": "a"}, {"name": "LANG", "value": "b"}
    assert variables(first, last) == {"LANG": "b"}
    assert variables(first, {"name": "LANG", "valueFrom": {"secretKeyRef": {}}}) == {}


@pytest.mark.parametrize("value", [7, True, None, [], {}, "a\0b", "x" * 100_000, "\ud800"])
def test_values_that_are_no_text_are_left_out(value):
    """None of them came from an API server."""
    assert variables({"name": "LANG", "value": value}) == {}


def test_what_is_usual_is_allowed_by_default():
    """The admin's own names are the admin's to add."""
    found = environment(make_job(hub_pod()))
    assert [name for name, _ in found] == [
        *("OMP_NUM_THREADS", "HF_HOME", "NVIDIA_DRIVER_CAPABILITIES", "NO_PROXY", "LANG"),
        *("JUPYTER_RUNTIME_DIR", "AI_BATCH_RUN", "NVIDIA_VISIBLE_DEVICES", "AI_BATCH_POD_UID"),
    ]
    assert ("SITE_REGION", "north") in environment(make_job(hub_pod(), settings=FULL_SETTINGS))
    assert "SITE_*" not in DEFAULT_ENVIRONMENT


def test_ids_are_the_sessions():
    """The server's process knows best, then the container, then the pod, then the status; else the image says."""
    own = {"securityContext": {"runAsUser": 1001, "runAsGroup": 101}}
    shared = {"runAsUser": 1002, "runAsGroup": 102, "fsGroup": 100, "supplementalGroups": [7, 7, "8", -1]}
    seen = {"user": {"linux": {"uid": 1003, "gid": 103}}}

    def ids(pod, **known):
        security = parse_session(pod, **known).security
        return (security.user_id, security.group_id)

    pod = small_pod(container=own, status=seen, securityContext=shared)
    assert ids(pod, user_id=1000, group_id=99) == (1000, 99)
    assert ids(pod) == (1001, 101)
    assert ids(small_pod(status=seen, securityContext=shared)) == (1002, 102)
    assert ids(small_pod(status=seen)) == (1003, 103)
    assert ids(small_pod()) == (None, None)
    context = pod_spec(make_job(pod))["securityContext"]
    assert (context["fsGroup"], context["supplementalGroups"]) == (100, [7])


def test_root_is_refused():
    """Unless only the pod's start was root's."""
    pod = small_pod(container={"securityContext": {"runAsUser": 0}})
    with pytest.raises(SessionUnusableError, match="root"):
        parse_session(pod)
    with pytest.raises(SessionUnusableError, match="root"):
        parse_session(small_pod(), user_id=0)
    assert parse_session(pod, user_id=1000).security.user_id == 1000


LOCALHOST = {"type": "Localhost", "localhostProfile": "profiles/lab.json"}


@pytest.mark.parametrize(
    ("session", "kept"),
    [
        ({}, {"seccompProfile": {"type": "RuntimeDefault"}}),
        ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "RuntimeDefault"}}),
        ({"seccompProfile": LOCALHOST}, {"seccompProfile": LOCALHOST}),
        ({"seccompProfile": {**LOCALHOST, "localhostProfile": "../x"}}, {"seccompProfile": {"type": "RuntimeDefault"}}),
        ({"appArmorProfile": LOCALHOST}, {"appArmorProfile": LOCALHOST}),
        ({"appArmorProfile": {"type": "Unconfined"}}, {}),
        (
            {"seLinuxOptions": {"level": "s0:c1,c2", "type": "container_t", "user": "u", "role": "r"}},
            {"seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"}},
        ),
        ({"seLinuxOptions": {"type": "spc_t"}}, {}),
        ({"supplementalGroupsPolicy": "Strict"}, {"supplementalGroupsPolicy": "Strict"}),
        ({"supplementalGroupsPolicy": "x", "sysctls": [{"name": "a"}], "runAsNonRoot": False}, {}),
        ({"privileged": True, "procMount": "Unmasked", "windowsOptions": {"hostProcess": True}}, {}),
    ],
)
def test_security_is_the_sessions_as_far_as_restricted_allows(session, kept):
    """What is missing is set, what is too much is dropped."""
    job = make_job(small_pod(securityContext=session))
    standard = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod_spec(job)["securityContext"] == {**standard, **kept}
    assert pod_spec(job)["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_host_namespaces_stay_and_the_own_user_namespace_is_kept():
    """Only less than usual can be taken over."""
    spec = pod_spec(make_job(small_pod(hostUsers=False, hostNetwork=True, hostPID=True, hostIPC=True)))
    assert {key: value for key, value in spec.items() if key.startswith("host")} == {"hostUsers": False}
    assert "hostUsers" not in pod_spec(make_job(small_pod(hostUsers=True)))


def test_nodes_are_the_profiles_to_choose():
    """Its labels, and where it says so the session's own; its tolerations; its RuntimeClass before the session's."""
    spec = pod_spec(make_job(hub_pod(), make_entry(profile="mig")))
    assert spec["nodeSelector"] == {"pool": "batch", "topology.kubernetes.io/zone": "z1"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]
    assert spec["runtimeClassName"] == "nvidia"
    spec = pod_spec(make_job({**hub_pod(), "spec": {**hub_pod()["spec"], "runtimeClassName": "gvisor"}}))
    assert spec["runtimeClassName"] == "gvisor"
    assert spec.keys() & {"nodeSelector", "tolerations", "nodeName", "priorityClassName", "schedulerName"} == set()


def with_volume(source, *, path="/data", name="data", **mount):
    return small_pod(
        container={"volumeMounts": [{"name": name, "mountPath": path, **mount}]}, volumes=[{"name": name, **source}]
    )


def shared(pod, *, allowed=("data",)):
    """(volumes, mounts) of the job beyond ours, in short."""
    job = make_job(pod, settings=make_settings(shared_volumes=allowed))
    volumes = [volume for volume in pod_spec(job)["volumes"] if not volume["name"].startswith("ai-batch-")]
    return volumes, [mount for path, mount in mounts(job).items() if not path.startswith("/var/run/ai-batch")]


CLAIM = {"persistentVolumeClaim": {"claimName": "data"}}


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        (CLAIM, {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}),
        (
            {"nfs": {"server": "files.example", "path": "/exports/data/", "readOnly": False}},
            {"nfs": {"server": "files.example", "path": "/exports/data", "readOnly": True}},
        ),
        (
            {"csi": {"driver": "cvmfs.example", "volumeAttributes": {"repository": "sw"}, "fsType": "x"}},
            {
                "csi": {
                    "driver": "cvmfs.example",
                    "readOnly": True,
                    "fsType": "x",
                    "volumeAttributes": {"repository": "sw"},
                }
            },
        ),
        (
            {"configMap": {"name": "site", "items": [{"key": "a", "path": "b/c", "mode": 256}], "optional": True}},
            {"configMap": {"name": "site", "items": [{"key": "a", "path": "b/c", "mode": 256}], "optional": True}},
        ),
    ],
)
def test_shared_volumes_are_mounted_read_only(source, kept):
    """The kinds that can be shared, when the admin lists them."""
    volumes, found = shared(with_volume(source))
    assert volumes == [{"name": "data", **kept}]
    assert found == [{"name": "data", "mountPath": "/data", "readOnly": True}]
    assert shared(with_volume(source), allowed=("other",)) == ([], [])


@pytest.mark.parametrize(
    "source",
    [
        {"secret": {"secretName": "s"}},
        {"hostPath": {"path": "/"}},
        {"projected": {"sources": []}},
        {"downwardAPI": {}},
        {"emptyDir": {}},
        {"ephemeral": {}},
        {"flexVolume": {}},
        {"csi": {"driver": "secrets-store.csi.k8s.io"}},
        {"csi": {"driver": "csi.spiffe.io"}},
        {"csi": {"driver": "files.example", "nodePublishSecretRef": {"name": "s"}}},
        {"csi": {"driver": "files.example", "volumeAttributes": {"password": "x"}}},
        {"csi": {"driver": "files.example", "volumeAttributes": {"a": 7}}},
        {"configMap": {"name": "site", "items": [{"key": "a", "path": "../b"}]}},
        {"persistentVolumeClaim": {"claimName": "A B"}},
        {"persistentVolumeClaim": "data"},
        {},
    ],
)
def test_other_volumes_are_never_shared(source):
    """Whatever the admin lists."""
    assert shared(with_volume(source)) == ([], [])


@pytest.mark.parametrize(
    "path",
    [
        *("/home/jovyan", "/home", "/", "/home/jovyan/", "/home/jovyan/study", "/home/jovyan/.local"),
        *("/opt", "/opt/venv", "/opt/venv/bin", "/opt/ai-batch", "/var/run/ai-batch/x", "/run/ai-batch", "/var/run"),
        *("relative", "/a/../b", ""),
    ],
)
def test_nothing_covers_the_snapshot(path):
    """Work tree, notebook, environments, interpreter and our own directories."""
    assert shared(with_volume(CLAIM, path=path)) == ([], [])


@pytest.mark.parametrize("path", ["/home/jovyan/datasets", "/home/jovyan2", "/optional", "/data/x"])
def test_what_covers_nothing_may_be_shared(path):
    """Also a directory in the home that is no part of it."""
    assert [mount["mountPath"] for mount in shared(with_volume(CLAIM, path=path))[1]] == [path]


def test_the_home_of_a_variable_counts_too():
    """HOME elsewhere than the work tree."""
    pod = with_volume(CLAIM, path="/users/bob")
    assert len(shared(pod)[1]) == 1
    pod["spec"]["containers"][0]["env"] = [{"name": "HOME", "value": "/users/bob"}]
    assert shared(pod) == ([], [])


NFS_HOME = {"nfs": {"server": "files.example", "path": "/exports/home/bob"}}


@pytest.mark.parametrize(
    ("home", "home_mount", "other", "other_mount", "is_shared"),
    [
        (CLAIM, {"subPath": "home/bob"}, CLAIM, {"subPath": "shared"}, True),
        (CLAIM, {"subPath": "home/bob"}, CLAIM, {"subPath": "home/bobby"}, True),
        (CLAIM, {"subPath": "home/bob"}, CLAIM, {"subPath": "home/./bob/data"}, False),
        (CLAIM, {"subPath": "home/bob"}, CLAIM, {"subPath": "home"}, False),
        (CLAIM, {"subPath": "home/bob"}, CLAIM, {}, False),
        (CLAIM, {}, CLAIM, {"subPath": "shared"}, False),
        (CLAIM, {"subPathExpr": "home/$(USER)"}, CLAIM, {"subPath": "shared"}, True),
        (CLAIM, {"subPathExpr": "home/$(USER)"}, CLAIM, {"subPath": "home/x"}, False),
        (CLAIM, {}, CLAIM, {"subPathExpr": "$(TEAM)"}, False),
        (CLAIM, {}, {"persistentVolumeClaim": {"claimName": "other"}}, {}, True),
        (CLAIM, {}, {"persistentVolumeClaim": {"claimName": "other"}}, {"subPathExpr": "$(TEAM)"}, False),
        (NFS_HOME, {}, {"nfs": {"server": "files.example", "path": "/exports"}}, {}, False),
        (NFS_HOME, {}, {"nfs": {"server": "files.example", "path": "/exports"}}, {"subPath": "shared"}, True),
        (NFS_HOME, {}, {"nfs": {"server": "files.example", "path": "/exports/shared"}}, {}, True),
    ],
)
def test_no_mount_reaches_the_home(home, home_mount, other, other_mount, is_shared):
    """One volume may hold the home and what is shared; another volume may be the same storage."""
    pod = small_pod(
        container={
            "volumeMounts": [
                {"name": "home", "mountPath": "/home/jovyan", **home_mount},
                {"name": "data", "mountPath": "/data", **other_mount},
            ]
        },
        volumes=[{"name": "home", **home}, {"name": "data", **other}],
    )
    found = shared(pod, allowed=("home", "data"))[1]
    assert [mount["mountPath"] for mount in found] == (["/data"] if is_shared else [])


def test_one_volume_for_home_and_shared_is_mounted_once():
    """Of the hub's pod: the shared directory and the site's settings, nothing else."""
    job = make_job(hub_pod(), settings=FULL_SETTINGS)
    theirs = {path: mount["name"] for path, mount in mounts(job).items() if not mount["name"].startswith("ai-batch-")}
    assert theirs == {"/shared": "users", "/etc/site": "site"}
    assert mounts(job)["/shared"] == {"name": "users", "mountPath": "/shared", "subPath": "shared", "readOnly": True}
    assert [volume["name"] for volume in pod_spec(job)["volumes"] if "claimName" in str(volume)] == ["users"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}, {"medium": "Memory", "sizeLimit": "2Gi"}),
        ({"emptyDir": {"medium": "Memory", "sizeLimit": "much"}}, {"medium": "Memory"}),
        ({"emptyDir": {"medium": "Memory"}}, {"medium": "Memory"}),
        ({"emptyDir": {}}, None),
        (CLAIM, None),
    ],
)
def test_shared_memory_is_as_large_as_in_the_session(source, expected):
    """Else what runs in front of the user would die of a bus error here."""
    job = make_job(with_volume(source, path="/dev/shm"))
    found = [volume["emptyDir"] for volume in pod_spec(job)["volumes"] if volume["name"] == "ai-batch-memory"]
    assert found == ([] if expected is None else [expected])
    assert ("/dev/shm" in mounts(job)) == (expected is not None)


def test_pull_secrets_are_named_once():
    """The registry's own first; names only."""
    secrets = [{"name": "b"}, {"name": "registry-alice"}, {"name": "b"}, {"name": 7}, "x", {"name": "B B"}]
    job = make_job(small_pod(imagePullSecrets=secrets), settings=FULL_SETTINGS)
    assert pod_spec(job)["imagePullSecrets"] == [{"name": "registry-alice"}, {"name": "b"}]


def test_a_pod_without_identity_is_refused():
    """Namespace, name and uid."""
    for key in ("namespace", "name", "uid"):
        pod = copy.deepcopy(hub_pod())
        pod["metadata"][key] = None
        with pytest.raises(SessionUnusableError, match="which pod"):
            parse_session(pod)


def test_another_containers_status_does_not_count():
    """Nor its variables, whatever the order of the containers."""
    pod = with_status(hub_pod(), name="other")
    with pytest.raises(SessionUnusableError):
        parse_session(pod)
