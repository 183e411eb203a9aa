"""The pod template of a Submission's Job. Pure.

It is the session, with the Snapshot in place of the home, the runner of the server, and the profile of its resources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ... import wire
from ...errors import ParametersInvalidError, QueueError
from ...models import QueueEntry
from . import naming, pod_fields
from .identity import Session
from .session_environment import choose_variables
from .session_security import build_container_context, build_pod_context
from .session_volumes import SHARED_MEMORY, Mount, build_mounts, build_volumes, choose_mounts
from .settings import AS_IN_SESSION, KueueProfile, KueueSettings

MAX_RUN_BYTES = 64 * 1024
_RUNNER = ("-m", "jupyterlab_ai_batch.runner")
_UNITS = ((1024**3, "Gi"), (1024**2, "Mi"), (1024, "Ki"))
# A mesh's proxy would outlive the notebook, and the Job would never end.
_NO_PROXY = {"sidecar.istio.io/inject": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """What a job's pod is made of.

    Attributes:
        image: The Snapshot, by digest.
        python: Absolute path, in the image, of the interpreter that has this package.
    """

    entry: QueueEntry
    session: Session
    settings: KueueSettings
    profile: KueueProfile
    image: str
    python: str


def build_template(request: PodRequest, *, labels: Mapping[str, str]) -> dict[str, Any]:
    """The Job's ``spec.template``; each pod made of it is one Attempt.

    Raises:
        ParametersInvalidError: the RunSpec is larger than ``MAX_RUN_BYTES``.
        QueueError: the profile asks for GPUs and does not say what they are called.
    """
    return {"metadata": {"labels": {**labels, **_NO_PROXY}}, "spec": _build_spec(request)}


def _build_spec(request: PodRequest) -> dict[str, Any]:
    session, settings, profile = request.session, request.settings, request.profile
    submission = request.entry.submission
    mounts = _choose_mounts(request)
    secrets = dict.fromkeys(name for name in (settings.registry_secret, *session.pull_secrets) if name)
    return {
        "restartPolicy": "Never",
        **pod_fields.present(
            activeDeadlineSeconds=submission.max_duration_s or profile.profile.default_max_duration_s,
            hostUsers=False if session.security.is_apart else None,
        ),
        "terminationGracePeriodSeconds": profile.grace_period_s,
        **pod_fields.present(serviceAccountName=settings.service_account),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **pod_fields.present(
            imagePullSecrets=[{"name": name} for name in secrets],
            runtimeClassName=profile.runtime_class or session.runtime_class,
            nodeSelector=_build_node_selector(profile, session),
            tolerations=[dict(toleration) for toleration in profile.tolerations],
        ),
        "securityContext": build_pod_context(session.security),
        "containers": [_build_container(request, mounts)],
        "volumes": [*_build_own_volumes(request), *build_volumes(mounts)],
    }


def _build_container(request: PodRequest, mounts: Sequence[Mount]) -> dict[str, Any]:
    return {
        "name": naming.CONTAINER,
        "image": request.image,
        "command": [request.python, *_RUNNER],
        # Not the notebook's directory: modules there would come before Python's own in the runner.
        "workingDir": naming.INDEX_DIR,
        "env": _build_environment(request),
        "resources": _build_resources(request.profile),
        "securityContext": build_container_context(),
        "volumeMounts": [*_build_own_mounts(request), *build_mounts(mounts)],
    }


def _build_environment(request: PodRequest) -> list[dict[str, Any]]:
    chosen = choose_variables(request.session.environment, request.settings.environment_allow)
    own = {"JUPYTER_RUNTIME_DIR": naming.RUNTIME_DIR, naming.RUN_VARIABLE: _build_run(request)}
    if not request.profile.profile.gpu_slots:
        own["NVIDIA_VISIBLE_DEVICES"] = "void"  # else an image may say "all", and the runtime hands them over
    return [
        *(
            {"name": variable.name, "valueFrom": variable.source}
            if variable.source
            else {"name": variable.name, "value": variable.value}
            for variable in chosen
        ),
        *({"name": name, "value": value} for name, value in own.items()),
        {"name": naming.POD_UID_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]


def _build_run(request: PodRequest) -> str:
    """The RunSpec as JSON."""
    settings = request.settings
    run = replace(
        request.entry.run,
        base_index=naming.BASE_INDEX,
        outbox=naming.OUTBOX,
        outputs_to=settings.repository,
        registry_auth=naming.REGISTRY_AUTH if settings.registry_secret else "",
        registry_ca=naming.REGISTRY_CA if settings.registry_ca_config_map else "",
        grace_s=float(request.profile.grace_period_s),
    )
    # The kubelet puts variables in place of $(NAME), in texts of the user too.
    content = wire.dumps(run).replace("$", "\\u0024")
    size = len(content.encode())
    if size > MAX_RUN_BYTES:
        raise ParametersInvalidError(
            f"The parameters are too large for a job in the cluster: {size >> 10} KiB of at most"
            f" {MAX_RUN_BYTES >> 10} KiB.",
            hint="Put large values into a file beside the notebook, and pass its name.",
            details={"bytes": size, "limit_bytes": MAX_RUN_BYTES},
        )
    return content


def _build_resources(profile: KueueProfile) -> dict[str, Any]:
    """Requests and limits, the same. Nothing for scratch: ClusterQueues rarely cover ``ephemeral-storage``."""
    shape = profile.profile
    if shape.gpu_slots and not profile.gpu_resource:
        raise QueueError(
            f"The profile '{shape.name}' asks for GPUs, but not for which.",
            hint="Ask your admin to set its gpu_resource, or choose another profile.",
            details={"profile": shape.name},
        )
    amounts = {}
    if shape.cpu_millicores:
        amounts["cpu"] = _format_cpu(shape.cpu_millicores)
    if shape.memory_bytes:
        amounts["memory"] = format_bytes(shape.memory_bytes)
    if shape.gpu_slots:
        amounts[profile.gpu_resource] = str(shape.gpu_slots)
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}


def _build_node_selector(profile: KueueProfile, session: Session) -> dict[str, str]:
    asked = {
        key: session.node_selector.get(key, AS_IN_SESSION) if value == AS_IN_SESSION else value
        for key, value in profile.node_selector.items()
    }
    return {key: value for key, value in asked.items() if value != AS_IN_SESSION}


def _build_own_volumes(request: PodRequest) -> list[dict[str, Any]]:
    """Secret and ConfigMap are optional: without them a job fails at once and says why, instead of never starting."""
    settings = request.settings
    size = format_bytes(request.profile.scratch_bytes)
    volumes: list[dict[str, Any]] = [{"name": f"{naming.OWN_VOLUMES}scratch", "emptyDir": {"sizeLimit": size}}]
    if request.session.shared_memory is not None:
        volumes.append({"name": f"{naming.OWN_VOLUMES}memory", "emptyDir": dict(request.session.shared_memory)})
    if settings.registry_secret:
        items = [{"key": ".dockerconfigjson", "path": PurePosixPath(naming.REGISTRY_AUTH).name}]
        secret = {"secretName": settings.registry_secret, "items": items, "optional": True}
        volumes.append({"name": f"{naming.OWN_VOLUMES}registry", "secret": secret})
    if settings.registry_ca_config_map:
        name = PurePosixPath(naming.REGISTRY_CA).name
        config_map = {
            "name": settings.registry_ca_config_map,
            "items": [{"key": name, "path": name}],
            "optional": True,
        }
        volumes.append({"name": f"{naming.OWN_VOLUMES}ca", "configMap": config_map})
    return volumes


def _build_own_mounts(request: PodRequest) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": f"{naming.OWN_VOLUMES}scratch", "mountPath": naming.SCRATCH}]
    if request.session.shared_memory is not None:
        mounts.append({"name": f"{naming.OWN_VOLUMES}memory", "mountPath": SHARED_MEMORY})
    if request.settings.registry_secret:
        mounts.append({"name": f"{naming.OWN_VOLUMES}registry", "mountPath": naming.REGISTRY_DIR, "readOnly": True})
    if request.settings.registry_ca_config_map:
        mounts.append({"name": f"{naming.OWN_VOLUMES}ca", "mountPath": naming.CA_DIR, "readOnly": True})
    return mounts


def _choose_mounts(request: PodRequest) -> Sequence[Mount]:
    run = request.entry.run
    home = [variable.value for variable in request.session.environment if variable.name == "HOME"]
    of_snapshot = (
        str(PurePosixPath(run.work_root, run.notebook)),
        run.work_root,
        *run.environment_prefixes,
        request.python,
        naming.BASE_INDEX,
        *home,
    )
    return choose_mounts(
        request.session.mounts,
        allowed=request.settings.shared_volumes,
        of_snapshot=[path for path in of_snapshot if path and path.startswith("/")],
    )


def _format_cpu(millicores: int) -> str:
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_bytes(size: int) -> str:
    """As a Kubernetes quantity: ``16Gi``, ``1500Mi``, ``1000``."""
    for unit, suffix in _UNITS:
        if size >= unit and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
