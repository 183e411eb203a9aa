"""Server extension that measures how late the event loop is, from inside: ``GET /loop-probe[?reset=1]``.

Every 5 ms a task notes by how much its wake-up was late. The answer is the list of delays in seconds since the last
reset. Loaded only by the benchmark's server.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

INTERVAL_S = 0.005


class LoopProbe:
    """Samples the delay of the running loop until it is cancelled."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.delays_s.append(max(0.0, loop.time() - wanted))


class ProbeHandler(JupyterHandler):
    def initialize(self, probe: LoopProbe) -> None:
        self._probe = probe

    @web.authenticated
    def get(self) -> None:
        delays = self._probe.delays_s
        if self.get_query_argument("reset", None):
            self._probe.delays_s = []
        self.finish(json.dumps(delays))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "loop_probe"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    probe = LoopProbe()
    serverapp.io_loop.asyncio_loop.create_task(probe.run())
    path = url_path_join(serverapp.web_app.settings["base_url"], "loop-probe")
    serverapp.web_app.add_handlers(".*$", [(path, ProbeHandler, {"probe": probe})])
