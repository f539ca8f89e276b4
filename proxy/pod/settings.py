"""
What decides how a Pod is injected: one table, of which every row is an option of the command and an annotation.

An annotation stands at the Pod (for a Deployment: at its template) and wins over the option, so that a platform sets
defaults and an application speaks for itself. A name below `mtls-sidecar.io/` that is not in the table is refused: a
slip in `allow` must not leave a port open or closed by accident. docs/annotations.md is generated from the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy import __version__
from proxy.core.config import Mode
from proxy.core.configkinds import suggestion
from proxy.core.spiffe import quote
from proxy.pod import settingwords as words
from proxy.pod.redirect import Network, PortRange
from proxy.pod.refusal import Refused

PREFIX = "mtls-sidecar.io/"
STATUS = f"{PREFIX}status"  # what was injected; uninjection.py reads it
CONFIG = f"{PREFIX}generated-config"  # the sidecar's configuration, which it reads through the downward API
HELPER_CONFIG = f"{PREFIX}generated-helper-config"
GENERATED_FOR = f"{PREFIX}generated-for"  # on a ConfigMap: the workload that it was generated for
GENERATED = (STATUS, CONFIG, HELPER_CONFIG, GENERATED_FOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one Pod is injected; what the fields mean is in the table below."""

    identity: words.IdentitySource | None = None
    trust_domain: str = ""
    bundles: tuple[tuple[str, str], ...] = ()
    mode: Mode = Mode.STRICT
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    ports: words.Ports | None = None
    inbound: tuple[tuple[int, Mapping[str, object]], ...] = ()
    outbound: tuple[Mapping[str, object], ...] = ()
    routes: tuple[Mapping[str, object], ...] = ()
    config: tuple[tuple[str, object], ...] = ()
    intercept: bool = True
    exclude_inbound_ports: tuple[PortRange, ...] = ()
    include_outbound_ports: tuple[PortRange, ...] = ()
    exclude_outbound_ports: tuple[PortRange, ...] = ()
    include_outbound_cidrs: tuple[Network, ...] = ()
    exclude_outbound_cidrs: tuple[Network, ...] = ()
    ipv6: bool = False
    rewrite_probes: bool | None = None
    classic: bool = False
    job_quits: bool = False
    image: str = f"mtls-sidecar:{__version__}"
    image_pull_policy: str = ""
    spiffe_helper_image: str = "ghcr.io/spiffe/spiffe-helper:0.10.0"
    cpu_request: str = "50m"
    memory_request: str = "64Mi"
    cpu_limit: str = ""
    memory_limit: str = "256Mi"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. field: of Settings; parse: raises ValueError with a clause; metavar, meaning: for help and docs."""

    field: str
    parse: Callable[[str], object]
    metavar: str
    meaning: str

    @property
    def name(self) -> str:
        """Its name as an option, and as an annotation below the prefix."""
        return self.field.replace("_", "-")

    @property
    def annotation(self) -> str:
        """The name of the annotation."""
        return f"{PREFIX}{self.name}"


TABLE = (
    Row(
        "identity",
        words.parse_identity,
        "SOURCE",
        "Who writes the SVID: `csi-driver-spiffe` (cert-manager), `spiffe-csi` (SPIRE, with spiffe-helper) or "
        "`secret/NAME` with tls.crt, tls.key and ca.crt. Required.",
    ),
    Row(
        "trust_domain",
        words.parse_domain,
        "NAME",
        "Our trust domain, whose roots are in ca.crt of the identity. Required.",
    ),
    Row(
        "bundles",
        words.parse_bundles,
        "LIST",
        "Federation: `partner.example=configmap/NAME`, and so on; the roots are in ca.crt of that ConfigMap.",
    ),
    Row(
        "mode",
        words.parse_mode,
        "MODE",
        "STRICT, PERMISSIVE or DISABLE, for every inbound port without its own.",
    ),
    Row(
        "allow",
        words.parse_list,
        "PATTERNS",
        "Who may connect: SPIFFE IDs or patterns, by commas or white space. Required unless `mode` is DISABLE "
        "or `ports` is none.",
    ),
    Row(
        "deny",
        words.parse_list,
        "PATTERNS",
        "Who may not, whatever `allow` says.",
    ),
    Row(
        "ports",
        words.parse_port_list,
        "PORTS",
        "The app's ports that the sidecar stands in front of, or `none`. With interception: 8080,9000-9010, "
        "by default every port. Without: 8080 or LISTEN:8080 (the sidecar listens on 15006, 15007, ... where "
        "no LISTEN is given), by default every TCP port that the containers declare.",
    ),
    Row(
        "inbound",
        words.parse_inbound,
        "YAML",
        "Ports that differ: a mapping from the port to keys of `inbound` in the configuration, e.g. `{9090: "
        "{mode: DISABLE}, 3306: {server_first: true}}`.",
    ),
    Row(
        "outbound",
        words.parse_mappings,
        "YAML",
        "Outbound listeners, as `outbound` in the configuration; the app connects to them by address.",
    ),
    Row(
        "routes",
        words.parse_mappings,
        "YAML",
        "Where intercepted connections get mutual TLS, as `intercept.outbound.routes`; all others pass "
        "through as they are. Without routes outbound is not intercepted.",
    ),
    Row(
        "config",
        words.parse_config,
        "YAML",
        "Further sections of the configuration: tls, timeouts, limits, log, workers.",
    ),
    Row(
        "intercept",
        words.parse_boolean,
        "BOOL",
        "Redirect the Pod's TCP to the sidecar by packet rules, which an init container with NET_ADMIN "
        "writes. `false`: clients connect to the sidecar's ports, and the app to its outbound listeners.",
    ),
    Row(
        "exclude_inbound_ports",
        words.parse_excluded_ports,
        "PORTS",
        "Interception: ports that bypass the sidecar.",
    ),
    Row(
        "include_outbound_ports",
        words.parse_included_ports,
        "PORTS",
        "Interception: outbound ports to catch, instead of all.",
    ),
    Row(
        "exclude_outbound_ports",
        words.parse_excluded_ports,
        "PORTS",
        "Interception: outbound ports that bypass the sidecar.",
    ),
    Row(
        "include_outbound_cidrs",
        words.parse_included_cidrs,
        "CIDRS",
        "Interception: networks to catch, instead of all.",
    ),
    Row(
        "exclude_outbound_cidrs",
        words.parse_excluded_cidrs,
        "CIDRS",
        "Interception: networks that bypass the sidecar.",
    ),
    Row(
        "ipv6",
        words.parse_boolean,
        "BOOL",
        "Listen on [::], which takes IPv4 as well, where the nodes have IPv6. Otherwise IPv6 does not get in.",
    ),
    Row(
        "rewrite_probes",
        words.parse_boolean,
        "BOOL",
        "Have kubelet ask the sidecar for the app's HTTP, TCP and gRPC probes. By default where interception "
        "would refuse kubelet.",
    ),
    Row(
        "classic",
        words.parse_boolean,
        "BOOL",
        "An ordinary container, placed first, for clusters before 1.29, instead of a native sidecar.",
    ),
    Row(
        "job_quits",
        words.parse_boolean,
        "BOOL",
        "With `classic`: the Job's own container ends the sidecar by POST /quitquitquit, or the Job never completes.",
    ),
    Row(
        "image",
        words.parse_image,
        "IMAGE",
        "The sidecar's image.",
    ),
    Row(
        "image_pull_policy",
        words.parse_pull_policy,
        "POLICY",
        "Always, IfNotPresent or Never, for all injected containers.",
    ),
    Row(
        "spiffe_helper_image",
        words.parse_image,
        "IMAGE",
        "With `spiffe-csi`: who fetches the SVID.",
    ),
    Row(
        "cpu_request",
        words.parse_quantity,
        "QUANTITY",
        "CPU that the sidecar asks for.",
    ),
    Row(
        "memory_request",
        words.parse_quantity,
        "QUANTITY",
        "Memory that the sidecar asks for.",
    ),
    Row(
        "cpu_limit",
        words.parse_quantity,
        "QUANTITY",
        "CPU that the sidecar may use at most.",
    ),
    Row(
        "memory_limit",
        words.parse_quantity,
        "QUANTITY",
        "Memory that the sidecar may use at most.",
    ),
)


def wants_injection(metadata: Mapping[str, Any]) -> bool | None:
    """
    Whether a Pod asks to be injected (True) or left alone (False); None: it says nothing.

    A label counts like an annotation, since the webhook's objectSelector sees labels alone; false wins.
    Raises: Refused
    """
    said: set[bool] = set()
    for where in ("annotations", "labels"):
        text = (metadata.get(where) or {}).get(f"{PREFIX}inject")
        if text is not None:
            said.add(_judge(f"the {where[:-1]} {PREFIX}inject", words.parse_inject, text))
    return None if not said else False not in said


def read_settings(annotations: Mapping[str, Any], defaults: Settings) -> Settings:
    """Read the settings of one Pod. Raises: Refused with every faulty annotation."""
    known = {row.annotation: row for row in TABLE}
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, text in annotations.items():
        if not name.startswith(PREFIX) or name in GENERATED or name == f"{PREFIX}inject":
            continue
        row = known.get(name)
        if row is None:
            faults.append(_unknown(name, known))
            continue
        try:
            values[row.field] = _judge(f"the annotation {name}", row.parse, text)
        except Refused as refused:
            faults += refused.sentences
    if faults:
        raise Refused(faults)
    return replace(defaults, **values)


def _judge(what: str, parse: Callable[[str], Any], text: object) -> Any:
    if not isinstance(text, str):
        raise Refused([f"{what} has to be text: write it in quotes."])
    if len(text) > words.MAX_CHARS:
        raise Refused([f"{what} has {len(text)} characters; the most is {words.MAX_CHARS}."])
    try:
        return parse(text)
    except ValueError as error:
        raise Refused([f"{what} is {quote(text)}: {error}."]) from None


def _unknown(name: str, known: Mapping[str, object]) -> str:
    near = suggestion(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known])
    return f"There is no annotation {name}" + (f"; {near}" if near else "; docs/annotations.md lists them.")
