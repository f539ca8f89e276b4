"""
How the values of options and annotations are written: text in, typed value or one clause that says what is wrong.

Every parser raises ValueError, whose text goes behind the value in a sentence. What the configuration's reader judges
later (patterns, listeners, routes) is only taken apart here, so that each rule stands in one place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import yaml

from proxy.core.config import Mode
from proxy.core.reasons import Rejected
from proxy.core.spiffe import parse_trust_domain
from proxy.pod.redirect import Network, PortRange, parse_cidrs, parse_ports

MAX_CHARS = 64 * 1024  # all annotations of an object together may have 256 KiB
NONE = "none"

_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123 subdomain, as names of objects are
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)}
_SUFFIXES |= {name: Decimal(1000) ** power for power, name in enumerate("MGTPE", start=2)}
_SUFFIXES |= {f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", start=1)}
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_SECTIONS = ("tls", "timeouts", "limits", "log", "workers")


class IdentityKind(StrEnum):
    """Who writes the SVID into the Pod."""

    CSI_DRIVER_SPIFFE = "csi-driver-spiffe"
    SPIFFE_CSI = "spiffe-csi"
    SECRET = "secret"  # noqa: S105  # a word, no password


@dataclass(frozen=True, slots=True)
class IdentitySource:
    """Who writes the SVID; name: the Secret's, empty for the others."""

    kind: IdentityKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else str(self.kind)


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the app. pairs: (port that the sidecar is given to listen on, port of the app); neither: none at all."""

    ranges: tuple[PortRange, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges or self.pairs)


def parse_boolean(text: str) -> bool:
    """Parse true or false."""
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("write true or false")
    return text.strip().lower() == "true"


def parse_inject(text: str) -> bool:
    """Parse whether to inject; `enabled` and `disabled` are what other meshes write."""
    return parse_boolean({"enabled": "true", "disabled": "false"}.get(text.strip().lower(), text))


def parse_identity(text: str) -> IdentitySource:
    """Parse csi-driver-spiffe, spiffe-csi or secret/NAME."""
    kind, slash, name = text.strip().partition("/")
    if kind not in list(IdentityKind) or (kind == IdentityKind.SECRET) is not bool(slash):
        raise ValueError("write csi-driver-spiffe, spiffe-csi or secret/NAME")
    return IdentitySource(IdentityKind(kind), _object_name(name) if slash else "")


def parse_domain(text: str) -> str:
    """Parse the bare name of a trust domain."""
    try:
        return parse_trust_domain(text.strip()).name
    except Rejected as rejected:
        raise ValueError(rejected.detail) from None


def parse_bundles(text: str) -> tuple[tuple[str, str], ...]:
    """Parse DOMAIN=configmap/NAME, by commas or white space."""
    found: dict[str, str] = {}
    for item in parse_list(text):
        domain, _, source = item.partition("=")
        kind, _, name = source.partition("/")
        if kind != "configmap":
            raise ValueError("write DOMAIN=configmap/NAME, e.g. partner.example=configmap/partner-roots")
        if found.setdefault(parse_domain(domain), _object_name(name)) != name:
            raise ValueError(f"{domain} stands in it twice")
    return tuple(found.items())


def parse_mode(text: str) -> Mode:
    """Parse a mode."""
    try:
        return Mode(text.strip())
    except ValueError:
        raise ValueError(f"write {', '.join(Mode)}") from None


def parse_list(text: str) -> tuple[str, ...]:
    """Parse words by commas or white space."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def parse_port_list(text: str) -> Ports:
    """Parse 8080, 9000-9010 and LISTEN:8080, or none."""
    if text.strip() == NONE:
        return Ports()
    pairs, rest = [], []
    for item in parse_list(text):
        if ":" in item:
            listen, _, port = item.partition(":")
            pairs.append((_port(listen), _port(port)))
        else:
            rest.append(item)
    if not pairs and not rest:
        raise ValueError("it is empty; write `none` for no port at all")
    return Ports(parse_ports(",".join(rest)), tuple(dict.fromkeys(pairs)))


def parse_excluded_ports(text: str) -> tuple[PortRange, ...]:
    """Parse 80,8000-8080; nothing is no port."""
    if text.strip() == "*":
        raise ValueError("to leave a whole direction alone, set `ports` to none, or give no `routes`")
    return parse_ports(text) if text.strip() else ()


def parse_included_ports(text: str) -> tuple[PortRange, ...]:
    """Parse 80,8000-8080; `*` is every port."""
    return parse_ports(text)


def parse_excluded_cidrs(text: str) -> tuple[Network, ...]:
    """Parse 10.0.0.0/8,fd00::/8; nothing is no network."""
    if text.strip() == "*":
        raise ValueError("to leave outbound alone, give no `routes`")
    return parse_cidrs(text) if text.strip() else ()


def parse_included_cidrs(text: str) -> tuple[Network, ...]:
    """Parse 10.0.0.0/8,fd00::/8; `*` is every network."""
    return parse_cidrs(text)


def parse_inbound(text: str) -> tuple[tuple[int, Mapping[str, object]], ...]:
    """Parse a YAML mapping from ports to mappings."""
    value = _yaml(text)
    if not isinstance(value, dict) or not all(
        isinstance(port, int) and not isinstance(port, bool) and isinstance(keys, dict) for port, keys in value.items()
    ):
        raise ValueError("write a mapping from ports to mappings, e.g. {9090: {mode: DISABLE}}")
    for port in value:
        _port(str(port))
    return tuple(value.items())


def parse_mappings(text: str) -> tuple[Mapping[str, object], ...]:
    """Parse a YAML list of mappings."""
    value = _yaml(text)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("write a list of mappings, e.g. [{name: payments, ...}]")
    return tuple(value)


def parse_config(text: str) -> tuple[tuple[str, object], ...]:
    """Parse a YAML mapping of the sections that are not the injection's own."""
    value = _yaml(text)
    if not isinstance(value, dict) or not all(name in _SECTIONS for name in value):
        raise ValueError(f"write a mapping of some of the sections {', '.join(_SECTIONS)}; others have their own names")
    return tuple(value.items())


def parse_image(text: str) -> str:
    """Parse the reference of an image."""
    if not _IMAGE.fullmatch(text.strip()):
        raise ValueError("write the reference of an image, e.g. registry.example/mtls-sidecar:1.0.0")
    return text.strip()


def parse_pull_policy(text: str) -> str:
    """Parse an imagePullPolicy."""
    if text.strip() not in ("Always", "IfNotPresent", "Never"):
        raise ValueError("write Always, IfNotPresent or Never")
    return text.strip()


def parse_quantity(text: str) -> str:
    """Parse a quantity as Kubernetes writes it; nothing is no limit."""
    if text.strip() and not _QUANTITY.fullmatch(text.strip()):
        raise ValueError("write a quantity, e.g. 100m, 0.5, 64Mi or 1Gi; empty for none")
    return text.strip()


def amount(quantity: str) -> Decimal:
    """How much a quantity is, as Kubernetes reads it: 64Mi is more than 60M."""
    number = quantity.rstrip("".join(_SUFFIXES))
    return Decimal(number) * _SUFFIXES[quantity.removeprefix(number)]


def _port(text: str) -> int:
    ports = parse_ports(text) if text.strip() not in ("", "*") else ()
    if len(ports) != 1 or ports[0].first != ports[0].last:
        raise ValueError(f"{text!r} is no port: write a number from 1 to 65535")
    return ports[0].first


def _object_name(text: str) -> str:
    if not _DNS_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name of an object: lower-case letters, digits, `-` and `.`")
    return text


def _yaml(text: str) -> object:
    try:
        # An alias can stand for a million values; what an annotation needs twice it can write twice.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("it holds an alias (*name); write it out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ValueError(f"it is no YAML{where}: {getattr(error, 'problem', None) or 'it cannot be read'}") from None
