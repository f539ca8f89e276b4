"""What the scenes of the Reasons share: a stage with a CA, apps and sidecars on it, and the table that they enter."""

import ssl
from collections.abc import Callable
from typing import NamedTuple

from proxy.core.reasons import Reason
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import Address

BOTH_CLOCKS = ("our clock says",)


class Shown(NamedTuple):
    """
    What a scene has shown.

    saw:       what the client saw, and `expected`: what it should have
    peer:      whose certificate the sidecar has seen
    in_detail: words that an operator needs in the detail
    """

    sidecar: Sidecar
    saw: str = ""
    expected: str = ""
    peer: str | None = None
    in_detail: tuple[str, ...] = ()
    listener: str = "in"


class Stage:
    """Everything that a scene may start."""

    def __init__(self, pki: Pki, start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App]) -> None:
        self.pki = pki
        self.start_sidecar = start_sidecar
        self.start_app = start_app

    @property
    def trust(self) -> Identity:
        """Somebody whose bundle is that of the CA."""
        return self.pki.identity("anybody")

    def inbound(
        self,
        serve: Serve = echo,
        *,
        upstream: Address | None = None,
        identity: Identity | None = None,
        sections: dict[str, object] | None = None,
        **keys: object,
    ) -> Sidecar:
        """A sidecar with the inbound listener `in`, STRICT unless `keys` say otherwise."""
        upstream = upstream or self.start_app(serve).address
        identity = identity or self.pki.identity("web")
        return self.start_sidecar(identity, inbound=[inbound("in", upstream, **keys)], **(sections or {}))

    def outbound(self, upstream: Address, *, sections: dict[str, object] | None = None, **keys: object) -> Sidecar:
        """A sidecar with the outbound listener `out`."""
        return self.start_sidecar(
            self.pki.identity("cart"), outbound=[outbound("out", upstream, **keys)], **(sections or {})
        )

    def client(self, identity: Identity | None, version: str | None = None) -> ssl.SSLContext:
        """A TLS client that trusts the CA."""
        return client_context(identity, trust=self.trust.bundle, version=version)

    def meets(self, identity: Identity | None, alert: str, **keys: object) -> Shown:
        """A client of this identity comes to a STRICT port, and is to see this alert."""
        sidecar = self.inbound(**keys)
        saw = what_is_seen(sidecar.at("in"), self.client(identity))
        return Shown(sidecar, saw, alert, identity.spiffe_id if identity else None)


Scene = Callable[[Stage], Shown]
SCENES: dict[Reason, Scene] = {}


def shows(reason: Reason) -> Callable[[Scene], Scene]:
    """Enter a scene into the table; one for each Reason."""

    def enter(scene: Scene) -> Scene:
        assert reason not in SCENES, f"{reason} has a scene: {SCENES[reason].__name__}"
        SCENES[reason] = scene
        return scene

    return enter
