"""How the API server is reached: as the pod's service account, or as a kubeconfig file says.

The client is imported and set up in a thread: that takes most of a second and reads files.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._version import __version__
from ...errors import QueueError
from ...oci.trust import Origin, find_proxy

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How the API server is reached.

    Attributes:
        namespace: Every request is within it.
        kubeconfig: None: the service account that the pod runs as.
        context: Of the kubeconfig; None takes its own choice.
        environ: The process's: where the API server is in a pod, and proxies.
        service_account: Directory with ``token`` and ``ca.crt``; the token is read again when it is replaced.
        connect_timeout_s: For a connection.
        request_timeout_s: For a whole answer; streams have none.
    """

    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    service_account: Path = SERVICE_ACCOUNT
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 20.0


class Connection:
    """One client, opened when it is first needed, and opened anew when its credentials are no longer taken."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._client: ApiClient | None = None
        self._opening = asyncio.Lock()

    async def client(self) -> ApiClient:
        """The client.

        Raises:
            QueueError: the kubeconfig or the service account's files cannot be used.
        """
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(build_client, self._settings)
            return self._client

    async def renew(self, used: ApiClient) -> None:
        """Read tokens and certificates again, unless somebody has since ``used`` was handed out."""
        async with self._opening:
            if self._client is used:
                self._client = None
                await used.close()

    async def close(self) -> None:
        async with self._opening:
            if self._client is not None:
                await self._client.close()
                self._client = None


def read_account(service_account: Path) -> str:
    """The name of the ServiceAccount that a pod's token is for; empty when it does not say."""
    try:
        claims = (service_account / "token").read_text(encoding="ascii").split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(f"{claims}=="))
        name = said["kubernetes.io"]["serviceaccount"]["name"]
    except (OSError, ValueError, IndexError, KeyError, TypeError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def import_client() -> None:
    """Import the client ahead of its first use, in a thread of the caller's: most of the time of a first call."""
    with suppress(ImportError):
        import kubernetes.aio.client
        import kubernetes.aio.config  # noqa: F401


def build_client(settings: ConnectionSettings) -> ApiClient:
    """Blocks; call it in a thread."""
    try:
        from kubernetes.aio.client import ApiClient
    except ImportError as exc:
        raise QueueError(
            "The client for Kubernetes is not installed.",
            hint="Install jupyterlab_ai_batch with its extra 'cluster' in the server's environment.",
        ) from exc
    configuration = _build_configuration(settings)
    configuration.proxy = find_proxy(Origin.of(configuration.host), settings.environ)
    configuration.client_session_kwargs = {"trust_env": False}  # the environment is read here, once
    client = ApiClient(configuration)
    client.user_agent = f"jupyterlab-ai-batch/{__version__}"
    return client


def _build_configuration(settings: ConnectionSettings) -> Configuration:
    from kubernetes.aio.client import Configuration

    configuration = Configuration()
    load = _load_service_account if settings.kubeconfig is None else _load_kubeconfig
    try:
        load(configuration, settings)
    except Exception as exc:
        source = settings.kubeconfig or settings.service_account
        raise QueueError(
            "The credentials for the cluster cannot be read.",
            hint=f"Check {source}; in a pod, the server needs a service account with its token mounted.",
            details={"path": str(source), "reason": type(exc).__name__},
        ) from exc
    return configuration


def _load_service_account(configuration: Any, settings: ConnectionSettings) -> None:
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    InClusterConfigLoader(
        token_filename=str(settings.service_account / "token"),
        cert_filename=str(settings.service_account / "ca.crt"),
        environ=settings.environ,
    ).load_and_set(configuration)


def _load_kubeconfig(configuration: Any, settings: ConnectionSettings) -> None:
    from kubernetes.aio.config import load_kube_config

    async def load() -> None:
        await load_kube_config(
            config_file=str(settings.kubeconfig),
            context=settings.context,
            client_configuration=configuration,
            persist_config=False,
        )

    asyncio.run(load())
