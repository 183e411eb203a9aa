"""Pools of connections, one for each origin, with the proxy and the certificates that belong to it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import RegistryError
from .transport_settings import TransportSettings
from .trust import Origin, find_proxy, tls_context

if TYPE_CHECKING:  # importing it takes 40 ms: not before the first request
    from urllib3 import PoolManager

_POOL_SIZE = 8


class Connections:
    """Makes pools when they are needed; safe for several threads."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._pools: dict[Origin, PoolManager] = {}
        self._lock = threading.Lock()

    def to(self, origin: Origin) -> PoolManager:
        with self._lock:
            if origin not in self._pools:
                self._pools[origin] = self._make_pool(origin)
            return self._pools[origin]

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def _make_pool(self, origin: Origin) -> PoolManager:
        from urllib3 import PoolManager, ProxyManager
        from urllib3.util import make_headers, parse_url

        settings = self._settings
        options: dict[str, Any] = {"maxsize": _POOL_SIZE}
        if origin.scheme == "https":
            options["ssl_context"] = tls_context(
                origin,
                environ=settings.environ,
                ca_file=settings.ca_file,
                certificate_directories=settings.certificate_directories,
            )
        proxy = find_proxy(origin, settings.environ)
        if proxy is None:
            return PoolManager(**options)
        try:
            user = unquote(parse_url(proxy).auth or "")
            return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=user) if user else None, **options)
        except Exception:  # noqa: BLE001 - whatever it is: the address may hold a password, which the cause would show
            raise RegistryError(
                "The address of the proxy in the environment cannot be used.",
                hint="Check the variables https_proxy, http_proxy and all_proxy.",
            ) from None
