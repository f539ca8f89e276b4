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

from proxy import __version__
from proxy.cli.enginecheck import judge_engine, read_again
from proxy.core.config import Config
from proxy.core.configfile import ConfigFaults
from proxy.net.sockets import ListenFault, inherited_sockets, open_socket
from proxy.ops import log as logs
from proxy.ops.configsource import STDIN, Source, read_source
from proxy.ops.cores import usable_cores
from proxy.ops.descriptors import raise_limit, too_few
from proxy.ops.eventloop import LOOPS, attend_signals, loop_factory, report_bugs

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
    parser.add_argument("--loop", choices=LOOPS, default=LOOPS[0], help="the event loop (default: uvloop, the faster)")


def run(args: argparse.Namespace) -> int:
    """Serve. Returns: the exit status."""
    try:
        source = read_source(args.config)
        config = source.parse()
        judge_engine(config.tls, source)
    except ConfigFaults as faults:
        print(f"{faults}\n\nNothing was started. `mtls-sidecar validate` shows the same list.", file=sys.stderr)
        return 2
    # A pipe, as standard input or from `<(...)`, has been read to its end: there is nothing to watch, or to read again.
    path = args.config if args.config != STDIN and os.path.isfile(args.config) else None
    workers = config.workers or usable_cores()
    # What each imports is imported only there: a supervisor touches no TLS, and one process alone needs no supervisor.
    life = _alone(config, path) if workers == 1 else _supervise(source, config, path, workers, args.loop)
    with asyncio.Runner(loop_factory=loop_factory(args.loop)) as runner:
        try:
            return runner.run(life)
        except ListenFault as fault:
            print(fault, file=sys.stderr)
            return 1


async def _alone(config: Config, path: str | None) -> int:
    """Everything in this process."""
    from proxy.ops.sidecar import Sidecar, metrics_of
    from proxy.tls.engine import find_engine, why_not_boringssl

    log = logs.configure(config.log.level, config.log.format, sys.stderr)
    report_bugs(log)
    inherited = inherited_sockets(os.environ, os.getpid())
    engine = find_engine(config.tls)
    log.info(
        "starting", version=__version__, tls_engine=engine.name, tls_engine_version=engine.version, pid=os.getpid()
    )
    for sentence in (why_not_boringssl(config.tls), too_few(config, 1, raise_limit())):
        if sentence is not None:
            log.warning("notice", detail=sentence)
    sidecar = Sidecar(
        config,
        config_path=path,
        read_config=lambda: config if path is None else read_again(path, config.tls.engine).parse(),
        open_socket=lambda address: open_socket(address, inherited),
        log=log,
        metrics=metrics_of(config),
        clock=time.time,  # noqa: TID251  the one place where the wall clock comes from
    )
    attend_signals(leave=sidecar.quit, leave_at_once=sidecar.leave_at_once, look=sidecar.look)
    return await sidecar.run()


async def _supervise(source: Source, config: Config, path: str | None, workers: int, loop_name: str) -> int:
    """Everything in worker processes, which this one looks after."""
    from proxy.ops.supervisor import Supervisor

    log = logs.configure(config.log.level, config.log.format, sys.stderr)
    report_bugs(log)
    inherited = inherited_sockets(os.environ, os.getpid())
    log.info("starting", version=__version__, workers=workers, pid=os.getpid())
    if (sentence := too_few(config, workers, raise_limit())) is not None:
        log.warning("notice", detail=sentence)
    supervisor = Supervisor(
        source,
        config,
        workers=workers,
        loop_name=loop_name,
        config_path=path,
        read_source=lambda: source if path is None else read_again(path, config.tls.engine),
        open_socket=lambda address: open_socket(address, inherited, backlog=None),
        log=log,
        clock=time.time,  # noqa: TID251  as above
    )
    attend_signals(leave=supervisor.quit, leave_at_once=supervisor.leave_at_once, look=supervisor.look)
    return await supervisor.run()
