"""What a user asks doctor, and an admin does with the answer."""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from .hub import REPOSITORY, Session
from .reach import wait_for

WRONG_LOGIN = "/tmp/other/login.json"

# --- asking -------------------------------------------------------------------------------------------------------


def look(session: Session) -> Mapping[str, Mapping[str, Any]]:
    """The server's checks by name."""
    return {check["name"]: check for check in session.call("GET", "preflight")["checks"]}


def doctor(
    session: Session, settings: Mapping[str, Any] | None = None, environ: str = ""
) -> Mapping[str, Mapping[str, Any]]:
    """The command line's checks by name, with a configuration that goes before the hub's."""
    server = REPOSITORY.partition("/")[0]
    login = {"auths": {server: {"auth": base64.b64encode(b"alice:wrong").decode()}}}
    config = json.dumps({"BatchExtensionApp": settings or {}})
    session.run(f"mkdir -p /tmp/other; cat > {WRONG_LOGIN}", stdin=json.dumps(login).encode())
    session.run("cat > /tmp/other/jupyter_server_config.json", stdin=config.encode())
    told = session.run(f"env {environ} JUPYTER_CONFIG_PATH=/tmp/other jupyter ai-batch doctor --json", check=False)
    return {check["name"]: check for check in json.loads(told)["checks"]}


def missing(session: Session, *names: str, says: str) -> Mapping[str, Any]:
    """The check, of one of these names, that says so; with a fix."""

    def ask() -> Mapping[str, Any] | None:
        checks = look(session)
        amiss = [checks[name] for name in names if name in checks and checks[name]["ok"] is not True]
        return next((check for check in amiss if says in check["summary"]), None)

    check = wait_for(f"{' or '.join(names)} says {says!r}", ask)
    assert check["fix"], check
    return check


def healed(session: Session, name: str) -> None:
    wait_for(f"{name} holds again", lambda: look(session)[name], until=lambda check: check["ok"] is True)


def heal(session: Session, check: Mapping[str, Any]) -> None:
    apply(session, check["fix"])
    healed(session, check["name"])


# --- what an admin does -------------------------------------------------------------------------------------------


def apply(session: Session, fix: str, *, files: Mapping[str, str] | None = None) -> None:
    """As it is printed: YAML for kubectl, or commands."""
    is_yaml = "\nkind: " in fix
    command = ["kubectl", "apply", "-n", session.namespace.name, "-f", "-"] if is_yaml else ["sh", "-e"]
    for name, content in (files or {}).items():
        fix = f"cd $(mktemp -d); cat > {name} <<'END'\n{content}\nEND\n{fix}"
    done = subprocess.run(command, input=fix, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (fix, done.stderr)


@contextmanager
def applied(session: Session, fix: str) -> Iterator[None]:
    """For a while."""
    apply(session, fix)
    yield
    command = ["kubectl", "delete", "-n", session.namespace.name, "--wait=false", "-f", "-"]
    subprocess.run(command, input=fix, capture_output=True, text=True, check=True, timeout=60)


@contextmanager
def patched(
    session: Session, version: str, kind: str, name: str, body: dict[str, Any], back: dict[str, Any]
) -> Iterator[None]:
    patch(session, version, kind, name, body)
    yield
    patch(session, version, kind, name, back)


@contextmanager
def shut(rule: Sequence[str]) -> Iterator[None]:
    """Packets of this kind are lost, before any Service sends them elsewhere."""
    subprocess.run(["iptables", "-t", "raw", "-I", "PREROUTING", *rule], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-t", "raw", "-D", "PREROUTING", *rule], check=True, timeout=30)


def patch(session: Session, version: str, kind: str, name: str, body: dict[str, Any]) -> None:
    session.namespace.cluster.patch(version, kind, name, body, namespace=session.namespace.name)


def get(session: Session, version: str, kind: str, name: str) -> dict[str, Any]:
    found = session.namespace.cluster.get(version, kind, name, namespace=session.namespace.name)
    assert found is not None, name
    return found


def forget_events(session: Session) -> None:
    kubectl("delete", "events", "--all", "-n", session.namespace.name)


def kubectl(*arguments: str) -> None:
    subprocess.run(["kubectl", *arguments], capture_output=True, check=True, timeout=90)


def credentials(secret: Mapping[str, Any]) -> tuple[str, str]:
    """User and password in a login Secret."""
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    (entry,) = config["auths"].values()
    user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return user, password


def policy_ports(fix: str) -> set[int]:
    """The ports that a printed NetworkPolicy opens."""
    (policy,) = yaml.safe_load_all(fix)
    assert policy["kind"] == "NetworkPolicy"
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def service_address(session: Session) -> str:
    found = session.namespace.cluster.get("v1", "Service", "kubernetes", namespace="default")
    assert found is not None
    return str(found["spec"]["clusterIP"])
