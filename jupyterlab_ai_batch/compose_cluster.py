"""The cluster's part of the composition: whether jobs go there, and the backend, registry and capture if they do.

A server that runs in a pod learns where it is from the pod's environment (the downward API) and its service account;
what jobs may be is the admin's to say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .capture_models import BaseReference
from .errors import InvalidSubmissionError, QueueError, SessionUnusableError
from .models import Profile
from .oci.base_image import BaseImage, copy_base, read_base_image
from .oci.credentials import credential_files
from .oci.probe import Finding, Step, probe_network, probe_repository
from .oci.reference import Reference, parse_reference
from .oci.registry import Registry, RegistrySettings, connect
from .oci.transport_settings import RetryPolicy, TransportSettings
from .oci.trust import find_proxy
from .queues.kueue.settings import KueueProfile, KueueSettings
from .wire import WireError, from_json, to_json
from .words import BackendChoice

if TYPE_CHECKING:
    from .queues.kueue.api_connection import ConnectionSettings
    from .queues.kueue.backend import KueueBackend
    from .queues.kueue.preflight import Surroundings

POD_NAME, POD_NAMESPACE = "POD_NAME", "POD_NAMESPACE"
DEFAULT_QUEUE = "default"
DEFAULT_PROFILES = (Profile(name="cpu", title="1 CPU core, 4 GiB", cpu_millicores=1000, memory_bytes=4 * 1024**3),)
LOOK_TIMEOUT_S = 5.0
CLUSTER_NAME = "kubernetes.default.svc"  # every cluster's DNS has it
_PATIENTLY = TransportSettings()
_BRIEFLY = TransportSettings(connect_timeout_s=3.0, read_timeout_s=8.0, retry=RetryPolicy(attempts=1))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What a server in a pod knows about its cluster; plain values, like all of the configuration.

    Attributes:
        settings: What the admin decided about jobs.
        pod: Name of the server's own pod.
        container: Of the notebook server in it; empty finds it.
        registry_auth_file: Docker configuration file with the server's credentials; None: where container tools look.
        registry_ca_file: Certificate authorities (PEM) to be trusted besides the system's.
        mount_from: Repositories of the same registry that may have layers already; tried before one is sent.
    """

    settings: KueueSettings
    pod: str
    container: str = ""
    registry_auth_file: Path | None = None
    registry_ca_file: Path | None = None
    mount_from: tuple[str, ...] = ()

    @property
    def repository(self) -> Reference:
        """Where Snapshots go.

        Raises:
            InvalidSubmissionError: it cannot be a repository.
        """
        return parse_reference(self.settings.repository)


# --- where jobs go ------------------------------------------------------------------------------------------------


def choose_cluster(
    settings: Mapping[str, Any], *, environ: Mapping[str, str], is_prepared: bool = False
) -> ClusterConfig | None:
    """The cluster that jobs go to; None for the local queue. Asks the cluster where the choice is ours; blocks.

    Args:
        settings: Trait values by name.
        is_prepared: Ask nobody: the one that an admin meant jobs to go to, whatever is missing there.

    Raises:
        InvalidSubmissionError: a setting has a wrong value.
        SessionUnusableError: jobs are to go to a cluster, and this process is in none.
    """
    try:
        choice = BackendChoice(settings.get("backend") or BackendChoice.AUTO)
    except ValueError as exc:
        names = ", ".join(choice.value for choice in BackendChoice)
        raise _wrong("backend", f"it is one of {names}") from exc
    is_meant = _is_told(settings, environ) if is_prepared else _is_session(settings, environ)
    if choice is BackendChoice.LOCAL or (choice is BackendChoice.AUTO and not is_meant):
        return None
    config = _build_config(settings, environ)
    if is_prepared:
        return config
    if choice is BackendChoice.AUTO and not asyncio.run(_has_queue(config, environ)):
        names = ", ".join(config.settings.queues)
        _log.warning("batch jobs run on this machine: %s has no LocalQueue named %s", config.settings.namespace, names)
        return None
    return config


def _is_session(settings: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether this is a pod that an admin prepared for batch jobs."""
    from .queues.kueue.api_connection import SERVICE_ACCOUNT

    return _is_told(settings, environ) and (SERVICE_ACCOUNT / "token").exists()


def _is_told(settings: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    return bool(environ.get(POD_NAME) and environ.get(POD_NAMESPACE) and settings.get("repository"))


async def _has_queue(config: ClusterConfig, environ: Mapping[str, str]) -> bool:
    """False when the cluster says that there is no LocalQueue; a cluster that does not answer may have one."""
    from .queues.kueue.api import LOCAL_QUEUES
    from .queues.kueue.api_client import KubernetesApi

    api = KubernetesApi(replace(connection_settings(config, environ), request_timeout_s=LOOK_TIMEOUT_S))
    try:
        queues = [await api.get(LOCAL_QUEUES, name) for name in config.settings.queues]
    except QueueError:
        return True
    finally:
        await api.close()
    return any(queue is not None for queue in queues)


def _build_config(settings: Mapping[str, Any], environ: Mapping[str, str]) -> ClusterConfig:
    pod, namespace = environ.get(POD_NAME, ""), environ.get(POD_NAMESPACE, "")
    if not pod or not namespace:
        raise SessionUnusableError(
            "Batch jobs are to run in the cluster, but this server does not know its own pod.",
            hint=f"Ask your admin for {POD_NAME} and {POD_NAMESPACE} in its environment, by the downward API.",
        )
    if not settings.get("repository"):
        raise _wrong("repository", "jobs in the cluster need one")
    given = {name: to_json(value) for name, value in settings.items() if value}
    about_jobs = {
        "queues": [DEFAULT_QUEUE],
        **_pick(given, KueueSettings),
        "namespace": namespace,
        "profiles": [to_json(profile) for profile in _profiles(settings)],
    }
    plain = {**_pick(given, ClusterConfig), "settings": about_jobs, "pod": pod}
    try:
        config = from_json(ClusterConfig, plain)
    except WireError as exc:
        raise InvalidSubmissionError(f"The configuration of batch jobs has a wrong value: {exc}.") from exc
    if config.repository.tag or config.repository.digest:
        raise _wrong("repository", "it is REGISTRY/NAME, without a tag")
    return config


def _pick(values: Mapping[str, Any], record: type[ClusterConfig | KueueSettings]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(record) if field.name in values}


def _profiles(settings: Mapping[str, Any]) -> list[KueueProfile]:
    """An admin writes all keys of a profile side by side."""
    flat = list(settings.get("profiles") or ())
    try:
        return [from_json(KueueProfile, {**to_json(entry), "profile": to_json(entry)}) for entry in flat] or [
            KueueProfile(profile=profile) for profile in DEFAULT_PROFILES
        ]
    except (WireError, TypeError) as exc:
        raise _wrong("profiles", str(exc)) from exc


def _wrong(name: str, why: str) -> InvalidSubmissionError:
    return InvalidSubmissionError(
        f"The setting '{name}' of batch jobs has a wrong value: {why}.",
        hint="Ask your admin.",
        details={"setting": name},
    )


# --- the cluster and the registry ---------------------------------------------------------------------------------


def connection_settings(config: ClusterConfig, environ: Mapping[str, str]) -> ConnectionSettings:
    """To the cluster's API as the server's service account."""
    from .queues.kueue.api_connection import ConnectionSettings

    return ConnectionSettings(namespace=config.settings.namespace, environ=environ)


def prepare_client() -> None:
    """Import the cluster's client while something else is waited for: most of the time of a first request."""
    from .queues.kueue.api_connection import import_client

    threading.Thread(target=import_client, daemon=True, name="import-client").start()


def build_kueue_backend(
    config: ClusterConfig, data_dir: Path, *, environ: Mapping[str, str], clock: Callable[[], datetime]
) -> KueueBackend:
    """Does no I/O."""
    from .queues.kueue.api_client import KubernetesApi
    from .queues.kueue.backend import KueueBackend

    return KueueBackend(
        data_dir,
        settings=config.settings,
        api=KubernetesApi(connection_settings(config, environ)),
        open_repository=lambda: open_repository(config, environ),
        pod=config.pod,
        container=config.container or None,
        python=sys.executable,
        user_id=os.getuid(),
        group_id=os.getgid(),
        now=clock,
        surroundings=_look_around(config, environ),
    )


def _look_around(config: ClusterConfig, environ: Mapping[str, str]) -> Surroundings:
    from .queues.kueue.api_connection import SERVICE_ACCOUNT, read_account
    from .queues.kueue.preflight import Surroundings

    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    return Surroundings(
        probe_registry=lambda image: probe_registry(config, environ, image),
        account=read_account(SERVICE_ACCOUNT),
        api_host=environ.get("KUBERNETES_SERVICE_HOST", ""),
        api_port=int(port) if port.isdecimal() else 443,
    )


def probe_registry(config: ClusterConfig, environ: Mapping[str, str], image: str | None) -> Finding | None:
    """How far one gets with the user's repository, or with reading an image; None when nothing is amiss. Blocks.

    Raises:
        InvalidSubmissionError: the image's name makes no sense.
    """
    wanted = parse_reference(image) if image is not None else config.repository
    with open_repository(config, environ, of=wanted, transport=_BRIEFLY) as registry:
        origin = registry.origin
        auth = config.registry_auth_file
        if auth is not None and not auth.exists():
            return Finding(step=Step.NO_LOGIN, origin=origin)
        amiss = probe_network(origin, known=CLUSTER_NAME) if find_proxy(origin, environ) is None else None
        return amiss or probe_repository(registry, wanted, push=image is None)


def open_repository(
    config: ClusterConfig,
    environ: Mapping[str, str],
    *,
    of: Reference | None = None,
    transport: TransportSettings = _PATIENTLY,
) -> Registry:
    """The user's repository, or the one ``of`` an image, with the server's credentials; nothing is sent yet."""
    auth = config.registry_auth_file
    settings = RegistrySettings(
        transport=replace(transport, environ=environ, ca_file=config.registry_ca_file),
        credential_files=(auth,) if auth is not None else credential_files(environ, home=Path.home()),
        mount_from=config.mount_from if of is None else (),
    )
    return connect(of or config.repository, settings)


@contextmanager
def opened_snapshots(
    config: ClusterConfig, base: BaseReference, *, environ: Mapping[str, str]
) -> Iterator[tuple[Registry, BaseImage]]:
    """Where Snapshots of this user go, and the image below them, whose layers are there.

    Raises:
        BaseImageError, RegistryError, StorageError
    """
    below = parse_reference(base.image)
    with open_repository(config, environ) as store:
        with open_repository(config, environ, of=below) as source:
            image = read_base_image(source, below.target, name=base.image)
            copy_base(source, store, image)
        yield store, image
