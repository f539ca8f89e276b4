"""Identities on disk for end-to-end tests, as a sidecar and as every other proxy reads them."""

from pathlib import Path
from typing import NamedTuple

from proxy.tls.authority import Authority, Svid
from tests import minting


class Identity(NamedTuple):
    """An SVID and the bundle that its holder trusts, as files."""

    spiffe_id: str
    host: str  # a DNS name in it, for peers that check those
    cert: Path
    key: Path
    bundle: Path
    pem: Path  # chain and key in one file, as HAProxy wants it

    def section(self, **more: object) -> dict[str, object]:
        """`identity:` of a configuration."""
        bundles = {minting.DOMAIN: str(self.bundle)}
        return {"cert": str(self.cert), "key": str(self.key), "bundles": bundles, **more}


class Pki:
    """One trust domain, and a stranger: another CA that issues for the very same names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        self.authority = minting.authority()
        self.stranger = minting.authority()

    def identity(self, name: str, *, issuer: Authority | None = None, trust: Authority | None = None) -> Identity:
        """An identity of the service account `name`. trust: the CA whose peers its holder accepts."""
        issuer = issuer or self.authority
        spiffe_id = f"spiffe://{minting.DOMAIN}/ns/shop/sa/{name}"
        return self.write(minting.svid(issuer, spiffe_id, dns_names=[_host(name)]), trust=trust)

    def write(self, svid: Svid, *, trust: Authority | None = None) -> Identity:
        """Files for any SVID, in a folder of their own."""
        self._written += 1
        name = svid.spiffe_id.rpartition("/")[2]
        folder = self._folder / f"{self._written}-{name}"
        written = minting.write_identity(folder, svid, {minting.DOMAIN: trust or self.authority})
        pem = folder / "all.pem"
        pem.write_bytes(svid.cert_pem + svid.key_pem)
        bundle = Path(written.bundles[minting.DOMAIN])
        return Identity(svid.spiffe_id, _host(name), Path(written.cert), Path(written.key), bundle, pem)


def _host(name: str) -> str:
    return f"{name}.{minting.DOMAIN}"
