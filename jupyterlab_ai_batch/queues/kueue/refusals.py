"""Why the cluster would refuse a job, and what mends it. Pure.

Source: the words of Kubernetes' admission plugins (ServiceAccount, LimitRanger, ResourceQuota, PodSecurity,
ValidatingAdmissionPolicy) and of the API server about a webhook that it cannot reach.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from . import fixes
from .json_fields import quantity

_NO_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found')
_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (\S+), used: (\S*), limited: (\S+)")
_LIMIT = re.compile(r"maximum (\S+) usage per (?:Container|Pod) is ([^,\s]+), but (?:limit|request) is ([^,\s\]]+)")
_SECURITY = re.compile(r'violates PodSecurity "([a-z]+):[^"]*": (.*)')
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)'")
_WEBHOOK_RULE = re.compile(r'admission webhook "([^"]+)" denied')
_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)".*?https://[\w-]+\.([\w-]+)\.svc', re.DOTALL)
_SETTINGS = {"cpu": "cpu_millicores", "memory": "memory_bytes", "ephemeral-storage": "scratch_bytes"}
_MILLI = re.compile(r"(\d+)m\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What stands in the way, in few words, and what an admin applies."""

    cause: str
    fix: str


def find_remedy(message: str, *, namespace: str, profile: str) -> Remedy | None:
    """None: nobody knows these words.

    Args:
        message: The cluster's.
        profile: The one that the refused job has.
    """
    for pattern, build in _REMEDIES:
        if match := pattern.search(message):
            return build(match, namespace, profile)
    return None


def _no_account(match: re.Match[str], namespace: str, _profile: str) -> Remedy:
    name = match[1].rpartition("/")[2]
    cause = f"There is no ServiceAccount {name}"
    return Remedy(cause=cause, fix=fixes.service_account(namespace, name))


def _quota(match: re.Match[str], namespace: str, _profile: str) -> Remedy:
    name, requested, used = match[1], _amounts(match[2]), _amounts(match[3])
    hard = {resource: _sum(amount, used.get(resource, "0")) for resource, amount in requested.items()}
    patch = shlex.quote(json.dumps({"spec": {"hard": hard}}))
    line = f"kubectl patch resourcequota {shlex.quote(name)} --namespace={namespace} --type=merge --patch={patch}"
    return Remedy(cause=f"The ResourceQuota {name} is used up", fix=fixes.commands(line))


def _limit(match: re.Match[str], namespace: str, profile: str) -> Remedy:
    resource, most = match[1], match[2]
    setting = _SETTINGS.get(resource, resource)
    amount = _millicores(most) if resource == "cpu" else quantity(most)
    says = (
        f"in c.BatchExtensionApp.profiles, of the profile {profile}: no more than the LimitRange allows",
        f"or raise it there: kubectl edit limitrange --namespace={namespace}",
    )
    cause = f"A LimitRange allows {most} {resource}, and the profile {profile} asks for {match[3]}"
    return Remedy(cause=cause, fix=fixes.commands(f'"{setting}": {amount},', says=says))


def _security(match: re.Match[str], namespace: str, _profile: str) -> Remedy:
    level, what = match[1], match[2]
    cause = f"Pod Security {level} refuses a pod like your server's"
    if "runAsNonRoot" in what or "runAsUser" in what:
        return Remedy(cause=cause, fix=fixes.commands("c.KubeSpawner.uid = 1000", "c.KubeSpawner.gid = 100"))
    softer = "baseline" if level == "restricted" else "privileged"
    label = f"pod-security.kubernetes.io/enforce={softer}"
    says = ("this loosens a rule; better leave out of c.BatchExtensionApp.shared_volumes what it forbids:", what)
    return Remedy(
        cause=cause, fix=fixes.commands(f"kubectl label namespace {namespace} {label} --overwrite", says=says)
    )


def _policy(match: re.Match[str], _namespace: str, _profile: str) -> Remedy:
    line = f"kubectl get validatingadmissionpolicy {shlex.quote(match[1])} --output=yaml"
    says = ("it and the settings of batch jobs contradict each other; its expressions say in what:",)
    return Remedy(cause=f"The ValidatingAdmissionPolicy {match[1]} refuses it", fix=fixes.commands(line, says=says))


def _webhook_rule(match: re.Match[str], _namespace: str, _profile: str) -> Remedy:
    line = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations --output=yaml"
    says = (f"whose webhook {match[1]} is, and what it wants:",)
    return Remedy(cause=f"The webhook {match[1]} refuses it", fix=fixes.commands(line, says=says))


def _webhook(match: re.Match[str], _namespace: str, _profile: str) -> Remedy:
    return Remedy(cause=f"The webhook {match[1]} does not answer", fix=fixes.kueue_restarted(match[2]))


def _amounts(text: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in text.split(",") if entry)
    return {name: amount for name, _, amount in pairs}


def _sum(first: str, second: str) -> str:
    """Of two quantities, as one; thousandths where either has them."""
    total = _millicores(first) + _millicores(second)
    return str(total // 1000) if total % 1000 == 0 else f"{total}m"


def _millicores(text: str) -> int:
    milli = _MILLI.match(text)
    return int(milli[1]) if milli else 1000 * (quantity(text) or 0)


_REMEDIES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str, str], Remedy]], ...] = (
    (_WEBHOOK, _webhook),
    (_NO_ACCOUNT, _no_account),
    (_QUOTA, _quota),
    (_LIMIT, _limit),
    (_SECURITY, _security),
    (_POLICY, _policy),
    (_WEBHOOK_RULE, _webhook_rule),
)
