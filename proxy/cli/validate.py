"""
`mtls-sidecar validate`: every fault of a configuration at once, or one line that says what would run.

Faults go to stdout, one a line, as `FILE:LINE: PATH: MESSAGE`, which editors and CI systems can follow; --json gives
the same to programs. Warnings (patterns that can match nobody, a key file that others can read, an engine that is there
in vain) go to stderr and change nothing about the exit status.
"""

import argparse
import json
import sys
from collections.abc import Iterator

from proxy.cli.enginecheck import judge_engine
from proxy.cli.identitycheck import judge_identity_files
from proxy.core.config import Config, InboundConfig, InterceptConfig, OutboundConfig
from proxy.core.configfile import ConfigFaults
from proxy.core.configwarnings import warnings_of
from proxy.ops.configsource import read_source
from proxy.tls.engine import why_not_boringssl

EXIT_GOOD = 0
EXIT_FAULTS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--config", metavar="FILE", required=True, help="the configuration, or - for standard input")
    parser.add_argument(
        "--skip-identity-files",
        action="store_true",
        help="judge the configuration alone, where the files under `identity` are not there (a review, CI)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Validate; returns 0 where nothing is wrong, else 2."""
    try:
        source = read_source(args.config)
        config = source.parse()
        judge_engine(config.tls, source)
        warnings = warnings_of(config)
        if (why := why_not_boringssl(config.tls)) is not None:
            warnings += (why,)
        if not args.skip_identity_files:
            warnings += judge_identity_files(config, source)
    except ConfigFaults as faults:
        print(json.dumps(_faults_object(faults)) if args.json else faults)
        return EXIT_FAULTS
    for warning in warnings:
        print(f"{args.config}: warning: {warning}", file=sys.stderr)  # stdout is the verdict's
    print(json.dumps(_good_object(args.config, config)) if args.json else f"{args.config}: good: {_summary(config)}")
    return EXIT_GOOD


def _summary(config: Config) -> str:
    listeners = [
        *(f"inbound {one.name} {one.listen} -> {one.upstream} {one.mode}" for one in config.inbound),
        *(f"outbound {one.name} {one.listen} -> {one.upstream}" for one in config.outbound),
        *(f"{direction} intercept {listen} -> {rest}" for direction, listen, rest in _intercepted(config)),
    ]
    return "; ".join(listeners)


def _intercepted(config: Config) -> Iterator[tuple[str, str, str]]:
    """Direction, address and what becomes of that which no port and no route names."""
    intercept = config.intercept or InterceptConfig()
    if (inbound := intercept.inbound) is not None:
        yield "inbound", str(inbound.listen), str(inbound.default.mode) if inbound.default is not None else "refuse"
    if (outbound := intercept.outbound) is not None:
        yield "outbound", str(outbound.listen), str(outbound.default)


def _good_object(file: str, config: Config) -> dict[str, object]:
    listeners: list[dict[str, str | None]] = [
        *(_listener_object("inbound", one) | {"mode": str(one.mode)} for one in config.inbound),
        *(_listener_object("outbound", one) for one in config.outbound),
        *(
            {"direction": direction, "name": "intercept", "listen": listen, "upstream": None, "default": rest}
            for direction, listen, rest in _intercepted(config)
        ),
    ]
    return {"file": file, "good": True, "faults": [], "listeners": listeners}


def _listener_object(direction: str, one: InboundConfig | OutboundConfig) -> dict[str, str | None]:
    return {"direction": direction, "name": one.name, "listen": str(one.listen), "upstream": str(one.upstream)}


def _faults_object(faults: ConfigFaults) -> dict[str, object]:
    found = [{"line": fault.line, "path": fault.path, "message": fault.message} for fault in faults.faults]
    return {"file": faults.file, "good": False, "faults": found}
