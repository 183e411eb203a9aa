"""The Job of a Submission, as golden YAML and field by field, and the Submission of a Job."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kueue_sessions import (
    FULL_SETTINGS,
    GOLDEN,
    ID,
    IMAGE,
    MIG,
    PLANTED,
    PYTHON,
    environment,
    hub_pod,
    make_entry,
    make_job,
    make_settings,
    mounts,
    pod_spec,
    small_pod,
)

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.capture_models import SnapshotSummary
from jupyterlab_ai_batch.errors import (
    BatchError,
    InvalidSubmissionError,
    ParametersInvalidError,
    ProfileUnknownError,
    QueueError,
)
from jupyterlab_ai_batch.models import Profile, RunSpec
from jupyterlab_ai_batch.oci.work_index import WORK_INDEX_PATH
from jupyterlab_ai_batch.queues.kueue import naming
from jupyterlab_ai_batch.queues.kueue.identity import parse_session
from jupyterlab_ai_batch.queues.kueue.manifest import (
    ENTRY_ANNOTATION,
    MAX_ANNOTATIONS_BYTES,
    build_job,
    build_pod,
    export_yaml,
    job_name,
    parse_entry,
)
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings
from jupyterlab_ai_batch.runner import entry as runner

TRICKY = {
    "path": "$(HOME)/$HOME/$$(X)",
    "words": ["yes", "0x1F", "1e3", "12:30:45", "null", "~", "", " ", "- a", "a: b", "# c"],
    "text": "zwei\nZeilen\t\"'<&>\u2028\u00e4\U0001f9ea",
    "number": 1e-9,
    "nothing": None,
}
TRICKY_VARIABLES = {
    "NB_EXPONENT": "1e3",
    "NB_OCTAL": "0777",
    "NB_WORD": "on",
    "NB_LINES": "one\ntwo\n\n  three",
    "NB_REFERENCE": "$(HOME)/x",
    "NB_EMPTY": "",
    "NB_TEXT": 'it\'s "ä"',
}


def tricky_pod():
    return small_pod(container={"env": [{"name": name, "value": value} for name, value in TRICKY_VARIABLES.items()]})


GOLDENS = {
    "small": make_job,
    "hub": lambda: make_job(hub_pod(), make_entry(profile="mig", title="train, again"), FULL_SETTINGS),
    "captured": lambda: make_job(entry=captured_entry()),
    "resumed": lambda: make_job(entry=make_entry(resume=True)),
    "tricky-texts": lambda: make_job(tricky_pod(), make_entry(parameters=TRICKY, max_duration_s=90)),
}


def captured_entry():
    now = datetime(2026, 11, 20, 14, 3, tzinfo=timezone.utc)
    summary = SnapshotSummary(
        digest=f"sha256:{'a' * 64}", captured_from=now, captured_until=now, bytes=43_000_000, new_bytes=2_000
    )
    entry = make_entry()
    return replace(entry, submission=replace(entry.submission, snapshot=summary))


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_a_job_is_what_it_was(name):
    """The exported YAML, letter by letter; REWRITE_GOLDEN=1 writes it anew."""
    path = GOLDEN / f"{name}.yaml"
    exported = export_yaml(GOLDENS[name]())
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(exported, encoding="utf-8")
    assert exported == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_an_export_is_the_job(name):
    """Read back, the YAML is the object that is submitted, which names neither namespace, nor ids, nor owners."""
    job = GOLDENS[name]()
    assert yaml.safe_load(export_yaml(job)) == job
    assert sorted(job) == ["apiVersion", "kind", "metadata", "spec"]
    assert sorted(job["metadata"]) == ["annotations", "labels", "name"]


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_every_field_is_one_that_the_cluster_knows(name):
    """An unknown field would be dropped without a word."""
    from kubernetes import client

    assert unknown_fields(client, client.V1Job, GOLDENS[name]()) == []
    assert unknown_fields(client, client.V1Pod, build_pod(GOLDENS[name]())) == []


def unknown_fields(client, model, value, where=""):
    known = {key: model.openapi_types[attribute] for attribute, key in model.attribute_map.items()}
    found = [f"{where}.{key}" for key in value if key not in known]
    for key, item in value.items():
        kind = known.get(key, "").removeprefix("list[").removesuffix("]")
        if hasattr(client, kind) and kind != "object":
            for index, part in enumerate(item if isinstance(item, list) else [item]):
                found += unknown_fields(client, getattr(client, kind), part, f"{where}.{key}[{index}]")
    return found


def test_the_same_inputs_give_the_same_text():
    """In another process too, with other hash seeds."""
    code = (
        "from kueue_sessions import *\nprint(json.dumps(make_job(hub_pod(), make_entry(profile='mig'), FULL_SETTINGS)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_what_kueue_and_the_job_controller_need():
    """Queued, suspended, tried once but for disruptions, one pod after the other, no token of the cluster."""
    job = make_job(hub_pod(), make_entry(profile="mig"), FULL_SETTINGS)
    spec = pod_spec(job)
    assert job["metadata"]["name"] == f"ai-batch-{ID}" == job_name(ID)
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "jupyterlab-ai-batch",
        "jupyterlab-ai-batch/submission": ID,
        "kueue.x-k8s.io/queue-name": "batch",
    }
    assert job["spec"]["suspend"] is True
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert "activeDeadlineSeconds" not in job["spec"]
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (
        "Never",
        False,
        False,
    )
    assert spec["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize(
    ("profile", "asked", "limit"), [("cpu", None, None), ("mig", None, 14400), ("mig", 60, 60), ("cpu", 60, 60)]
)
def test_each_attempt_has_the_time_limit(profile, asked, limit):
    """The Submission's own, else the profile's; on the pod, so that an Eviction does not use it up."""
    job = make_job(entry=make_entry(profile=profile, max_duration_s=asked))
    assert pod_spec(job).get("activeDeadlineSeconds") == limit


@pytest.mark.parametrize(
    ("millicores", "memory", "gpus", "amounts"),
    [
        (2000, 4 << 30, 0, {"cpu": "2", "memory": "4Gi"}),
        (1500, 1500 << 20, 0, {"cpu": "1500m", "memory": "1500Mi"}),
        (None, 1_000_001, 2, {"memory": "1000001", "nvidia.com/gpu": "2"}),
        (100, 3 << 10, 0, {"cpu": "100m", "memory": "3Ki"}),
        (None, None, 0, None),
    ],
)
def test_resources_are_the_profiles(millicores, memory, gpus, amounts):
    """Requests and limits are the same; nothing is asked for that a ClusterQueue may not cover."""
    shape = Profile(name="p", title="", cpu_millicores=millicores, memory_bytes=memory, gpu_slots=gpus)
    profile = KueueProfile(profile=shape, gpu_resource="nvidia.com/gpu")
    job = make_job(hub_pod(), make_entry(profile="p"), make_settings(profiles=(profile,)))
    expected = {} if amounts is None else {"requests": amounts, "limits": amounts}
    assert pod_spec(job)["containers"][0]["resources"] == expected


def test_gpus_without_a_name_are_the_admins_to_mend():
    """The message names the profile."""
    with pytest.raises(QueueError, match="'mig'") as caught:
        make_job(entry=make_entry(profile="mig"), settings=make_settings(profiles=(replace(MIG, gpu_resource=""),)))
    assert "gpu_resource" in caught.value.hint


def test_a_profile_that_is_gone_is_named():
    """With those that there are."""
    with pytest.raises(ProfileUnknownError, match="gone") as caught:
        make_job(entry=make_entry(profile="gone"))
    assert "cpu, mig" in caught.value.hint


@pytest.mark.parametrize("profile", ["cpu", "mig"])
def test_a_job_without_gpus_sees_none(profile):
    """Images of CUDA ask the runtime for all of them; with GPUs the device plugin says which."""
    names = dict(environment(make_job(hub_pod(), make_entry(profile=profile))))
    assert names.get("NVIDIA_VISIBLE_DEVICES") == {"cpu": "void", "mig": None}[profile]


def test_the_runner_gets_what_it_needs():
    """The RunSpec with the places in the job's container, and the pod's id; both under the runner's own names."""
    job = make_job(hub_pod(), make_entry(), FULL_SETTINGS)
    variables = dict(environment(job))
    run = wire.loads(RunSpec, variables[runner.RUN_VARIABLE])
    assert run == replace(
        make_entry().run,
        base_index=f"/{WORK_INDEX_PATH}",
        outbox="/var/run/ai-batch/scratch/outbox",
        outputs_to="registry.example/user-alice",
        registry_auth="/var/run/ai-batch/registry/config.json",
        registry_ca="/var/run/ai-batch/ca/ca.crt",
    )
    assert variables[runner.POD_VARIABLE] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    container = pod_spec(job)["containers"][0]
    assert container["command"] == [PYTHON, "-m", "jupyterlab_ai_batch.runner"]
    assert container["image"] == IMAGE
    assert pod_spec(job)["imagePullSecrets"] == [{"name": "registry-alice"}, {"name": "base-pull"}]


def test_a_registry_without_credentials_needs_none():
    """Neither volumes nor paths."""
    job = make_job()
    run = wire.loads(RunSpec, dict(environment(job))[naming.RUN_VARIABLE])
    assert (run.registry_auth, run.registry_ca) == ("", "")
    assert list(mounts(job)) == ["/var/run/ai-batch/scratch"]
    assert "imagePullSecrets" not in pod_spec(job)


def test_parameters_reach_the_runner_as_they_are():
    """The kubelet replaces $(NAME) in variables: none of it is there."""
    content = dict(environment(make_job(entry=make_entry(parameters=TRICKY))))[naming.RUN_VARIABLE]
    assert "$" not in content
    assert wire.loads(RunSpec, content).parameters == TRICKY


@pytest.mark.parametrize(("size", "fits"), [(30_000, True), (64 * 1024, False), (10_000_000, False)])
def test_large_parameters_are_refused(size, fits):
    """Before anything is made; the hint says what to do."""
    entry = make_entry(parameters={"text": "x" * size})
    if fits:
        assert parse_entry(make_job(entry=entry)) == entry
        return
    with pytest.raises(ParametersInvalidError, match="too large") as caught:
        make_job(entry=entry)
    assert "file" in caught.value.hint


@given(st.integers(20_000, 60_000), st.sampled_from('x<"\\ä'))
def test_whatever_is_accepted_can_be_applied(size, character):
    """kubectl keeps a copy in an annotation, where every sign counts for what it takes in JSON."""
    try:
        job = make_job(entry=make_entry(parameters={"text": character * (size // 3)}))
    except ParametersInvalidError:
        return
    copied = json.dumps(job, ensure_ascii=False, separators=(",", ":"))
    for sign, escaped in (("&", r"\u0026"), ("<", r"\u003c"), (">", r"\u003e")):
        copied = copied.replace(sign, escaped)
    kept = {**job["metadata"]["annotations"], "kubectl.kubernetes.io/last-applied-configuration": f"{copied}\n"}
    assert sum(len(f"{key}{value}".encode()) for key, value in kept.items()) <= MAX_ANNOTATIONS_BYTES


@pytest.mark.parametrize("bad", ["", "A", "a_b", "-a", "a-", "x" * 55, "a/b", "a.b", "ä"])
def test_an_id_that_is_no_name_is_refused(bad):
    """Not turned into one: two ids could become the same name."""
    with pytest.raises(InvalidSubmissionError):
        job_name(bad)


def test_the_pod_alone_is_the_jobs_pod():
    """For the cluster's rules about pods; Kueue does not queue it."""
    job = make_job(hub_pod(), make_entry(), FULL_SETTINGS)
    pod = build_pod(job)
    assert pod["spec"] == pod_spec(job)
    assert pod["metadata"]["name"] == job["metadata"]["name"]
    assert "kueue.x-k8s.io/queue-name" not in pod["metadata"]["labels"]


def test_a_job_of_the_cluster_is_exported_like_a_new_one():
    """Without what the API server, the Job controller and kubectl wrote into it."""
    job = make_job(hub_pod(), make_entry(), FULL_SETTINGS)
    lived = copy.deepcopy(job)
    lived["metadata"] |= {
        "namespace": "user-alice",
        "uid": "77aa",
        "resourceVersion": "12",
        "generation": 3,
        "creationTimestamp": "2026-11-22T14:00:00Z",
        "ownerReferences": [{"kind": "Pod", "name": "x", "uid": "1"}],
        "managedFields": [{"manager": "x"}],
        "finalizers": ["x"],
    }
    lived["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    lived["spec"] |= {"suspend": False, "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "77aa"}}}
    template = lived["spec"]["template"]["metadata"]
    template["labels"] |= {
        "batch.kubernetes.io/controller-uid": "77aa",
        "controller-uid": "77aa",
        "job-name": "x",
        "kueue.x-k8s.io/podset": "main",
    }
    template["annotations"] = {"kueue.x-k8s.io/workload": "job-x"}
    lived["status"] = {"active": 1}
    assert export_yaml(lived) == export_yaml(job)


def test_an_export_says_what_it_needs():
    """In comments: queue, secrets, claims and the like."""
    comments = [line for line in export_yaml(GOLDENS["hub"]()).splitlines() if line.startswith("#")]
    said = "\n".join(comments)
    for name in ("LocalQueue batch", "Secret registry-alice", "Secret base-pull", "ConfigMap registry-ca"):
        assert name in said
    for name in ("ConfigMap site-settings", "PersistentVolumeClaim users", "ServiceAccount batch"):
        assert name in said


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
TRAPS = st.sampled_from(
    ["1e3", "y", "NO", "0o7", "1_000", "=", "<<", "2026-11-22", ".5", "+1", "a\n", "\n a", "'", "\x85"]
)


@given(
    st.dictionaries(st.from_regex(r"NB_[A-Z]{1,8}\Z"), TEXTS | TRAPS, max_size=5), st.dictionaries(TEXTS, TEXTS | TRAPS)
)
def test_any_text_survives_the_export(variables, parameters):
    """As a variable, and as a parameter."""
    pod = small_pod(container={"env": [{"name": name, "value": value} for name, value in variables.items()]})
    job = make_job(pod, make_entry(parameters=parameters))
    read = yaml.safe_load(export_yaml(job))
    assert read == job
    assert parse_entry(read).run.parameters == parameters


@pytest.mark.parametrize(
    "text", ["1e3", "1E3", "0x1", "1_0", "1:30", "on", "Y", "~", "null", ".inf", "", "0o7", "-", "1.", "+1"]
)
def test_no_text_is_taken_for_a_number_by_anybody(text):
    """Readers of YAML differ: whatever is no plain word is quoted."""
    pod = small_pod(container={"env": [{"name": "NB_X", "value": text}]})
    assert f"  value: '{text}'\n" in export_yaml(make_job(pod))


def test_a_submission_is_found_again_in_its_job():
    """All of it."""
    entry = make_entry(parameters=TRICKY, title="zwei", max_duration_s=60)
    assert parse_entry(make_job(entry=entry)) == entry


def change(job, *path, to):
    changed = copy.deepcopy(job)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return changed


def changed_entry(**changes):
    return wire.dumps(replace(make_entry(), **changes))


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"metadata": None},
        {"metadata": {"annotations": []}},
        change(make_job(), "metadata", "annotations", ENTRY_ANNOTATION, to="{"),
        change(make_job(), "metadata", "annotations", ENTRY_ANNOTATION, to=7),
        change(make_job(), "metadata", "annotations", ENTRY_ANNOTATION, to="[" * 100_000),
        change(make_job(), "metadata", "labels", "app.kubernetes.io/managed-by", to="somebody"),
        change(make_job(), "metadata", "labels", "jupyterlab-ai-batch/submission", to="other"),
        change(
            make_job(),
            "metadata",
            "annotations",
            ENTRY_ANNOTATION,
            to=changed_entry(submission=replace(make_entry().submission, id="other")),
        ),
        change(
            make_job(),
            "metadata",
            "annotations",
            ENTRY_ANNOTATION,
            to=changed_entry(submission=replace(make_entry().submission, notebook_path="../../etc/x.ipynb")),
        ),
        change(
            make_job(),
            "metadata",
            "annotations",
            ENTRY_ANNOTATION,
            to=changed_entry(run=replace(make_entry().run, notebook="/etc/x.ipynb")),
        ),
        change(
            make_job(),
            "metadata",
            "annotations",
            ENTRY_ANNOTATION,
            to=wire.dumps(make_entry()).replace("2026-11-22T14:00:00.000Z", "0001-01-01T00:00:00+23:59"),
        ),
    ],
)
def test_a_damaged_or_foreign_job_is_no_submission(job):
    """None, never an error."""
    assert parse_entry(job) is None


def test_a_title_from_the_cluster_is_one_short_line():
    """Whoever wrote it there."""
    long = make_entry(title="a\nb" + "c" * 1000)
    title = parse_entry(make_job(entry=long)).submission.title
    assert title.startswith("a b")
    assert len(title) == 200


def test_settings_travel_as_json():
    """To the process that captures and hands over, for example."""
    assert wire.loads(KueueSettings, wire.dumps(FULL_SETTINGS)) == FULL_SETTINGS


def test_nothing_that_stays_with_the_session_reaches_the_job():
    """Tokens, the hub's variables, secrets, directories of the node, the mesh's proxy: whatever says PLANTED."""
    job = make_job(hub_pod(), make_entry(profile="mig"), FULL_SETTINGS)
    assert PLANTED not in json.dumps(job)
    assert "JUPYTERHUB" not in json.dumps(job)


def forbidden(spec):
    """What Pod Security ``restricted`` refuses in a pod; empty for a pod that it lets in."""
    found = [
        key for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers") if spec.get(key)
    ]
    found += [kind for volume in spec["volumes"] for kind in volume if kind in ("hostPath", "projected", "nfs")]
    pod = spec["securityContext"]
    (container,) = spec["containers"]
    own = container["securityContext"]
    checks = {
        "runAsNonRoot": pod.get("runAsNonRoot") is True,
        "runAsUser": pod.get("runAsUser") != 0,
        "seccompProfile": pod["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"),
        "appArmorProfile": pod.get("appArmorProfile", {}).get("type") in (None, "RuntimeDefault", "Localhost"),
        "seLinuxOptions": not set(pod.get("seLinuxOptions", {})) & {"user", "role"},
        "sysctls": "sysctls" not in pod,
        "escalation": own == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "ports": "ports" not in container,
    }
    return found + [name for name, holds in checks.items() if not holds]


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_pod_security_restricted_lets_it_in(name):
    """By its rules, whatever the session's pod had."""
    assert forbidden(pod_spec(GOLDENS[name]())) == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(PLANTED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECRET_NAMES = st.sampled_from(
    [
        "JUPYTERHUB_API_TOKEN",
        "JPY_X",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "NB_KEY",
        "PYTHON_CREDENTIALS",
    ]
)


def paths(value, path=()):
    """Every place in a JSON value."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from paths(item, (*path, key))


HUB_POD = hub_pod()
PLACES = [path for path in paths(HUB_POD) if path]


@st.composite
def damaged_pods(draw):
    """The hub's pod with junk in some places, and more secrets in its environment."""
    pod = copy.deepcopy(HUB_POD)
    secrets = draw(st.lists(SECRET_NAMES, max_size=3))
    pod["spec"]["containers"][0]["env"] += [{"name": name, "value": f"{PLANTED}-of-{name}"} for name in secrets]
    # A text of the junk may say PLANTED where the session rightly has a name, so only structure is broken there.
    for path in draw(st.lists(st.sampled_from(PLACES), max_size=4)):
        place = pod
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = draw(JUNK.filter(lambda junk: PLANTED not in json.dumps(junk)))
        except (TypeError, KeyError, IndexError):
            continue
    return pod


@given(damaged_pods())
def test_a_damaged_pod_gives_a_safe_job_or_an_error(pod):
    """Never a crash, never a secret, never more than Pod Security allows."""
    try:
        job = make_job(pod, make_entry(profile="mig"), FULL_SETTINGS)
    except BatchError:
        return
    assert PLANTED not in json.dumps(job)
    assert [kind for kind in forbidden(pod_spec(job)) if kind != "nfs"] == []
    assert yaml.safe_load(export_yaml(job)) == job


@given(JUNK)
def test_any_json_is_a_session_or_an_error(pod):
    """Of whatever shape."""
    with pytest.raises(BatchError):
        parse_session(pod)


@given(JUNK)
def test_any_json_is_a_submission_or_none(junk):
    """Jobs in the cluster can be anybody's."""
    assert parse_entry(junk) is None
    assert parse_entry(change(make_job(), "metadata", "annotations", to=junk)) is None
    assert parse_entry(change(make_job(), "metadata", "annotations", ENTRY_ANNOTATION, to=json.dumps(junk))) is None


def test_build_job_reads_only():
    """It changes neither the session nor the entry, and two Jobs share nothing."""
    session = parse_session(hub_pod())
    first = build_job(make_entry(), session, FULL_SETTINGS, image=IMAGE, python=PYTHON)
    second = build_job(make_entry(), session, FULL_SETTINGS, image=IMAGE, python=PYTHON)
    for entry in pod_spec(first)["containers"][0]["env"]:
        entry.get("valueFrom", {}).get("fieldRef", {}).clear()
    pod_spec(first)["volumes"][-1]["configMap"].clear()
    third = build_job(make_entry(), session, FULL_SETTINGS, image=IMAGE, python=PYTHON)
    assert first != second == third
