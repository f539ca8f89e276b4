"""A throw-away CA and the two SVIDs of a run: ECDSA P-256, one spiffe:// URI each, valid for a day."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from proxy.lab.testbed import CLIENT_ID, SERVER_ID, TRUST_DOMAIN
from proxy.tls.authority import Authority
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.loadcontext import Credentials

DAY_S = 86_400.0
KEY = "ecdsa-p256"


@dataclass(frozen=True, slots=True)
class Pki:
    """Paths of PEM files."""

    ca: str
    server_cert: str
    server_key: str
    client_cert: str
    client_key: str

    @property
    def credentials(self) -> Credentials:
        """The client's, who expects the server."""
        return Credentials(ca=self.ca, cert=self.client_cert, key=self.client_key, server_ids=(SERVER_ID,))


def issue(folder: Path) -> Pki:
    """Write the CA and both SVIDs into an existing folder."""
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority.create(TRUST_DOMAIN, now=now, lifetime_s=DAY_S, key_type=KEY)
    for role, spiffe_id in (("server", SERVER_ID), ("client", CLIENT_ID)):
        svid = authority.issue(spiffe_id, now=now, lifetime_s=DAY_S, key_type=KEY)
        write_svid(folder / role, svid, bundles={BUNDLE_FILE: authority.bundle_pem})
    server, client = folder / "server", folder / "client"
    return Pki(
        ca=str(server / BUNDLE_FILE),
        server_cert=str(server / CERT_FILE),
        server_key=str(server / KEY_FILE),
        client_cert=str(client / CERT_FILE),
        client_key=str(client / KEY_FILE),
    )
