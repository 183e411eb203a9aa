"""The NetworkPolicy that lets sessions and jobs reach what they need. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from .fixes import documents

_API_ENDPOINT_PORT = 6443  # policies look at where a Service sends a connection to
_SAYS = (
    "Only where a NetworkPolicy selects these pods already: the first one that does",
    "shuts out whatever it does not name.",
)
Rule = Mapping[str, Any]


def dns_rule() -> Rule:
    """To the cluster's resolver."""
    resolver = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    return {"to": [resolver], "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}


def host_rule(addresses: Sequence[str], port: int) -> Rule:
    """To these addresses; to any where none is known."""
    to = [{"ipBlock": {"cidr": f"{address}/{128 if ':' in address else 32}"}} for address in addresses]
    return {**({"to": to} if to else {}), "ports": [{"protocol": "TCP", "port": port}]}


def api_rules(host: str, port: int) -> Sequence[Rule]:
    """To the API server: its Service's address, and the port that it listens at."""
    is_address = bool(host) and all(sign in "0123456789abcdefABCDEF.:" for sign in host)
    return [host_rule([host] if is_address else [], port), host_rule([], _API_ENDPOINT_PORT)]


def egress(namespace: str, rules: Sequence[Rule], *, says: Sequence[str] = ()) -> str:
    """A policy under a name made of its rules: beside others, ours too, it only adds."""
    name = f"ai-batch-{sha256(json.dumps(rules).encode()).hexdigest()[:8]}"
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": list(rules)},
    }
    return documents(body, says=(*says, *_SAYS))
