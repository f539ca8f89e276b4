"""
`mtls-sidecar run`: the proxy itself, until SIGTERM.

Exit status: 0 drained (also when `timeouts.drain_s` cut some connections), 2 a fault of the configuration, 1 anything
else: no valid identity within `identity.wait_s`, a port in use, a second SIGTERM.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable

from proxy import __version__
from proxy.core.config import Config
from proxy.core.configfile import ConfigFaults
from proxy.core.events import Direction, Listener
from proxy.net.sockets import ListenFault, inherited_sockets, open_socket
from proxy.ops import log as logs
from proxy.ops.configsource import STDIN, read_config_file
from proxy.ops.metrics import Metrics
from proxy.ops.sidecar import Sidecar
from proxy.tls.binding import openssl_version

EXAMPLES = """examples:
  mtls-sidecar validate --config sidecar.yaml     look for faults first
  mtls-sidecar run --config sidecar.yaml          serve until SIGTERM
  kill -HUP PID                                   read certificates and configuration anew
  curl http://127.0.0.1:15000/                    what it is doing now (the admin endpoint)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="the configuration, in YAML; - is standard input"
    )
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the event loop (default: uvloop, the faster)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve. Returns: the exit status."""
    try:
        config = read_config_file(args.config)
    except ConfigFaults as faults:
        print(f"{faults}\n\nNothing was started. `mtls-sidecar validate` shows the same list.", file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=_loop_factory(args.loop)) as runner:
        try:
            return runner.run(_serve(config, args.config))
        except ListenFault as fault:
            print(fault, file=sys.stderr)
            return 1


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _serve(config: Config, path: str) -> int:
    log = logs.configure(config.log.level, config.log.format, sys.stderr)
    listeners = [Listener(Direction.INBOUND, inbound.name) for inbound in config.inbound]
    listeners += [Listener(Direction.OUTBOUND, outbound.name) for outbound in config.outbound]
    engine_version = openssl_version()
    metrics = Metrics(listeners, version=__version__, tls_engine="openssl", tls_engine_version=engine_version)
    inherited = inherited_sockets(os.environ, os.getpid())
    log.info("starting", version=__version__, tls_engine="openssl", tls_engine_version=engine_version, pid=os.getpid())
    sidecar = Sidecar(
        config,
        config_path=path,
        read_config=lambda: config if path == STDIN else read_config_file(path),
        open_socket=lambda address: open_socket(address, inherited),
        log=log,
        metrics=metrics,
        clock=time.time,  # noqa: TID251  the one place where the wall clock comes from
    )
    return await sidecar.run()
