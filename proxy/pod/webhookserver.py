"""
The webhook on a TLS socket: uvicorn, with a certificate that changes while it runs.

A live SSLContext is never changed: one that failed to load a key half-way refuses every handshake from then on. The
socket has one context for good, whose servername callback hands each handshake to the context of the day (OpenSSL asks
it with and without a server name), and the context of the day is replaced by one assignment when a new pair of
certificate and key was read well. Connections that are open keep what they have.

Where clients have to present a certificate, no session is resumed: a resumed one is not asked for it, so that it would
outlive the certificate and its CA. TLS 1.3 alone is spoken there, since a TLS 1.2 session could not be kept from that.

What uvicorn leaves open is closed here: a connection on which no whole request head comes in time is ended, so that who
connects and says nothing does not take the place of the API server.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from cryptography import x509
from uvicorn.protocols.http.h11_impl import H11Protocol

from proxy.ops.boundedread import read_bounded
from proxy.ops.log import Log
from proxy.ops.watcher import FileWatch
from proxy.pod.webhook import Webhook

CONNECTIONS = 64
HEAD_S = 10.0
KEEP_ALIVE_S = 60
POLL_S = 5.0
RETRY_S = 1.0
GRACE_S = 10
MAX_FILE_BYTES = 1024 * 1024

_TLS12_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


class CertificateFault(Exception):  # noqa: N818  # the operator's, as ConfigFaults are
    """The certificate, its key or the clients' CA cannot be used; str() is a sentence."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they lie. client_ca: whose certificates clients have to present; empty: they present none."""

    cert: str
    key: str
    client_ca: str = ""

    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(path for path in (self.cert, self.key, self.client_ca) if path)


class ServerCertificate:
    """The context of the day, and the one of the socket that leads to it."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises: CertificateFault."""
        self.files = files
        self.not_after = 0.0
        self._bytes: tuple[bytes, ...] = ()
        self._current = self.context = self._load(self._read())
        # A second one, whose own certificate is never shown; its settings hold for every handshake.
        self.context = self._load(self._bytes)
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """
        Take up what lies there now.

        Returns: whether that is anything new
        Raises:  CertificateFault, and what was in force stays
        """
        found = self._read()
        if found == self._bytes:
            return False
        self._current = self._load(found)
        return True

    def _choose(self, handshake: Any, _server_name: str | None, _socket_context: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _read(self) -> tuple[bytes, ...]:
        try:
            return tuple(read_bounded(path, MAX_FILE_BYTES) for path in self.files.paths())
        except OSError as error:
            which = error.filename or self._where()
            raise CertificateFault(f"{which} cannot be read: {error.strerror or error}.") from None
        except ValueError:
            raise CertificateFault(f"That is not the path of a file ({self._where()}).") from None

    def _load(self, found: tuple[bytes, ...]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_TLS12_SUITES)
        context.set_alpn_protocols(["http/1.1"])
        try:
            leaf = x509.load_pem_x509_certificates(found[0])[0]
            context.load_cert_chain(self.files.cert, self.files.key, password=_refuse_password)
            if self.files.client_ca:
                context.load_verify_locations(self.files.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.num_tickets = 0
        except ssl.SSLError as error:
            why = error.reason or str(error)
            raise CertificateFault(f"The certificate or its key cannot be used: {why} ({self._where()}).") from None
        except OSError as error:
            raise CertificateFault(f"They cannot be read: {error.strerror or error} ({self._where()}).") from None
        except ValueError:
            raise CertificateFault(f"There is no certificate in PEM ({self._where()}).") from None
        # OpenSSL has read the files by their names: what it read is what we read, or it has to be read again.
        if self._read() != found:
            raise CertificateFault(f"They change while they are read ({self._where()}).")
        self._bytes, self.not_after = found, leaf.not_valid_after_utc.timestamp()
        return context

    def _where(self) -> str:
        return ", ".join(self.files.paths())


def _refuse_password() -> str:
    """OpenSSL would otherwise ask a terminal, of which there is none."""
    raise CertificateFault("The key is encrypted, and nobody is there to be asked for its password.")


class _Protocol(H11Protocol):
    """uvicorn's, with a deadline for the head of every request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._wait()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What came ahead of its time has begun a cycle of its own by now, or waits for the rest of its head.
        if self.conn.trailing_data[0] and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """uvicorn's, which leaves the signals to us: it would end the process by the signal instead of with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebhookServer:
    """The webhook on a socket that listens."""

    def __init__(self, webhook: Webhook, certificate: ServerCertificate, sock: socket.socket, log: Log) -> None:
        self._webhook = webhook
        self._certificate = certificate
        self._socket = sock
        self._log = log
        self._changed = asyncio.Event()
        config = uvicorn.Config(
            webhook.application(),
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        config.load()
        config.ssl = self._certificate.context
        self._server = _Server(config)
        self._note_certificate()

    async def run(self) -> None:
        """Serve until `leave`."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            await self._server.serve(sockets=[self._socket])
            watching.cancel()

    def leave(self, delay_s: float) -> None:
        """Not ready from now on, and gone once answers that are under way are given, after `delay_s`."""
        self._webhook.draining = True
        asyncio.get_running_loop().call_later(delay_s, self._stop)

    def look(self) -> None:
        """Look at the certificate again soon."""
        self._changed.set()

    def _stop(self) -> None:
        self._server.should_exit = True

    async def _watch(self) -> None:
        watch = FileWatch(self._certificate.files.paths(), self._changed.set, poll_s=POLL_S)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch.run())
            failed = ""
            await asyncio.sleep(0)  # from here on changes are seen; those since the first reading are looked for
            while True:
                failed = self._reload(failed)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S if failed else None):
                        await self._changed.wait()
                self._changed.clear()

    def _reload(self, failed: str) -> str:
        """Returns: why it failed, said once; empty where it did not."""
        try:
            if not self._certificate.reload():
                return ""
        except CertificateFault as fault:
            if str(fault) != failed:
                self._webhook.counts.reloads.labels("failed").inc()
                self._log.warning("reload", result="failed", detail=f"{fault} The former one is still in force.")
            return str(fault)
        self._webhook.counts.reloads.labels("published").inc()
        self._note_certificate()
        self._log.info("reload", result="published", detail="the certificate that lies there now is in force")
        return ""

    def _note_certificate(self) -> None:
        self._webhook.counts.not_after.set(self._certificate.not_after)
