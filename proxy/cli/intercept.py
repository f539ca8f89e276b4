"""
`mtls-sidecar intercept`: the rules that send a Pod's TCP to its sidecar. What they are is pod/redirect.py's, how they
reach the kernel pod/netfilter.py's, and whether they work pod/redirectcheck.py's.

It is meant for an init container: root with NET_ADMIN for a moment, so that the sidecar itself needs neither. Exit
status: 0 done; 1 not, and the sentence on stderr says why and what to do; 2 a wrong argument.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from proxy.core.configfile import ConfigFaults
from proxy.pod.netfilter import (
    BACKENDS,
    Backend,
    RulesFault,
    choose_backend,
    installed_backends,
    require_net_admin,
    require_pod,
)
from proxy.pod.redirect import (
    INBOUND_PORT,
    OUTBOUND_PORT,
    OWN_PORTS,
    PROXY_GID,
    PROXY_UID,
    Family,
    PortRange,
    Redirect,
    merge_ports,
    parse_cidrs,
    parse_ports,
    plan,
)

EXIT_GOOD = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

NONE = "none"
_IF_INET6 = Path("/proc/net/if_inet6")
_LINK_OR_HOST = ("10", "20")  # scope of ::1 and of link-local addresses in if_inet6

_EXAMPLES = """\
examples:
  mtls-sidecar intercept apply                               # everything, as istio-init does
  mtls-sidecar intercept apply --config /etc/mtls-sidecar/config.yaml
  mtls-sidecar intercept apply --exclude-outbound-ports 5432 --exclude-outbound-cidrs 169.254.169.254/32
  mtls-sidecar intercept apply --include-inbound-ports 8080 --outbound-port none
  mtls-sidecar intercept --dry-run                           # prints the rules; needs no privileges
  mtls-sidecar intercept clean

It belongs into an init container of the Pod (root, NET_ADMIN), never into a Pod with hostNetwork: there it would
redirect everybody's connections, as in a shell of a machine, where it has to be told --whole-machine. Applying twice
is the same as once, and other options replace the rules in one transaction.

exit status: 0 done; 1 the rules are not in force, or a probe went around them; 2 a wrong argument
"""
Value = TypeVar("Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.add_argument("action", nargs="?", choices=("apply", "clean"), help="what to do; with --dry-run: apply")
    parser.add_argument("--dry-run", action="store_true", help="print the rules, change nothing")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="default auto: nft, else iptables")
    parser.add_argument("--ipv6", choices=("auto", "off"), default="auto", help="off: leave IPv6 as it is")
    parser.add_argument("--no-validate", action="store_true", help="do not probe the rules once they are in force")
    parser.add_argument(
        "--whole-machine", action="store_true", help="apply the rules also to the network of a machine that is no Pod"
    )
    where = parser.add_argument_group("where to, and who is exempt")
    where.add_argument(
        "--config",
        metavar="FILE",
        help="of the sidecar: take both ports from `intercept`, leave alone what it does not intercept, and know all "
        "ports of its own",
    )
    where.add_argument(
        "--inbound-port",
        metavar="PORT",
        type=_port,
        default=INBOUND_PORT,
        help=f"of the sidecar, default {INBOUND_PORT}; none: inbound is not caught",
    )
    where.add_argument(
        "--outbound-port",
        metavar="PORT",
        type=_port,
        default=OUTBOUND_PORT,
        help=f"of the sidecar, default {OUTBOUND_PORT}; none: outbound is not caught",
    )
    where.add_argument("--proxy-uid", metavar="UID", type=_id, default=PROXY_UID, help=f"default {PROXY_UID}")
    where.add_argument("--proxy-gid", metavar="GID", type=_id, default=PROXY_GID, help=f"default {PROXY_GID}")
    what = parser.add_argument_group("what is caught", "ports: 80,8000-8080; an exclude wins over an include")
    _option(what, "--include-inbound-ports", "PORTS", _ports, "only these; default *, all")
    _option(what, "--exclude-inbound-ports", "PORTS", _excluded_ports, "not these; the sidecar's own never are")
    _option(what, "--include-outbound-ports", "PORTS", _ports, "these, wherever they lead; default all")
    _option(what, "--exclude-outbound-ports", "PORTS", _excluded_ports, "not these")
    _option(what, "--include-outbound-cidrs", "CIDRS", _cidrs, "these networks, whatever the port; default *, all")
    _option(what, "--exclude-outbound-cidrs", "CIDRS", _excluded_cidrs, "not these")


def _option(
    group: "argparse._ArgumentGroup", name: str, metavar: str, parse: Callable[[str], object], words: str
) -> None:
    group.add_argument(name, metavar=metavar, type=parse, default=(), help=words)


def run(args: argparse.Namespace) -> int:
    """Apply, clean or print; returns the exit status."""
    fault = _usage_fault(args)
    if fault is not None:
        print(f"mtls-sidecar intercept: {fault}", file=sys.stderr)
        return EXIT_USAGE
    try:
        if args.action == "clean":
            _clean(args)
        elif args.dry_run:
            _print_rules(args)
        else:
            _apply(args)
    except RulesFault as fault:
        print(f"mtls-sidecar intercept: {fault}", file=sys.stderr)
        return EXIT_FAILED
    except ConfigFaults as faults:
        print(faults, file=sys.stderr)
        return EXIT_USAGE
    return EXIT_GOOD


def _usage_fault(args: argparse.Namespace) -> str | None:
    """What is wrong with options that are each well written."""
    ports = args.inbound_port, args.outbound_port
    if args.action is None and not args.dry_run:
        return "say apply or clean, or --dry-run to see the rules"
    if args.config is not None and ports != (INBOUND_PORT, OUTBOUND_PORT):
        return "--config has the ports; leave --inbound-port and --outbound-port out"
    if args.action == "clean":
        return None
    if ports == (None, None):
        return (
            "with --inbound-port none and --outbound-port none there is nothing to redirect; give one of them a port, "
            "or say clean to remove the rules"
        )
    if args.inbound_port == args.outbound_port:
        return (
            f"inbound and outbound both lead to port {args.inbound_port}, where the sidecar could not tell them apart; "
            "give them different ports"
        )
    return None


def _apply(args: argparse.Namespace) -> None:
    from proxy.pod.redirectcheck import check

    require_net_admin()
    if not args.whole_machine:
        require_pod()
    redirect = _redirect(args)
    backend = choose_backend(args.backend, plan(redirect, Family.IPV4))
    families, why = _families(args, backend, redirect)
    gone = [family for family in Family if family not in families]
    backend.apply([plan(redirect, family) for family in families], gone)
    for other in installed_backends():
        if other.name != backend.name and other.clean():
            print(f"{other.name}: older rules removed")
    print(f"{backend.name}: rules for {' and '.join(families)} are in force{f' ({why})' if why else ''}")
    for line in _summary(redirect):
        print(f"  {line}")
    if not args.no_validate:
        for finding in check(redirect, families, backend, gone):
            verdict = "validated" if finding.proven else "not validated"
            print(f"  {verdict}: {finding.direction} {finding.family}: {finding.detail}")


def _print_rules(args: argparse.Namespace) -> None:
    redirect = _redirect(args)
    families = [Family.IPV4] if args.ipv6 == "off" else list(Family)
    try:
        backend = choose_backend(args.backend, plan(redirect, Family.IPV4))
    except RulesFault:  # nothing here could carry them: print what the first that is meant would be given
        backend = _any_backend(args.backend)
    print(backend.render([plan(redirect, family) for family in families]), end="")


def _any_backend(word: str) -> Backend:
    from proxy.pod.netfilter import Iptables, Nft

    if word in ("auto", "nft"):
        return Nft("nft")
    return Iptables(word, "" if word == "iptables" else word.removeprefix("iptables"))


def _clean(args: argparse.Namespace) -> None:
    backends = [
        one
        for one in installed_backends()
        if args.backend in ("auto", one.name) or (args.backend == "iptables" and one.name.startswith("iptables"))
    ]
    if args.dry_run:
        print(f"would remove what is named MTLS_SIDECAR of {', '.join(one.name for one in backends) or 'nothing'}")
        return
    require_net_admin()
    found = [one.name for one in backends if one.clean()]
    print(f"{', '.join(found)}: rules removed" if found else "there were no rules of mtls-sidecar")


def _families(args: argparse.Namespace, backend: Backend, redirect: Redirect) -> tuple[list[Family], str]:
    """Which to write rules for, and why IPv6 is not among them. Raises: RulesFault where it would be left open"""
    if args.ipv6 == "off":
        return [Family.IPV4], "IPv6 is left as it is, as --ipv6 off says"
    try:
        addresses = [line.split() for line in _IF_INET6.read_text(encoding="ascii").splitlines()]
    except OSError:
        return [Family.IPV4], "this kernel has no IPv6"
    why = backend.why_not(plan(redirect, Family.IPV6))
    if not why:
        return list(Family), ""
    if any(words[3] not in _LINK_OR_HOST for words in addresses):
        raise RulesFault(
            f"this Pod has an IPv6 address, and {backend.name} cannot write rules for IPv6 ({why}); its IPv6 traffic "
            "would go around the sidecar. If that is meant, say --ipv6 off"
        )
    return [Family.IPV4], f"IPv6 is skipped: this Pod has no address of it, and {why}"


def _redirect(args: argparse.Namespace) -> Redirect:
    """Raises: ConfigFaults"""
    inbound_port, outbound_port, own_ports = args.inbound_port, args.outbound_port, OWN_PORTS
    if args.config is not None:
        inbound_port, outbound_port, own_ports = _configured(args.config)
    return Redirect(
        inbound_port=inbound_port,
        outbound_port=outbound_port,
        own_ports=own_ports,
        proxy_uid=args.proxy_uid,
        proxy_gid=args.proxy_gid,
        include_inbound_ports=args.include_inbound_ports,
        exclude_inbound_ports=args.exclude_inbound_ports,
        include_outbound_ports=args.include_outbound_ports,
        exclude_outbound_ports=args.exclude_outbound_ports,
        include_outbound_cidrs=args.include_outbound_cidrs,
        exclude_outbound_cidrs=args.exclude_outbound_cidrs,
    )


def _configured(path: str) -> tuple[int | None, int | None, tuple[int, ...]]:
    """The inbound port, the outbound port and all ports of a sidecar. Raises: ConfigFaults, RulesFault"""
    from proxy.core.config import InterceptConfig
    from proxy.core.entrances import own_ports
    from proxy.ops.configsource import read_config_file

    config = read_config_file(path)
    intercept = config.intercept or InterceptConfig()
    if intercept == InterceptConfig():
        raise RulesFault(f"{path} has no section `intercept`, so nobody would take what the rules redirect")
    inbound = intercept.inbound.listen.port if intercept.inbound is not None else None
    outbound = intercept.outbound.listen.port if intercept.outbound is not None else None
    return inbound, outbound, tuple(sorted({*own_ports(config), *OWN_PORTS}))


def _summary(redirect: Redirect) -> list[str]:
    lines = []
    if redirect.inbound_port is not None:
        own = [PortRange(port, port) for port in redirect.own_ports]
        lines.append(
            f"inbound: {_words(redirect.include_inbound_ports) or 'every port'} -> {redirect.inbound_port}, "
            f"except {_words(merge_ports([*own, *redirect.exclude_inbound_ports]))}"
        )
    if redirect.outbound_port is not None:
        included = [
            _words(redirect.include_outbound_ports),
            ", ".join(map(str, redirect.include_outbound_cidrs)),
        ]
        excluded = [
            f"uid {redirect.proxy_uid} and gid {redirect.proxy_gid}",
            _words(redirect.exclude_outbound_ports),
            ", ".join(map(str, redirect.exclude_outbound_cidrs)),
        ]
        lines.append(
            f"outbound: {' and '.join(filter(None, included)) or 'everything'} -> {redirect.outbound_port}, "
            f"except {', '.join(filter(None, excluded))}"
        )
    return lines


def _words(ports: Sequence[PortRange]) -> str:
    texts = [str(one.first) if one.first == one.last else f"{one.first}-{one.last}" for one in ports]
    return f"port{'s' if len(ports) > 1 or ports[0].first != ports[0].last else ''} {', '.join(texts)}" if texts else ""


def _argument(parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _ports(text: str) -> tuple[PortRange, ...]:
    return _argument(parse_ports, text)


def _cidrs(text: str) -> tuple[object, ...]:
    return _argument(parse_cidrs, text)


def _excluded_ports(text: str) -> tuple[PortRange, ...]:
    return _ports(_not_everything(text))


def _excluded_cidrs(text: str) -> tuple[object, ...]:
    return _cidrs(_not_everything(text))


def _not_everything(text: str) -> str:
    if text.strip() == "*":
        raise argparse.ArgumentTypeError(
            "to leave a whole direction alone, say --inbound-port none or --outbound-port none"
        )
    return text


def _port(text: str) -> int | None:
    if text == NONE:
        return None
    ports = _ports(text)
    if len(ports) != 1 or ports[0].first != ports[0].last:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535, or none")
    return ports[0].first


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a user or group")
    return int(text)
