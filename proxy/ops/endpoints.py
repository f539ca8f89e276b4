"""
The admin and health endpoints as a pair that a new configuration can open, move and close while the proxy runs.
"""

import os

from proxy.core.config import AdminConfig, Config, HealthConfig, TcpAddress, UnixAddress
from proxy.net.sockets import ListenFault
from proxy.ops.admin import Operated, open_admin, open_health
from proxy.ops.appprobes import AppProbes
from proxy.ops.http import HttpServer
from proxy.ops.log import Log


class Endpoints:
    """Owns the two HTTP servers; whoever makes it closes it."""

    def __init__(self, operated: Operated, log: Log) -> None:
        self._operated = operated
        self._log = log
        self._open: dict[str, tuple[TcpAddress | UnixAddress, HttpServer]] = {}
        self._app_probes = AppProbes()

    async def apply(self, config: Config) -> None:
        """Have open exactly what the configuration asks for. Raises: ListenFault, and changed nothing."""
        wanted = {"admin": config.admin, "health": config.health}
        opened: dict[str, tuple[TcpAddress | UnixAddress, HttpServer]] = {}
        for name, section in wanted.items():
            known = self._open.get(name)
            if section is None or (known is not None and known[0] == section.listen):
                continue
            try:
                opened[name] = section.listen, await self._start(section)
            except OSError as error:
                for _, server in opened.values():
                    await server.close()
                raise ListenFault(
                    f"cannot listen on {section.listen} for `{name}` ({_why(error)}): "
                    f"stop what has it (ss -ltnp shows which), or set {name}.listen to another address"
                ) from None
        for name, section in wanted.items():
            known = self._open.get(name)
            if known is not None and (section is None or known[0] != section.listen):
                del self._open[name]
                await known[1].close()
        self._open |= opened
        self._app_probes = AppProbes(config.health.app_probes if config.health is not None else ())

    async def _start(self, section: AdminConfig | HealthConfig) -> HttpServer:
        if isinstance(section, AdminConfig):
            return await open_admin(section, self._operated, self._log)
        return await open_health(section, self._operated, self._log, lambda: self._app_probes)

    async def close(self) -> None:
        """Close both."""
        for _, server in self._open.values():
            await server.close()
        self._open.clear()


def _why(error: OSError) -> str:
    """The system's words: asyncio puts a sentence of its own in their place. Those of the resolver have no number."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
