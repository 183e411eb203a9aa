"""Which environment variables no job ever gets, whatever the queue: the server's own, and secrets. Pure."""

from __future__ import annotations

import re

_SERVERS_OWN = re.compile(r"JUPYTERHUB_|JPY_", re.IGNORECASE)
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|ACCESS_?KEY|KEY\Z|_PWD\Z|_PAT\Z", re.IGNORECASE
)


def is_withheld(name: str) -> bool:
    """Whether a variable of this name stays with the server."""
    return _SERVERS_OWN.match(name) is not None or is_secret(name)


def is_secret(name: str) -> bool:
    """Whether the name says that the value is a secret."""
    return _SECRET.search(name) is not None
