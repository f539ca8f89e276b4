"""
`mtls-sidecar validate`: every fault of a configuration at once, or one line that says what would run.

Faults go to stdout, one a line, as `FILE:LINE: PATH: MESSAGE`, which editors and CI systems can follow; --json gives
the same to programs.
"""

import argparse
import json
from collections.abc import Callable

from proxy.core.config import Config, ConfigFault, IdentityConfig, InboundConfig, OutboundConfig
from proxy.core.configfile import ConfigFaults
from proxy.ops.configsource import read_config_file

EXIT_GOOD = 0
EXIT_FAULTS = 2

# What judges the identity files once the configuration itself is good: takes the section, returns a fault for each file
# that is missing or bad, with the path of its key ("identity.cert").
IDENTITY_CHECKS: tuple[Callable[[IdentityConfig], tuple[ConfigFault, ...]], ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--config", metavar="FILE", required=True, help="the configuration, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Validate; returns 0 where nothing is wrong, else 2."""
    try:
        config = read_config_file(args.config)
        _check_identity_files(config, file=args.config)
    except ConfigFaults as faults:
        print(json.dumps(_faults_object(faults)) if args.json else faults)
        return EXIT_FAULTS
    print(json.dumps(_good_object(args.config, config)) if args.json else f"{args.config}: good: {_summary(config)}")
    return EXIT_GOOD


def _check_identity_files(config: Config, *, file: str) -> None:
    """Judge the files under `identity` as `run` would. Raises: ConfigFaults, with every fault of every file."""
    faults = tuple(fault for check in IDENTITY_CHECKS for fault in check(config.identity))
    if faults:
        raise ConfigFaults(file, faults)


def _summary(config: Config) -> str:
    listeners = [
        *(f"inbound {one.name} {one.listen} -> {one.upstream} {one.mode}" for one in config.inbound),
        *(f"outbound {one.name} {one.listen} -> {one.upstream}" for one in config.outbound),
    ]
    return "; ".join(listeners)


def _good_object(file: str, config: Config) -> dict[str, object]:
    listeners = [
        *(_listener_object("inbound", one) | {"mode": str(one.mode)} for one in config.inbound),
        *(_listener_object("outbound", one) for one in config.outbound),
    ]
    return {"file": file, "good": True, "faults": [], "listeners": listeners}


def _listener_object(direction: str, one: InboundConfig | OutboundConfig) -> dict[str, str]:
    return {"direction": direction, "name": one.name, "listen": str(one.listen), "upstream": str(one.upstream)}


def _faults_object(faults: ConfigFaults) -> dict[str, object]:
    found = [{"line": fault.line, "path": fault.path, "message": fault.message} for fault in faults.faults]
    return {"file": faults.file, "good": False, "faults": found}
