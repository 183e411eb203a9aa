"""Who a job runs as and what it may do: as its session, and never more than Pod Security ``restricted`` allows. Pure.

Source: v1 PodSecurityContext and SecurityContext; the Pod Security Standards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import SessionUnusableError
from . import pod_fields
from .json_fields import field as at

_GROUPS_POLICIES = frozenset({"Merge", "Strict"})
_CONTAINER_TYPES = frozenset({"container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_RUNTIME_DEFAULT: Mapping[str, str] = {"type": "RuntimeDefault"}
_MAX_GROUPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The part of the session's security contexts that a job keeps.

    Attributes:
        user_id, group_id: Of the server's process; None leaves it to the image.
        seccomp, app_armor, se_linux: As in a pod's specification.
        is_apart: Runs in a user namespace of its own (``hostUsers: false``).
    """

    user_id: int | None = None
    group_id: int | None = None
    fs_group: int | None = None
    groups: tuple[int, ...] = ()
    groups_policy: str = ""
    seccomp: Mapping[str, str] = field(default_factory=lambda: dict(_RUNTIME_DEFAULT))
    app_armor: Mapping[str, str] = field(default_factory=dict)
    se_linux: Mapping[str, str] = field(default_factory=dict)
    is_apart: bool = False


def parse_security(
    spec: Any, container: Mapping[str, Any], status: Mapping[str, Any], *, user_id: int | None, group_id: int | None
) -> Security:
    """From a pod's specification, and the container's status where the specification leaves the ids open.

    Args:
        user_id, group_id: Of the server's process where the caller knows them: a start script may have changed them.

    Raises:
        SessionUnusableError: the session runs as root.
    """
    pod, own = at(spec, "securityContext"), container.get("securityContext")
    seen = at(status, "user", "linux")
    uid = _first(user_id, at(own, "runAsUser"), at(pod, "runAsUser"), at(seen, "uid"))
    if uid == 0:
        raise SessionUnusableError(
            "Your session runs as root, and batch jobs may not.",
            hint="Ask your admin for sessions with a user id other than 0.",
        )
    policy = at(pod, "supplementalGroupsPolicy")
    return Security(
        user_id=uid,
        group_id=_first(group_id, at(own, "runAsGroup"), at(pod, "runAsGroup"), at(seen, "gid")),
        fs_group=pod_fields.identity(at(pod, "fsGroup")),
        groups=_parse_groups(at(pod, "supplementalGroups")),
        groups_policy=policy if isinstance(policy, str) and policy in _GROUPS_POLICIES else "",
        seccomp=_parse_profile(at(own, "seccompProfile") or at(pod, "seccompProfile")) or _RUNTIME_DEFAULT,
        app_armor=_parse_profile(at(own, "appArmorProfile") or at(pod, "appArmorProfile")),
        se_linux=_parse_se_linux(at(own, "seLinuxOptions") or at(pod, "seLinuxOptions")),
        is_apart=at(spec, "hostUsers") is False,
    )


def build_pod_context(security: Security) -> dict[str, Any]:
    """``spec.securityContext``."""
    return {
        "runAsNonRoot": True,
        **pod_fields.present(
            runAsUser=security.user_id,
            runAsGroup=security.group_id,
            fsGroup=security.fs_group,
            supplementalGroups=list(security.groups),
            supplementalGroupsPolicy=security.groups_policy,
            appArmorProfile=dict(security.app_armor),
            seLinuxOptions=dict(security.se_linux),
        ),
        "seccompProfile": dict(security.seccomp),
    }


def build_container_context() -> dict[str, Any]:
    """``securityContext`` of the container; what is not said here is said for the pod."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _first(*values: Any) -> int | None:
    return next((found for found in map(pod_fields.identity, values) if found is not None), None)


def _parse_groups(value: Any) -> tuple[int, ...]:
    groups = map(pod_fields.identity, value[:_MAX_GROUPS] if isinstance(value, list) else ())
    return tuple(dict.fromkeys(group for group in groups if group is not None))


def _parse_profile(value: Any) -> Mapping[str, str]:
    """A seccomp or AppArmor profile that ``restricted`` allows; empty for ``Unconfined`` and anything else."""
    kind, local = at(value, "type"), pod_fields.relative_path(at(value, "localhostProfile"))
    if kind == "RuntimeDefault":
        return dict(_RUNTIME_DEFAULT)
    return {"type": kind, "localhostProfile": local} if kind == "Localhost" and local else {}


def _parse_se_linux(value: Any) -> Mapping[str, str]:
    kind, level = at(value, "type"), pod_fields.text(at(value, "level"), limit=256)
    allowed = kind if isinstance(kind, str) and kind in _CONTAINER_TYPES else ""
    return pod_fields.present(type=allowed, level=level)
