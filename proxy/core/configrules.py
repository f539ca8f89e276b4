"""
The rules between the keys of a configuration: what is a fault though every value alone is good.

Each rule looks only at values that were read well, so that one slip of the pen is one fault; and a rule that has all it
needs is judged, whatever else is wrong. A key that would have no effect is a fault where its absence could be mistaken
for safety (`deny` on a port that judges nobody); at its default it says nothing and is let be.
"""

from proxy.core.addresses import is_loopback, leads_back, want_same_socket
from proxy.core.appprobe import ProbeKind
from proxy.core.config import TLS13_GROUPS, AdminConfig, AppTls, ListenAddress, Mode
from proxy.core.configinterceptrules import (
    check_interception,
    intercepted_policies,
    interceptions,
    named_routes,
)
from proxy.core.configkinds import BAD
from proxy.core.configsections import Section
from proxy.core.configyaml import Faults


def check_rules(root: Section, faults: Faults) -> None:
    """Note every broken rule of a file that was read."""
    listeners = [*root.sections("inbound"), *root.sections("outbound")]
    if root.get("inbound") == () and root.get("outbound") == () and root.get("intercept") is None:
        faults.add("", root.line, "no listener: write at least one under `inbound` or `outbound`, or `intercept`")
    for policy in [*root.sections("inbound"), *intercepted_policies(root)]:
        _check_allow(policy, faults)
        _check_app_tls(policy, faults)
        _check_server_first(policy, faults)
    check_interception(root, faults)
    for listener in listeners:
        _check_loop(listener, faults)
    for tls in root.sections("tls"):
        _check_versions(tls, faults)
    for admin in root.sections("admin"):
        _check_admin(admin, faults)
    for health in root.sections("health"):
        _check_app_probes(health, faults)
    _check_names([*listeners, *named_routes(root)], faults)
    _check_addresses(root, [*listeners, *interceptions(root)], faults)


def _check_allow(inbound: Section, faults: Faults) -> None:
    mode, allow, deny = inbound.get("mode"), inbound.get("allow"), inbound.get("deny")
    path, line = inbound.where("allow")
    if mode is Mode.DISABLE:
        # Refused even when empty: `allow: []` reads like "nobody", and with DISABLE everybody gets in.
        if "allow" in inbound.lines:
            faults.add(path, line, "mode DISABLE judges nobody, so `allow` has no effect; remove it or change `mode`")
        if deny not in ((), BAD):
            path, line = inbound.where("deny")
            faults.add(path, line, "mode DISABLE judges nobody, so `deny` has no effect; remove it or change `mode`")
    elif mode is not BAD and allow == ():
        what = "is empty: nobody could connect" if "allow" in inbound.lines else "is missing"
        faults.add(
            path, line, f"`allow` {what}; list the SPIFFE IDs that may connect, e.g. spiffe://example.org/ns/web/**"
        )


def _check_app_tls(inbound: Section, faults: Faults) -> None:
    mode, app_tls, names = inbound.get("mode"), inbound.get("app_tls"), inbound.get("app_tls_server_names")
    path, line = inbound.where("app_tls")
    if app_tls is AppTls.PASSTHROUGH:
        if mode not in (Mode.PERMISSIVE, BAD):
            faults.add(path, line, f"`passthrough` is for mode PERMISSIVE, and `mode` is {mode}")
        if names == ():
            faults.add(path, line, "`passthrough` needs `app_tls_server_names`: the names whose TLS is the app's own")
    elif app_tls is not BAD and names not in ((), BAD):
        path, line = inbound.where("app_tls_server_names")
        faults.add(path, line, "these names have no effect without `app_tls: passthrough`")


def _check_server_first(inbound: Section, faults: Faults) -> None:
    mode, server_first, hold_s = (inbound.get(name) for name in ("mode", "server_first", "server_first_hold_s"))
    if hold_s in (inbound.table.default("server_first_hold_s"), BAD):
        return
    if mode not in (Mode.PERMISSIVE, BAD) or server_first is False:
        path, line = inbound.where("server_first_hold_s")
        faults.add(path, line, "it has no effect without mode PERMISSIVE and `server_first: true`")


def _check_loop(listener: Section, faults: Faults) -> None:
    listen, upstream = listener.get("listen"), listener.get("upstream")
    if BAD not in (listen, upstream) and leads_back(upstream, listen):
        path, line = listener.where("upstream")
        faults.add(path, line, f"{upstream} is this listener's own address ({listen}): it would dial itself for ever")


def _check_versions(tls: Section, faults: Faults) -> None:
    least, most, groups = tls.get("min_version"), tls.get("max_version"), tls.get("groups")
    if BAD not in (least, most) and least > most:
        path, line = tls.where("min_version" if "min_version" in tls.lines else "max_version")
        faults.add(path, line, f"min_version {least} is above max_version {most}")
    if most == "1.2" and groups is not BAD and TLS13_GROUPS.issuperset(groups):
        path, line = tls.where("groups")
        faults.add(path, line, "all of these groups need TLS 1.3, and max_version is 1.2; add X25519 or P-256")


def _check_admin(admin: Section, faults: Faults) -> None:
    listen, allow_remote = admin.get("listen"), admin.get("allow_remote")
    if listen is not BAD and allow_remote is False and not is_loopback(listen):
        path, line = admin.where("listen")
        faults.add(
            path,
            line,
            f"{listen} can be reached from elsewhere, and whoever reaches it can drain the proxy; use 127.0.0.1, "
            "a unix socket or `health`, or write `allow_remote: true`",
        )


def _check_app_probes(health: Section, faults: Faults) -> None:
    probes = health.sections("app_probes")
    _check_names(probes, faults)
    for probe in probes:
        kind = probe.get("kind")
        for key, owner in (("path", ProbeKind.HTTP), ("headers", ProbeKind.HTTP), ("service", ProbeKind.GRPC)):
            if key in probe.lines and kind not in (owner, BAD):
                faults.add(*probe.where(key), f"`{key}` is for kind {owner}, and `kind` is {kind}")


def _check_names(listeners: list[Section], faults: Faults) -> None:
    first: dict[str, Section] = {}
    for listener in listeners:
        name = listener.get("name")
        if name is BAD:
            continue
        if name in first:
            path, line = listener.where("name")
            owner, owner_line = first[name].where("name")
            faults.add(path, line, f"the name {name} is taken by {owner} on line {owner_line}; names are unique")
        first.setdefault(name, listener)


def _check_addresses(root: Section, listeners: list[Section], faults: Faults) -> None:
    taken: list[tuple[ListenAddress, str]] = []  # with whose it is, as a message says it
    if isinstance(default := root.get("admin"), AdminConfig):  # no such key: the default is listening all the same
        taken.append((default.listen, "the default of `admin`"))
    for section in [*listeners, *root.sections("admin"), *root.sections("health")]:
        listen = section.get("listen")
        if listen is BAD:
            continue
        path, line = section.where("listen")
        owner = next((owner for other, owner in taken if want_same_socket(listen, other)), None)
        if owner is None:
            taken.append((listen, f"{path} on line {line} ({listen})"))
        else:
            faults.add(path, line, f"{listen} is taken by {owner}; a wildcard host takes every address of its port")
