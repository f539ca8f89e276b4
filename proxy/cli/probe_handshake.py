"""
One handshake of `probe`, from the first byte to the proof, and how its end is called.

Whether the peer has accepted us is more than our end of the handshake. In TLS 1.2 the server's Finished comes after its
judgement. In TLS 1.3 the client is done before it was judged (RFC 8446 2), so here, as in the proxy, only a session
ticket or a byte of the server's proves it. A server that sends neither is asked without words: we send close_notify,
and one that answers in kind has read past our certificate. What is still silent after that is called silence. None of
it counts for a server that leaves by itself at once: some finish TLS, then look at the certificate, and say nothing.

A peer that does not answer our ClientHello at all may be reading a line of text that never ends. It gets a FIN, which
many servers answer with a complaint in their own protocol: then it is known what listens there.
"""

import socket
import time

import msgspec

from proxy.cli.probe_document import HandshakeView, Outcome
from proxy.cli.probe_network import Ending, converse
from proxy.core.alertwords import alert_words
from proxy.core.greeting import Greeting, is_tls, read_greeting
from proxy.core.reasons import Reason
from proxy.tls.channel import alert_name
from proxy.tls.probing import Attempt

PATIENCE_S = 2.0  # for an answer to our close_notify, and to the FIN after silence: a round trip and a judgement
_TICKET = "a session ticket"
_LEAST_WAIT_S = 0.2  # for a word after the handshake; BoringSSL (Envoy) keeps its tickets back until it has to write
_WAIT_SHARE = 4.0  # of the time that the handshake took

_PROTOCOL_VERSION = 70
_NO_COMMON = (40, 71)  # handshake_failure, insufficient_security
# What OpenSSL says of an answer in a version that was not offered.
_VERSION_FAULTS = ("unsupported protocol", "wrong ssl version", "unknown ssl version", "no protocols available")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, and in which words."""

    outcome: Outcome
    proof: str | None = None
    reason: Reason | None = None
    detail: str = ""
    advice: str = ""


def shake(sock: socket.socket, attempt: Attempt, *, version: str, presenting: bool, timeout_s: float) -> HandshakeView:
    """
    Shake hands to the end, wait for the proof, and leave in order.

    presenting: whether the attempt has a client certificate to show
    timeout_s:  for the handshake; after it at most PATIENCE_S are waited twice for a word
    """
    began = time.monotonic()
    ending = converse(sock, attempt, lambda: attempt.done, timeout_s)
    ms = (time.monotonic() - began) * 1000
    proof, asked = None, False
    if attempt.done and not _is_broken(attempt):
        proof, ending, asked = _await_proof(sock, attempt, version, ms / 1000)
    elif ending is Ending.SILENT and not attempt.first_bytes:
        ending = _provoke(sock, attempt, min(PATIENCE_S, timeout_s)) or ending
    ended = (
        Ended(outcome=Outcome.ACCEPTED, proof=proof)
        if proof
        else _name(attempt, ending, version, presenting, timeout_s, asked=asked)
    )
    return _view(attempt, ended, version, presenting, ms if attempt.hello_came else None)


def greeting_of(attempt: Attempt) -> Greeting | None:
    """What the peer said instead of TLS; None where it said nothing, or TLS."""
    data = attempt.first_bytes
    return None if not data or attempt.hello_came or is_tls(data) else read_greeting(data)


def _await_proof(
    sock: socket.socket, attempt: Attempt, version: str, handshake_s: float
) -> tuple[str | None, Ending, bool]:
    """Returns: the proof, how the waiting ended, and whether we have sent close_notify to get a word."""
    wait_s = min(max(_LEAST_WAIT_S, handshake_s * _WAIT_SHARE), PATIENCE_S)
    said = converse(sock, attempt, lambda: attempt.data_came, wait_s, first=b"")
    if attempt.data_came:
        return "application data", said, False
    if said is not Ending.SILENT:
        return None, said, False  # it leaves at once: whatever it had sent before, it does not serve us
    if version == "1.2":
        return "its Finished, which follows its judgement", said, False
    if attempt.tickets:
        return _TICKET, said, False
    said = converse(sock, attempt, lambda: _has_word(attempt), PATIENCE_S, first=attempt.close_notify())
    if _has_word(attempt):
        return _TICKET if attempt.tickets else "application data", said, True
    answered = attempt.closed and not _is_broken(attempt)
    return "its close_notify in answer to ours" if answered else None, said, True


def _has_word(attempt: Attempt) -> bool:
    return attempt.data_came or attempt.tickets > 0


def _provoke(sock: socket.socket, attempt: Attempt, patience_s: float) -> Ending | None:
    """Send a FIN to a peer that has said nothing; None when that changed nothing."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return None
    ending = converse(sock, attempt, lambda: bool(attempt.first_bytes), patience_s, first=b"")
    return ending if attempt.first_bytes else None


def _is_broken(attempt: Attempt) -> bool:
    return bool(attempt.fault) or attempt.alert is not None


def _name(attempt: Attempt, ending: Ending, version: str, presenting: bool, timeout_s: float, *, asked: bool) -> Ended:
    """What an end without proof is called. asked: whether we have sent close_notify to get a word."""
    if attempt.alert is not None:
        return _name_alert(attempt, attempt.alert, presenting)
    if (greeting := greeting_of(attempt)) is not None:
        return _name_greeting(greeting)
    if any(words in attempt.fault for words in _VERSION_FAULTS):
        detail = f"it answers in another version than TLS {version}"
        return Ended(outcome=Outcome.NOT_SPOKEN, reason=Reason.UNSUPPORTED_TLS_VERSION, detail=detail)
    if attempt.fault:
        detail = f"our OpenSSL cannot go on with what it sent ({attempt.fault})"
        return _failed(Reason.HANDSHAKE_FAILED, detail, "Compare the TLS settings of both sides; its log may say more.")
    if ending is Ending.SILENT:
        return _name_silence(attempt, timeout_s)
    if asked:
        return _no_word("it closed when we did, without a ticket, a byte or a close_notify")
    return _name_close(attempt, ending, presenting)


def _no_word(detail: str) -> Ended:
    advice = "Look at its log. TLS 1.2, where it speaks it, gives proof by itself."
    detail += ": nothing shows whether it accepts us"
    return Ended(outcome=Outcome.NO_WORD, reason=Reason.UPSTREAM_TIMEOUT, detail=detail, advice=advice)


def _name_alert(attempt: Attempt, alert: int, presenting: bool) -> Ended:
    words = alert_words(alert)
    detail = f"it sent the alert {alert_name(alert)}: {words.meaning}"
    if alert == _PROTOCOL_VERSION:
        return Ended(
            outcome=Outcome.NOT_SPOKEN,
            reason=Reason.UNSUPPORTED_TLS_VERSION,
            detail=detail,
            advice=words.advice,
        )
    if attempt.hello_came and attempt.certificate_asked:
        if not presenting and alert in _NO_COMMON:
            detail = f"it sent the alert {alert_name(alert)} when no client certificate came: it demands one"
        return Ended(outcome=Outcome.REFUSED, reason=Reason.UPSTREAM_REJECTED_US, detail=detail, advice=words.advice)
    reason = Reason.NO_SHARED_CIPHER if alert in _NO_COMMON else Reason.HANDSHAKE_FAILED
    return _failed(reason, detail, words.advice)


def _name_greeting(greeting: Greeting) -> Ended:
    what = f"it speaks {greeting.protocol}, not TLS" if greeting.protocol else "its answer is not TLS"
    detail = f"{what}; it begins with {greeting.quotation}"
    advice = "Probe the port on which it speaks TLS; if this one is meant, put a sidecar in front of it."
    return _failed(Reason.NOT_TLS, detail, advice)


def _name_silence(attempt: Attempt, timeout_s: float) -> Ended:
    if attempt.done:
        return _no_word("silence, without a ticket, a byte or an answer to our close_notify")
    where = "in mid-handshake" if attempt.first_bytes else "after our ClientHello: not a byte came"
    advice = (
        "It may be overloaded, at its limit of handshakes, or cut off by a firewall."
        if attempt.first_bytes
        else "It may speak a protocol in which the client goes first, or be overloaded: see what listens there."
    )
    return _failed(Reason.UPSTREAM_TIMEOUT, f"silence for {timeout_s:g} s {where}", advice)


def _name_close(attempt: Attempt, ending: Ending, presenting: bool) -> Ended:
    how = "reset the connection" if ending is Ending.RESET else "closed the connection"
    if attempt.done:
        who = "us" if presenting and attempt.certificate_sent else "whoever has no certificate"
        return Ended(
            outcome=Outcome.REFUSED,
            reason=Reason.UPSTREAM_REJECTED_US,
            detail=f"it finished TLS and then {how} at once, without a word",
            advice=f"It may refuse {who} without an alert (nginx does so), or what is behind it is down: see its log.",
        )
    if attempt.certificate_asked:
        what = "it had seen our certificate" if presenting and attempt.certificate_sent else "no certificate came"
        advice = "It refuses without a word: its own log has to say why."
        return Ended(
            outcome=Outcome.REFUSED,
            reason=Reason.UPSTREAM_REJECTED_US,
            detail=f"it {how} without an alert after {what}",
            advice=advice,
        )
    if attempt.hello_came:
        detail, advice = f"it {how} in mid-handshake, without an alert", "Its own log has to say why."
    else:
        detail = f"it {how} at our ClientHello, without a byte"
        advice = (
            "What listens there does not speak TLS from the first byte (PostgreSQL does so), is at its limit of "
            "connections, or is a forwarder with nothing behind it."
        )
    return _failed(Reason.HANDSHAKE_FAILED, detail, advice)


def _failed(reason: Reason, detail: str, advice: str) -> Ended:
    return Ended(outcome=Outcome.FAILED, reason=reason, detail=detail, advice=advice)


def _view(attempt: Attempt, ended: Ended, version: str, presenting: bool, ms: float | None) -> HandshakeView:
    chosen = attempt.negotiated()
    return HandshakeView(
        version=version,
        with_certificate=presenting,
        outcome=ended.outcome,
        proof=ended.proof,
        reason=ended.reason,
        alert=None if attempt.alert is None else alert_name(attempt.alert),
        detail=ended.detail or f"accepted, by {ended.proof}",
        advice=ended.advice,
        cipher=chosen.cipher if chosen else None,
        group=chosen.group if chosen else None,
        alpn=chosen.alpn if chosen else None,
        certificate_asked=attempt.certificate_asked,
        certificate_sent=presenting and attempt.certificate_sent,
        ca_names=[name.rfc4514_string() for name in attempt.ca_names()],
        tickets=attempt.tickets,
        ticket_lifetime_s=attempt.ticket_lifetime_s,
        warning_alert=None if attempt.warned is None else alert_name(attempt.warned),
        ms=None if ms is None else round(ms, 2),
    )
