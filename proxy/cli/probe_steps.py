"""
The steps of `probe` in order, each only where the one before makes it worth a connection.

    look-up, connect -> a handshake in each version -> without our certificate -> resumption -> groups, suites

The peer sees all of it: about 20 connections, one after the other. What only asks for the server's choice (groups and
suites) leaves in mid-handshake, before anybody is judged and before a proxy dials the application behind it. An answer
by elimination needs one connection for each thing that the peer takes and one more: the list gets shorter by what it
chose, until it takes nothing of what is left.
"""

import socket
from collections.abc import Callable

import msgspec

from proxy.cli.probe_document import (
    AddressView,
    ChoiceView,
    Demand,
    HandshakeView,
    Outcome,
    Resumption,
    VersionView,
)
from proxy.cli.probe_handshake import greeting_of, shake
from proxy.cli.probe_network import Dialed, Ending, Target, converse, dial, dial_all, look_up
from proxy.core.config import CIPHER_SUITES, GROUPS, UpstreamAddress
from proxy.core.greeting import Greeting
from proxy.core.reasons import Reason, Rejected
from proxy.tls.probing import Attempt, Extent, Offer, OwnSvid, ProbeContext

_HANDSHAKE_FAILURE, _INSUFFICIENT_SECURITY = 40, 71


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is to be probed, and how.

    versions: to be tried, the best first
    quick:    whether to leave out resumption, groups and suites
    """

    upstream: UpstreamAddress
    svid: OwnSvid | None
    server_name: str | None
    alpn: tuple[str, ...] = ()
    versions: tuple[str, ...] = ("1.3", "1.2")
    groups: tuple[str, ...] = GROUPS
    cipher_suites: tuple[str, ...] = CIPHER_SUITES
    timeout_s: float = 5.0
    quick: bool = False


class Findings(msgspec.Struct, kw_only=True):
    """What the steps have found so far. refusal: why there is no connection at all."""

    lookup_ms: float | None = None
    addresses: list[AddressView] = []
    probed: str | None = None
    refusal: Rejected | None = None
    speaks_tls: bool | None = None
    greeting: Greeting | None = None
    versions: list[VersionView] = []
    groups: ChoiceView | None = None
    cipher_suites: ChoiceView | None = None
    chain: tuple[bytes, ...] = ()
    connections: int = 0


class Probe:
    """One run. note: called with a word before each step, for whoever shows progress."""

    def __init__(self, wish: Wish, clock: Callable[[], float], note: Callable[[str], None] = lambda _: None) -> None:
        self._wish = wish
        self._clock = clock
        self._note = note
        self._target: Target | None = None
        self._first: socket.socket | None = None  # the connection that showed that the address answers
        self.findings = Findings()

    def run(self) -> Findings:
        """Take the steps. Raises: Rejected when our own certificate or an offer of ours cannot be used."""
        try:
            if self._reach():
                self._shake_hands()
                if not self._wish.quick:
                    self._choices()
        finally:
            if self._first is not None:
                self._first.close()
        return self.findings

    def _reach(self) -> bool:
        found, wish = self.findings, self._wish
        self._note("look-up")
        began = self._clock()
        try:
            targets = look_up(wish.upstream, wish.timeout_s)
        except Rejected as rejected:
            found.refusal = rejected
            return False
        found.lookup_ms = round((self._clock() - began) * 1000, 2)
        self._note("connect")
        dialed = dial_all(targets, wish.timeout_s)
        found.addresses = [_address_view(one) for one in dialed]
        found.connections = len(dialed)
        for one in dialed:
            if one.sock is None:
                continue
            if self._first is None:
                self._first, self._target, found.probed = one.sock, one.target, one.target.text
            else:
                one.sock.close()
        if self._target is None:
            found.refusal = _no_connection(dialed)
        return self._target is not None

    def _shake_hands(self) -> None:
        found = self.findings
        for version in self._wish.versions:
            self._note(f"TLS {version}")
            context = ProbeContext(self._offer(version), self._wish.svid)
            attempt = context.attempt()
            view = self._shake(attempt, version, presenting=self._wish.svid is not None)
            self._learn(attempt)
            if found.greeting is not None or (view.reason is Reason.UPSTREAM_TIMEOUT and not attempt.first_bytes):
                found.versions.append(_version_view(view, None, attempt, Resumption.NOT_TRIED))
                return  # it does not speak TLS, or not to us: the other version would only take the same time
            without = self._without_certificate(version) if attempt.hello_came else None
            resumption = self._resume(context, attempt, view)
            found.versions.append(_version_view(view, without, attempt, resumption))

    def _learn(self, attempt: Attempt) -> None:
        found = self.findings
        found.greeting = found.greeting or greeting_of(attempt)
        if attempt.hello_came or attempt.alert is not None:
            found.speaks_tls = True
        elif found.greeting is not None:
            found.speaks_tls = False
        found.chain = found.chain or attempt.chain()

    def _without_certificate(self, version: str) -> HandshakeView | None:
        if self._wish.svid is None:
            return None
        context = ProbeContext(self._offer(version), None)
        return self._shake(context.attempt(), version, presenting=False)

    def _resume(self, context: ProbeContext, first: Attempt, view: HandshakeView) -> Resumption:
        if view.outcome is not Outcome.ACCEPTED or self._wish.quick:
            return Resumption.NOT_TRIED
        session = first.session()
        if session is None or (view.version == "1.3" and not first.tickets):
            return Resumption.NO_TICKET
        again = context.attempt(session)
        outcome = self._shake(again, view.version, presenting=view.with_certificate).outcome
        chosen = again.negotiated()
        if outcome is not Outcome.ACCEPTED or chosen is None:
            return Resumption.FAILED
        return Resumption.WORKS if chosen.resumed else Resumption.FULL_HANDSHAKE

    def _choices(self) -> None:
        spoken = {view.version for view in self.findings.versions if view.spoken}
        if "1.3" in spoken:
            self._note("groups")
            self.findings.groups = self._eliminate("1.3", "groups", GROUPS)
        if "1.2" in spoken:
            self._note("cipher suites")
            self.findings.cipher_suites = self._eliminate("1.2", "cipher_suites", CIPHER_SUITES)

    def _eliminate(self, version: str, field: str, candidates: tuple[str, ...]) -> ChoiceView:
        left, taken = list(candidates), list[str]()
        complete = False
        while left:
            offer = msgspec.structs.replace(self._offer(version), **{field: tuple(left)})
            chosen, complete = self._ask(offer, field)
            if chosen not in left:
                break
            left.remove(chosen)
            taken.append(chosen)
        return ChoiceView(version=version, taken=taken, not_taken=left, complete=complete)

    def _ask(self, offer: Offer, field: str) -> tuple[str, bool]:
        """What the peer chooses of an offer, "" for nothing; and whether that is an answer rather than an accident."""
        attempt = ProbeContext(offer, None).attempt(extent=Extent.SERVER_FLIGHT)
        try:
            sock = self._connect()
        except Rejected:
            return "", False
        with sock:
            ending = converse(sock, attempt, lambda: False, self._wish.timeout_s)
        if attempt.alert in (_HANDSHAKE_FAILURE, _INSUFFICIENT_SECURITY):
            return "", True
        chosen = attempt.negotiated() if ending is Ending.ENOUGH and not attempt.fault else None
        if chosen is None:
            return "", False
        return (chosen.group if field == "groups" else chosen.cipher) or "", True

    def _shake(self, attempt: Attempt, version: str, *, presenting: bool) -> HandshakeView:
        try:
            sock = self._connect()
        except Rejected as rejected:
            return _unconnected(version, presenting, rejected)
        with sock:
            return shake(sock, attempt, version=version, presenting=presenting, timeout_s=self._wish.timeout_s)

    def _connect(self) -> socket.socket:
        if self._first is not None:
            sock, self._first = self._first, None
            return sock
        assert self._target is not None
        self.findings.connections += 1
        return dial(self._target, self._wish.timeout_s)

    def _offer(self, version: str) -> Offer:
        wish = self._wish
        return Offer(
            version=version,
            groups=wish.groups,
            cipher_suites=wish.cipher_suites,
            alpn=wish.alpn,
            server_name=wish.server_name,
        )


def _address_view(dialed: Dialed) -> AddressView:
    refusal = dialed.refusal
    return AddressView(
        address=dialed.target.text,
        connected=refusal is None,
        ms=round(dialed.seconds * 1000, 2),
        reason=None if refusal is None else refusal.reason,
        detail="connected" if refusal is None else refusal.detail,
    )


def _no_connection(dialed: list[Dialed]) -> Rejected:
    refusals = [one.refusal for one in dialed if one.refusal is not None]
    refused = [refusal for refusal in refusals if refusal.reason is Reason.UPSTREAM_REFUSED]
    chosen = (refused or refusals)[0]
    if len(refusals) == 1:
        return Rejected(chosen.reason, chosen.detail)
    return Rejected(chosen.reason, f"none of {len(refusals)} addresses answers; {chosen.detail}")


def _version_view(
    view: HandshakeView, without: HandshakeView | None, attempt: Attempt, resumption: Resumption
) -> VersionView:
    bare = without or (view if not view.with_certificate else None)
    return VersionView(
        version=view.version,
        spoken=attempt.hello_came,
        as_asked=view,
        without_certificate=without,
        client_certificate=_demand(bare),
        resumption=resumption,
    )


def _demand(bare: HandshakeView | None) -> Demand:
    """What a handshake without a client certificate shows."""
    if bare is None or bare.outcome in (Outcome.NOT_SPOKEN, Outcome.FAILED):
        return Demand.UNKNOWN
    if not bare.certificate_asked:
        return Demand.NOT_ASKED
    return {Outcome.REFUSED: Demand.REQUIRED, Outcome.ACCEPTED: Demand.OPTIONAL}.get(bare.outcome, Demand.UNKNOWN)


def _unconnected(version: str, presenting: bool, rejected: Rejected) -> HandshakeView:
    return HandshakeView(
        version=version,
        with_certificate=presenting,
        outcome=Outcome.FAILED,
        proof=None,
        reason=rejected.reason,
        alert=None,
        detail=f"no further connection: {rejected.detail}",
        advice="The peer may be at its limit of connections, or at a rate of new ones: try again later.",
        cipher=None,
        group=None,
        alpn=None,
        certificate_asked=False,
        certificate_sent=False,
        ca_names=[],
        tickets=0,
        ticket_lifetime_s=None,
        warning_alert=None,
        ms=None,
    )
