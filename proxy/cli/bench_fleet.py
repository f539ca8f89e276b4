"""The options of `bench handshake` that make it one of many generators, and what they come to."""

import argparse
from pathlib import Path

from proxy.cli.bench_options import positive_span_s, span_s
from proxy.core.clockwords import rfc3339
from proxy.lab.fleet import LEAD_S, MOST_GENERATORS, Clock, Fleet, FleetFault, meet, parse_instant
from proxy.lab.turns import SLACK_S, Turns

_MEET_WITHIN_S = 600.0


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("one of many generators, whose results `bench merge` adds up")
    group.add_argument(
        "--fleet",
        type=fleet,
        metavar="I/N",
        help="which of how many, from 0: --rate and concurrency are of this one, arrivals are spread over all",
    )
    group.add_argument("--start-at", metavar="INSTANT", help="begin then, e.g. 2026-11-24T15:00:00Z")
    group.add_argument("--meet", metavar="DIR", help="or agree on the instant in a new folder that all share")
    group.add_argument(
        "--meet-within", type=span_s, default=_MEET_WITHIN_S, metavar="S", help="how long the others may take (10m)"
    )
    group.add_argument(
        "--meet-lead",
        type=positive_span_s,
        default=LEAD_S,
        metavar="S",
        help=f"from the last one's coming to the start ({LEAD_S:g}: NFS shows new files late)",
    )
    group.add_argument(
        "--slack", type=positive_span_s, default=SLACK_S, metavar="S", help=f"rest around measurements ({SLACK_S:g})"
    )


def fleet(text: str) -> Fleet:
    """Read "0/4"."""
    index, slash, size = text.partition("/")
    if not slash or not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in (index, size)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write INDEX/SIZE, from 0/4 to 3/4")
    if not int(index) < int(size) <= MOST_GENERATORS:
        raise argparse.ArgumentTypeError(f"{text!r}: the index is below the size, and that at most {MOST_GENERATORS}")
    return Fleet(int(index), int(size))


def fault_of_fleet(args: argparse.Namespace) -> str | None:
    """What does not fit together, as a sentence."""
    if args.meet is not None and args.start_at is not None:
        return "--start-at and --meet are two ways to agree on the start: give one"
    if args.meet is not None and args.fleet is None:
        return "--meet needs --fleet I/N: which of how many generators this is"
    if (args.fleet or args.start_at) and args.target is None:
        return "--fleet and --start-at are for a server of yours, which all generators load: name it with --target"
    if (args.fleet or args.start_at) and args.find_max:
        return "--find-max searches by itself, at its own pace: it cannot be one of many"
    return None


def turns_of(args: argparse.Namespace, seconds: float, clock: Clock | None = None) -> Turns | None:
    """The timetable of the run, once its start is known; None for a run by itself. Raises: FleetFault"""
    clock = clock or Clock()
    if args.meet is not None:
        start_at = meet(Path(args.meet), args.fleet, within_s=args.meet_within, lead_s=args.meet_lead, clock=clock)
    elif args.start_at is not None:
        start_at = parse_instant(args.start_at)
        if start_at <= clock.now():
            raise FleetFault(f"--start-at {args.start_at}: it is past that ({rfc3339(clock.now())} by this clock)")
    else:
        return None
    return Turns(start_at=start_at, warm_up_s=args.warm_up, seconds=seconds, slack_s=args.slack, clock=clock)
