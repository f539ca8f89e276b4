"""
What is no fault of a configuration, and yet is hardly meant: patterns that can match nobody.

Every sentence here is certain, never a guess: a peer of a trust domain without a bundle is refused before any pattern
is asked, and an ID that an `allow` pattern matches is refused where a `deny` pattern matches it too. It is no fault all
the same, since a bundle may come before its patterns are written, or after.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy.core.config import Config, InboundConfig, InboundPolicy
from proxy.core.configkinds import suggestion

if TYPE_CHECKING:
    from proxy.core.spiffe import IdPattern


def warnings_of(config: Config) -> tuple[str, ...]:
    """Say what of it can have no effect, a sentence each, which begins with the path of the key."""
    return tuple(_warnings(config))


def _warnings(config: Config) -> Iterator[str]:
    trusted = sorted(config.identity.bundles)
    for number, inbound in enumerate(config.inbound):
        path = f"inbound[{number}]"
        yield from _strangers(f"{path}.allow", inbound.allow, trusted)
        yield from _strangers(f"{path}.deny", inbound.deny, trusted)
        yield from _covered(path, inbound)
        if inbound.allow and all(_is_dead(pattern, inbound, trusted) for pattern in inbound.allow):
            yield f"{path}: no `allow` pattern of {inbound.name} can let anybody in, so mutual TLS is refused to all"
    for path, policy in _intercepted(config):
        yield from _strangers(f"{path}.allow", policy.allow, trusted)
        yield from _strangers(f"{path}.deny", policy.deny, trusted)
        yield from _covered(path, policy)
        if policy.allow and all(_is_dead(pattern, policy, trusted) for pattern in policy.allow):
            yield f"{path}: no `allow` pattern can let anybody in, so mutual TLS is refused to all"
    if config.intercept is not None and config.intercept.outbound is not None:
        for number, route in enumerate(config.intercept.outbound.routes):
            yield from _strangers(f"intercept.outbound.routes[{number}].server_ids", route.server_ids, trusted)
    for number, outbound in enumerate(config.outbound):
        yield from _strangers(f"outbound[{number}].server_ids", outbound.server_ids, trusted)


def _intercepted(config: Config) -> Iterator[tuple[str, InboundPolicy]]:
    """The policies of `intercept.inbound`, with their paths."""
    if config.intercept is None or config.intercept.inbound is None:
        return
    inbound = config.intercept.inbound
    for policy in inbound.ports:
        yield f"intercept.inbound.ports['{policy.port}']", policy
    if inbound.default is not None:
        yield "intercept.inbound.default", inbound.default


def _strangers(path: str, patterns: "tuple[IdPattern, ...]", trusted: list[str]) -> Iterator[str]:
    for number, pattern in enumerate(patterns):
        if pattern.trust_domain.name in trusted:
            continue
        near = suggestion(pattern.trust_domain.name, trusted)
        what = near or "add its roots there, or remove the pattern"
        yield (
            f"{path}[{number}]: {pattern} can match nobody: `identity.bundles` has no bundle for the trust domain "
            f"{pattern.trust_domain}; {what}"
        )


def _covered(path: str, inbound: InboundConfig | InboundPolicy) -> Iterator[str]:
    for number, pattern in enumerate(inbound.allow):
        for deny_number, deny in enumerate(inbound.deny):
            if deny.covers(pattern):
                yield (
                    f"{path}.allow[{number}]: {pattern} lets nobody in: {path}.deny[{deny_number}], {deny}, covers all "
                    "of it, and deny wins"
                )
                break


def _is_dead(pattern: "IdPattern", inbound: InboundConfig | InboundPolicy, trusted: list[str]) -> bool:
    return pattern.trust_domain.name not in trusted or any(deny.covers(pattern) for deny in inbound.deny)
