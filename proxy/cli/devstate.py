"""
The state folder of `dev`: a development CA that is kept, and the SVIDs of the sidecar and of a client, kept fresh.

    STATE/ca/           the CA: ca.crt, ca.key; reused at every start until it lapses
    STATE/sidecar/      tls.crt, tls.key, ca.crt: what the sidecar presents and trusts
    STATE/client/       the same for whoever tries it out
    STATE/sidecar.yaml  the configuration that `dev` runs with

It decides when an SVID is due for renewal, and refuses to share the folder with a second `dev`, which would write its
own SVIDs over these. It takes the time as an argument and never waits.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from proxy.core.reasons import Rejected
from proxy.core.spiffe import SpiffeId
from proxy.tls.authority import NOT_BEFORE_SKEW_S, Authority
from proxy.tls.identityfiles import (
    BUNDLE_FILE,
    CA_KEY_FILE,
    CERT_FILE,
    KEY_FILE,
    Publication,
    read_authority,
    write_authority,
    write_svid,
)

CONFIG_FILE = "sidecar.yaml"
CA_FOLDER, SIDECAR_FOLDER, CLIENT_FOLDER = "ca", "sidecar", "client"
_LOCK_FILE = "lock"
_CA_LIFETIME_S = 365 * 86400.0
_CA_LIVES = 2  # a CA lives for at least so many SVIDs, whatever --ttl says
_JITTER = 0.1  # of the time to the renewal, either way: several `dev` on one machine do not all write at once
_MAX_SKEW = 0.1  # of its life may an SVID be backdated, or a short-lived one would seem to be old when it is new


class DevFault(Exception):  # noqa: N818  # the developer's, as ConfigFault is the operator's
    """What `dev` cannot go on with; str() is a sentence that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be minted. dns_names: for the sidecar's SVID, so that curl can verify it."""

    service_id: SpiffeId
    client_id: SpiffeId
    ttl_s: float
    dns_names: tuple[str, ...]


class DevState:
    """The folder, while this process has it to itself (`open_state`)."""

    def __init__(self, folder: Path, jitter: Callable[[float, float], float]) -> None:
        self.folder = folder
        self._jitter = jitter

    @property
    def config_file(self) -> Path:
        """The configuration that `run --config` takes."""
        return self.folder / CONFIG_FILE

    @property
    def identity(self) -> dict[str, object]:
        """The files of the section `identity`, relative to the configuration."""
        return {"cert": f"{SIDECAR_FOLDER}/{CERT_FILE}", "key": f"{SIDECAR_FOLDER}/{KEY_FILE}"}

    @property
    def bundle(self) -> str:
        """The trust bundle, relative to the configuration."""
        return f"{SIDECAR_FOLDER}/{BUNDLE_FILE}"

    @property
    def client_files(self) -> tuple[Path, Path, Path]:
        """What curl takes: --cacert, --cert, --key."""
        client = self.folder / CLIENT_FOLDER
        return client / BUNDLE_FILE, client / CERT_FILE, client / KEY_FILE

    def mint(self, wanted: Wanted, now: datetime) -> tuple[datetime, str | None]:
        """
        Issue both SVIDs anew, from the CA that is there or, where there is none that still lives, from a new one.

        Returns: when they are due to be replaced (half of their life, with jitter); a sentence where the CA is new in
                 place of one that lapsed
        Raises:  DevFault, OSError
        """
        authority, sentence = self._authority(wanted, now)
        for folder, spiffe_id, dns_names in (
            (SIDECAR_FOLDER, wanted.service_id, wanted.dns_names),
            (CLIENT_FOLDER, wanted.client_id, ()),
        ):
            svid = authority.issue(
                str(spiffe_id),
                now=now,
                lifetime_s=wanted.ttl_s,
                not_before_skew_s=min(NOT_BEFORE_SKEW_S, wanted.ttl_s * _MAX_SKEW),
                dns_names=dns_names,
            )
            bundles = {BUNDLE_FILE: authority.bundle_pem}
            write_svid(self.folder / folder, svid, bundles=bundles, publication=Publication.SWAP)
        half_s = wanted.ttl_s / 2
        return now + timedelta(seconds=half_s * self._jitter(1 - _JITTER, 1 + _JITTER)), sentence

    def _authority(self, wanted: Wanted, now: datetime) -> tuple[Authority, str | None]:
        folder = self.folder / CA_FOLDER
        trust_domain = wanted.service_id.trust_domain.name
        if not any((folder / name).exists() for name in (BUNDLE_FILE, CA_KEY_FILE)):
            return self._create_authority(wanted, now), None
        try:
            authority = read_authority(folder)
        except FileNotFoundError as error:
            raise DevFault(f"{folder} holds half of a CA, {error.filename} is missing: remove {folder}") from None
        except Rejected as rejected:
            raise DevFault(f"{folder} holds no usable CA, {rejected.detail}: remove {folder}") from None
        if authority.trust_domain != trust_domain:
            raise DevFault(
                f"the CA in {folder} is of the trust domain {authority.trust_domain}, not of {trust_domain}: "
                "give this service another --state DIR"
            )
        lapses = authority.certificate.not_valid_after_utc
        if lapses - now > timedelta(seconds=wanted.ttl_s):
            return authority, None
        verb = "lapsed" if lapses <= now else "lapses"
        sentence = (
            f"The CA {verb} at {lapses:%Y-%m-%dT%H:%M:%SZ}, so there is a new one: "
            f"clients take {self.client_files[0]} anew."
        )
        return self._create_authority(wanted, now), sentence

    def _create_authority(self, wanted: Wanted, now: datetime) -> Authority:
        lifetime_s = max(_CA_LIFETIME_S, _CA_LIVES * wanted.ttl_s)
        authority = Authority.create(wanted.service_id.trust_domain.name, now=now, lifetime_s=lifetime_s)
        write_authority(self.folder / CA_FOLDER, authority)
        return authority


@contextlib.contextmanager
def open_state(folder: Path, jitter: Callable[[float, float], float]) -> Iterator[DevState]:
    """
    Take the folder, creating it (private, and out of git) when it is missing.

    jitter: (low, high) -> a number between, e.g. random.uniform
    Raises: DevFault
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = {entry.name for entry in folder.iterdir()}
        if names and _LOCK_FILE not in names:
            raise DevFault(f"{folder} holds other files and no state of `dev`: name a new folder with --state DIR")
        if not names:
            (folder / ".gitignore").write_text("*\n")  # keys: not to be committed
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DevFault(
                f"another `mtls-sidecar dev` uses {folder}: stop it, or give this one its own --state DIR"
            ) from None
        except OSError as error:
            raise _unusable(folder, error) from None
        yield DevState(folder, jitter)
    finally:
        os.close(lock)


def _unusable(folder: Path, error: OSError) -> DevFault:
    return DevFault(f"cannot use the state folder {folder}: {error.strerror}; name another with --state DIR")
