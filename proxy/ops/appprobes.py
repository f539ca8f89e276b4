"""
Makes the probes that kubelet is no longer let through for, and says how each went. What is probed: core/appprobe.py.

Only the verdict leaves this file: a sentence, never a byte of the application's answer, so that the health endpoint,
which plaintext can reach, is no way around STRICT. The verdict is kubelet's: HTTP is healthy from 200 to 399 and
follows redirects that stay on this host and port; TCP is healthy when it connects; gRPC when it says SERVING.

The application is dialled at 127.0.0.1, then at ::1, as the sidecar's own connections to it are. Each probe has one
deadline for everything that it does, and what it reads is bounded. Probes share the endpoint's connections with /live
and /ready, so that only part of them may be at work at a time: an application that hangs must not look like a sidecar
that does.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import h11

from proxy.core.appprobe import AppProbe, ProbeKind
from proxy.core.grpchealth import GrpcFault, HealthReader, health_request, is_serving

MOST_AT_A_TIME = 48  # of the 64 connections of the endpoint (HttpLimits)
_HOSTS = ("127.0.0.1", "::1")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_READ_BYTES = 16 * 1024
_HEAD_BYTES = 64 * 1024
_REDIRECTS = 10  # as many as kubelet follows
_REDIRECTING = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a probe went, and a sentence about it that holds nothing of the application's answer."""

    healthy: bool
    detail: str


class AppProbes:
    """The probes of one configuration, by name."""

    def __init__(self, probes: Sequence[AppProbe] = ()) -> None:
        self._probes: Mapping[str, AppProbe] = {probe.name: probe for probe in probes}
        self._at_work = 0

    def get(self, name: str) -> AppProbe | None:
        """The probe of that name."""
        return self._probes.get(name)

    async def check(self, probe: AppProbe, host: str) -> Verdict:
        """
        Make one probe.

        host: what the application sees as the host of the request (kubelet writes the Pod's address)
        """
        if self._at_work >= MOST_AT_A_TIME:
            return Verdict(False, f"{MOST_AT_A_TIME} probes of the application are at work already.")
        self._at_work += 1
        try:
            async with asyncio.timeout(probe.timeout_s or None):
                return await _MAKERS[probe.kind](probe, host)
        except TimeoutError:
            return Verdict(False, f"Port {probe.port} did not answer within {probe.timeout_s:g} s.")
        except OSError as error:
            return Verdict(False, f"Port {probe.port} cannot be connected to, or broke off: {error.strerror or error}.")
        except GrpcFault as fault:
            return Verdict(False, f"Port {probe.port} gave no gRPC health status: {fault}.")
        except h11.RemoteProtocolError:
            return Verdict(False, f"Port {probe.port} did not answer in HTTP/1.1.")
        finally:
            self._at_work -= 1


async def _dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(_HOSTS[0], port, limit=_READ_BYTES)
    except OSError as first:
        try:
            return await asyncio.open_connection(_HOSTS[1], port, limit=_READ_BYTES)
        except OSError:
            raise first from None  # most applications listen on IPv4, so that is the one to talk of


async def _check_tcp(probe: AppProbe, _host: str) -> Verdict:
    _, writer = await _dial(probe.port)
    writer.transport.abort()
    return Verdict(True, f"Port {probe.port} takes connections.")


async def _check_grpc(probe: AppProbe, _host: str) -> Verdict:
    reader, writer = await _dial(probe.port)
    try:
        writer.write(health_request(f"127.0.0.1:{probe.port}", probe.service, probe.timeout_s))
        answer, status = HealthReader(), None
        while status is None:
            status = answer.feed(await reader.read(_READ_BYTES))
            writer.write(bytes(answer.reply))
            answer.reply.clear()
        return Verdict(is_serving(status), f"gRPC health on port {probe.port}: {status}.")
    finally:
        writer.transport.abort()


async def _check_http(probe: AppProbe, host: str) -> Verdict:
    target = probe.path
    authority = f"{host}:{probe.port}"
    for _ in range(_REDIRECTS):
        status, location = await _get(probe, authority, target)
        if status not in _REDIRECTING or not location:
            return Verdict(200 <= status < 400, f"Port {probe.port} answered with status {status}.")
        here = f"http://{authority}"
        there = urljoin(f"{here}{target}", location)
        if not there.startswith((f"{here}/", f"{here}?")):
            # Kubelet takes a redirect to another host for success, and so are https and another port taken here.
            return Verdict(True, f"Port {probe.port} redirects ({status}) to another place, which is not followed.")
        parts = urlsplit(there)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Verdict(False, f"Port {probe.port} redirects without end.")


async def _get(probe: AppProbe, authority: str, target: str) -> tuple[int, str]:
    """One GET on a connection of its own. Returns: the status, and where it redirects to."""
    headers = {"host": authority, "user-agent": "kube-probe/mtls-sidecar", "accept": "*/*"}
    for line in probe.headers:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    headers["connection"] = "close"
    reader, writer = await _dial(probe.port)
    try:
        wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        request = h11.Request(method="GET", target=target, headers=list(headers.items()))
        writer.write((wire.send(request) or b"") + (wire.send(h11.EndOfMessage()) or b""))
        while True:
            event = wire.next_event()
            if isinstance(event, h11.Response):
                return event.status_code, _location(event)
            if event is h11.NEED_DATA:
                wire.receive_data(await reader.read(_READ_BYTES))
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("the connection ended before the answer")
    finally:
        writer.transport.abort()


def _location(response: h11.Response) -> str:
    for name, value in response.headers:
        if name == b"location":
            # What is not visible ASCII is no URL, and must not come back into a request.
            text = value.decode("latin-1")
            return text if text.isascii() and text.isprintable() and " " not in text else ""
    return ""


_MAKERS = {ProbeKind.HTTP: _check_http, ProbeKind.TCP: _check_tcp, ProbeKind.GRPC: _check_grpc}


def pod_host(header: str | None) -> str:
    """Give the host of a Host header without its port, which is the Pod's address where kubelet asks; else loopback."""
    host = (header or "").strip()
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return host if _HOST.fullmatch(host) else _HOSTS[0]
