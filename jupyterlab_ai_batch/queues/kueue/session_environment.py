"""The environment variables of a session's pod, and those of them that a job gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ..withheld import is_secret, is_withheld
from . import pod_fields
from .json_fields import field as at
from .json_fields import quantity, records

_MIN_SECRET_CHARS = 8  # shorter ones occur by chance in what is no secret
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}\Z")
_CREDENTIALS_IN_URL = re.compile(r"://[^/\s@]+@")
_SESSIONS_DEVICES = re.compile(r".*_VISIBLE_DEVICES\Z|NVIDIA_MIG_.*_DEVICES\Z", re.IGNORECASE)
_OWN = re.compile(r"AI_BATCH_|JUPYTER_RUNTIME_DIR\Z")
# What these say in the job's pod is about the job.
_POD_FIELDS = frozenset(
    {"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.podIP", "status.hostIP"}
)
_RESOURCES = frozenset({"limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable of the session's container.

    Attributes:
        value: As it stands in the specification; None where that says it in another way.
        source: The field of the downward API that gives the value (``valueFrom``); empty for any other origin.
    """

    name: str
    value: str | None = field(default=None, repr=False)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        return bool(self.name) and (self.value is not None or bool(self.source))


def parse_variables(container: Mapping[str, Any]) -> tuple[Variable, ...]:
    """The container's variables without secrets, the server's own and those of the session's devices; in their order.

    What lies in Secrets and ConfigMaps is not looked up, so it is not there. Neither are values with credentials in a
    URL, and values that repeat one that is withheld.
    """
    entries = records(container.get("env"))
    secrets = [secret for secret in map(_secret, entries) if len(secret) >= _MIN_SECRET_CHARS]
    found: dict[str, Variable] = {}
    for entry in entries:
        variable = _parse_variable(entry)
        found.pop(variable.name, None)  # the last one counts, even when it is not taken over
        if variable.is_known and not _is_kept_back(variable, secrets):
            found[variable.name] = variable
    return tuple(found.values())


def choose_variables(variables: Sequence[Variable], allowed: Sequence[str]) -> Sequence[Variable]:
    """Those whose names an admin allows; ``allowed`` are ``fnmatch`` patterns."""
    return [variable for variable in variables if any(fnmatchcase(variable.name, pattern) for pattern in allowed)]


def _secret(entry: Mapping[str, Any]) -> str:
    name, value = entry.get("name"), entry.get("value")
    return value.strip() if isinstance(name, str) and isinstance(value, str) and is_secret(name) else ""


def _is_kept_back(variable: Variable, secrets: Sequence[str]) -> bool:
    value = variable.value or ""
    return (
        is_withheld(variable.name)
        or _OWN.match(variable.name) is not None
        or _SESSIONS_DEVICES.match(variable.name) is not None
        or _CREDENTIALS_IN_URL.search(value) is not None
        or any(secret in value for secret in secrets)
    )


def _parse_variable(entry: Mapping[str, Any]) -> Variable:
    name = pod_fields.text(entry.get("name"))
    if name is None or _NAME.match(name) is None:
        return Variable(name="")
    if entry.get("valueFrom") is not None:
        return Variable(name=name, source=_parse_source(entry["valueFrom"]))
    return Variable(name=name, value=pod_fields.text(entry.get("value", "")))


def _parse_source(value: Any) -> Mapping[str, Any]:
    field_path = at(value, "fieldRef", "fieldPath")
    if isinstance(field_path, str) and field_path in _POD_FIELDS:
        return {"fieldRef": {"fieldPath": field_path}}
    resource, divisor = at(value, "resourceFieldRef", "resource"), at(value, "resourceFieldRef", "divisor")
    if isinstance(resource, str) and resource in _RESOURCES:
        unit = {"divisor": divisor} if isinstance(divisor, str) and quantity(divisor) is not None else {}
        return {"resourceFieldRef": {"resource": resource, **unit}}
    return {}
