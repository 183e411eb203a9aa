"""The component around ``testbed.tokens``: who may pull and push what in the registry."""

from __future__ import annotations

import json
import secrets
import sys

from ..component import Cluster, Component, answers
from ..places import REGISTRY_NAME, TOKEN_PORT
from .pool import USERS

ADMIN = "admin"


class TokenService(Component):
    name = "token-service"

    def start(self, cluster: Cluster) -> None:
        accounts = cluster.instance.accounts_file
        if not accounts.exists():
            accounts.touch(mode=0o600)
            accounts.write_text(json.dumps({name: secrets.token_urlsafe(16) for name in (ADMIN, *USERS)}, indent=1))
        cluster.run(self.name, [sys.executable, "-m", "testbed.tokens"])

    def ready(self, cluster: Cluster) -> bool:
        return answers(f"https://{REGISTRY_NAME}:{TOKEN_PORT}/healthz", ca=cluster.certificate("ca.crt"))
