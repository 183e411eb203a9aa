"""The single-user server's own pod, and what of it makes a job "as if you sat in front of the notebook". Pure.

By allowlist: what is not named here stays with the session. The pod's JSON is untrusted like everything in the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...errors import InvalidSubmissionError, SessionUnusableError
from ...oci.reference import Reference, is_digest, parse_reference
from . import pod_fields
from .json_fields import field as at
from .json_fields import moment, records, word
from .session_environment import Variable, parse_variables
from .session_security import Security, parse_security
from .session_volumes import Mount, parse_mounts, parse_shared_memory

NOTEBOOK_CONTAINER = "notebook"
SIDECARS = frozenset(
    {
        *("istio-proxy", "istio-init", "linkerd-proxy", "envoy", "envoy-sidecar", "consul-dataplane", "kuma-sidecar"),
        *("oauth-proxy", "kube-rbac-proxy", "vault-agent", "cloud-sql-proxy", "gke-gcsfuse-sidecar", "git-sync"),
        *("fluent-bit", "fluentd", "filebeat", "datadog-agent", "otel-collector", "aws-otel-collector", "xray-daemon"),
    }
)
_SCHEMES = ("docker-pullable://", "docker://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is kept of a single-user server's pod.

    Attributes:
        pod: Its name; ``uid`` tells it from an earlier one of that name.
        image: ``host/repository@sha256:…``, what the container was made from.
        started_at: When the container began to run: what changed in its own directories changed since then.
        environment: Without secrets and the server's own variables; of these an admin allows some.
        node_selector: As specified, or as a queue added it.
        runtime_class: Empty: the cluster's default.
        pull_secrets: Names of Secrets for pulling images.
        mounts: Of volumes that could be shared with a job; of these an admin allows some.
        shared_memory: The ``emptyDir`` at /dev/shm; None for the runtime's default.
    """

    namespace: str
    pod: str
    uid: str
    image: str
    started_at: datetime
    environment: tuple[Variable, ...] = ()
    security: Security = field(default_factory=Security)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""
    pull_secrets: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    shared_memory: Mapping[str, Any] | None = None


def parse_session(
    pod: Mapping[str, Any], *, container: str | None = None, user_id: int | None = None, group_id: int | None = None
) -> Session:
    """Read a pod as the API server returns it.

    Args:
        container: Name of the notebook's container; None finds it: ``notebook``, else the only one that is no sidecar.
        user_id, group_id: Of the server's process; None takes the pod's word for them.

    Raises:
        SessionUnusableError: a job cannot be made like this pod; the hint says what to do.
    """
    spec = at(pod, "spec")
    main = _find_container(spec, container)
    status = _find_status(pod, main)
    namespace, name, uid = (pod_fields.name(at(pod, "metadata", key)) for key in ("namespace", "name", "uid"))
    if namespace is None or name is None or uid is None:
        raise _unusable("It does not say which pod it is.")
    started_at = moment(at(status, "state", "running", "startedAt"))
    if started_at is None:
        raise _unusable("It does not say since when the notebook server runs.", hint="Try again in a moment.")
    return Session(
        namespace=namespace,
        pod=name,
        uid=uid,
        image=_parse_image(status.get("imageID"), main.get("image")),
        started_at=started_at,
        environment=parse_variables(main),
        security=parse_security(spec, main, status, user_id=user_id, group_id=group_id),
        node_selector=pod_fields.labels(at(spec, "nodeSelector")),
        runtime_class=pod_fields.name(at(spec, "runtimeClassName")) or "",
        pull_secrets=_parse_pull_secrets(spec),
        mounts=parse_mounts(spec, main),
        shared_memory=parse_shared_memory(spec, main),
    )


def _find_container(spec: Any, wanted: str | None) -> Mapping[str, Any]:
    """The notebook's container.

    Raises:
        SessionUnusableError: there are none or several that it may be.
    """
    containers = {
        name: entry
        for entry in records(at(spec, "containers"))
        if (name := pod_fields.name(entry.get("name"))) is not None
    }
    candidates = [name for name in containers if name not in SIDECARS]
    if wanted is not None:
        candidates = [wanted]
    elif NOTEBOOK_CONTAINER in containers:
        candidates = [NOTEBOOK_CONTAINER]
    if len(candidates) == 1 and candidates[0] in containers:
        return containers[candidates[0]]
    listed = word(", ".join(candidates)) or "none"
    raise _unusable(
        f"It must be clear which of its containers is the notebook server's; found: {listed}."
        if wanted is None
        else f"It has no container {listed!r}.",
        hint="Ask your admin to set the name of the notebook server's container.",
        containers=list(containers),
    )


def _find_status(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = records(at(pod, "status", "containerStatuses"))
    return next((status for status in statuses if status.get("name") == container["name"]), {})


def _parse_image(image_id: Any, spec_image: Any) -> str:
    """The image by digest; where the runtime names no repository, in that of the specification.

    Raises:
        SessionUnusableError: no digest is known.
    """
    seen, specified = (pod_fields.text(value, limit=1024) or "" for value in (image_id, spec_image))
    for scheme in _SCHEMES:
        seen = seen.removeprefix(scheme)
    try:
        if not seen:
            raise _unusable("Its status does not yet say which image runs.", hint="Try again in a moment.")
        below = parse_reference(specified if is_digest(seen) else seen)
    except InvalidSubmissionError as exc:
        raise _unusable(f"The name of its image makes no sense: {exc.message}") from exc
    digest = below.digest or (seen if is_digest(seen) else None)
    if digest is None:
        raise _unusable("Its image is not known by digest.", image=word(seen))
    return str(Reference(host=below.host, repository=below.repository, digest=digest))


def _parse_pull_secrets(spec: Any) -> tuple[str, ...]:
    names = (pod_fields.name(entry.get("name")) for entry in records(at(spec, "imagePullSecrets")))
    return tuple(dict.fromkeys(name for name in names if name))


def _unusable(why: str, *, hint: str | None = None, **details: Any) -> SessionUnusableError:
    return SessionUnusableError(
        f"Your session's pod cannot be read as a model for batch jobs. {why}",
        hint=hint or "Ask your admin, and tell them this message.",
        details=details,
    )
