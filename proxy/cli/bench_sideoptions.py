"""Options that `bench compare` and `bench relay` share."""

import argparse
from collections.abc import Callable, Sequence

from proxy.cli.bench_options import whole
from proxy.lab.generator import LoadFault
from proxy.lab.sides import engines
from proxy.lab.testbed import KEY_WORDS
from proxy.lab.workloads import Scale


def add_sides(parser: argparse.ArgumentParser) -> None:
    """Declare what the sidecars are: --engine, --key."""
    parser.add_argument(
        "--engine",
        type=among("engine", ("openssl", "boringssl")),
        metavar="NAMES",
        help="TLS engines of the sidecar, one line for each (default: all that are built here)",
    )
    parser.add_argument(
        "--key", choices=list(KEY_WORDS), default="ecdsa-p256", help="of all certificates (default: %(default)s)"
    )


def add_measure(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Declare --measure."""
    parser.add_argument(
        "--measure",
        type=among("measurement", names),
        default=tuple(names),
        metavar="WHAT",
        help=f"which of {','.join(names)} (default: all)",
    )


def add_amounts(parser: argparse.ArgumentParser, *, bulk_mib: int, idle: int) -> None:
    """Declare how much is moved and held: --bulk, --idle."""
    parser.add_argument(
        "--bulk",
        type=whole(1, 1 << 20),
        default=bulk_mib,
        metavar="MIB",
        help="of a bulk transfer (default: %(default)s)",
    )
    parser.add_argument(
        "--idle",
        type=whole(1, 4000),
        default=idle,
        metavar="N",
        help="connections that are held to see their memory (default: %(default)s)",
    )


def chosen_engines(args: argparse.Namespace) -> tuple[str, ...]:
    """Those that were asked for, or all. Raises: LoadFault when one is not built here"""
    built = engines()
    wanted: tuple[str, ...] = args.engine or built
    for name in wanted:
        if name not in built:
            raise LoadFault(f"the engine {name} is not built here; there is {', '.join(built)}")
    return wanted


def scale_of(args: argparse.Namespace) -> Scale:
    """How much of everything was asked for."""
    return Scale(seconds=args.seconds, bulk_bytes=args.bulk << 20, idle=args.idle)


def among(what: str, names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A type that reads some of the names, with commas between them; "none" is none."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip() and text != "none"))
        for name in found:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r} is no {what}: there are {', '.join(names)}")
        return found

    return read
