"""
`mtls-sidecar certs`: a development CA, leaf SVIDs, what a PEM file holds, and what expires when.

Here are the arguments of the four subcommands, and the two that write (`ca`, `issue`); the two that read are
certs_show.py and certs_expiration.py. Exit status: 0 fine; 1 something is wrong with what was found, or writing
failed; 2 a wrong argument, or a file that cannot be read.
"""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy.cli.arguments import duration_s
from proxy.core.addresses import AddressFault, parse_server_name_pattern
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_trust_domain, parse_workload_id

KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519")
DEFAULT_KEY_TYPE = KEY_TYPES[0]

_CA_EXAMPLES = """\
examples:
  mtls-sidecar certs ca example.org --out ca
  mtls-sidecar certs ca example.org --out ca --ttl 30d --key-type ecdsa-p384
  mtls-sidecar certs ca example.org --out ca --force      # a new CA: SVIDs of the old one are refused from then on

The CA is for development and tests. In production take SPIRE or cert-manager's csi-driver-spiffe.
"""
_ISSUE_EXAMPLES = """\
examples:
  mtls-sidecar certs issue spiffe://example.org/ns/shop/sa/cart --ca ca --out svid
  mtls-sidecar certs issue spiffe://example.org/ns/shop/sa/cart --ca ca --out svid --ttl 30m --dns cart.shop.svc

It writes tls.crt, tls.key (mode 0600) and ca.crt, each by an atomic rename; a folder with a `..data` symlink, as
Kubernetes makes it, is switched over as one set. A running sidecar takes the new set up by itself.
"""
_SHOW_EXAMPLES = """\
examples:
  mtls-sidecar certs show svid/tls.crt svid/tls.key svid/ca.crt
  mtls-sidecar certs show --json svid/tls.crt | jq '.files[].certificates[].spiffe_id'

exit status: 0 all is well; 1 something shown is expired, no valid X509-SVID, out of order, or a key that does not fit;
2 a file cannot be read or holds no PEM
"""
_EXPIRATION_EXAMPLES = """\
examples:
  mtls-sidecar certs check-expiration --config /etc/mtls-sidecar/config.yaml
  mtls-sidecar certs check-expiration svid/tls.crt svid/ca.crt --warn-within 7d

exit status: 0 fine; 1 something is expired, not yet valid, or expires within --warn-within; 2 a file cannot be read
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands; importing this module stays cheap, since each loads what it needs when it runs."""
    subparsers = parser.add_subparsers(dest="certs_command", metavar="SUBCOMMAND", required=True)

    ca = _subparser(subparsers, "ca", "create a development CA for one trust domain", _CA_EXAMPLES)
    ca.add_argument("trust_domain", metavar="TRUST-DOMAIN", help="the bare name, e.g. example.org")
    ca.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for ca.crt and ca.key")
    _add_key_arguments(ca, ttl="365d")
    ca.add_argument("--force", action="store_true", help="replace the CA that is in the folder")
    ca.set_defaults(run_certs=_create_ca)

    issue = _subparser(subparsers, "issue", "issue an X509-SVID for one workload", _ISSUE_EXAMPLES)
    issue.add_argument("spiffe_id", metavar="SPIFFE-ID", help="e.g. spiffe://example.org/ns/shop/sa/cart")
    issue.add_argument("--ca", metavar="DIR", type=Path, required=True, help="folder that `certs ca` wrote")
    issue.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for tls.crt, tls.key, ca.crt")
    _add_key_arguments(issue, ttl="1h")
    issue.add_argument(
        "--dns", metavar="NAME", type=_dns_name, nargs="+", action="extend", default=[], help="DNS names to add"
    )
    issue.set_defaults(run_certs=_issue_svid)

    show = _subparser(subparsers, "show", "show what PEM files hold, and what is wrong with it", _SHOW_EXAMPLES)
    show.add_argument("files", metavar="FILE", nargs="+", help="PEM files; a key is held against the leaf beside it")
    show.add_argument("--json", action="store_true", help="one JSON document instead of text")
    show.set_defaults(run_certs=_show)

    expiration = _subparser(
        subparsers, "check-expiration", "list certificates by when they expire", _EXPIRATION_EXAMPLES
    )
    expiration.add_argument("files", metavar="FILE", nargs="*", help="PEM files")
    expiration.add_argument("--config", metavar="FILE", help="take the identity files of this configuration")
    expiration.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    expiration.add_argument(
        "--warn-within",
        metavar="DURATION",
        type=duration_s,
        default=0,
        help="exit 1 also when something expires within this time, e.g. 7d",
    )
    expiration.set_defaults(run_certs=_check_expiration)


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand; returns the exit status."""
    try:
        status: int = args.run_certs(args, datetime.now(UTC))
    except Rejected as rejected:
        return complain(rejected.detail, status=1 if rejected.reason is Reason.CERTIFICATE_EXPIRED else 2)
    return status


def complain(message: str, *, status: int) -> int:
    """Print one sentence on stderr and return the status."""
    print(f"mtls-sidecar certs: {message}", file=sys.stderr)
    return status


def _subparser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, purpose: str, examples: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_key_arguments(parser: argparse.ArgumentParser, *, ttl: str) -> None:
    parser.add_argument(
        "--key-type", choices=KEY_TYPES, default=DEFAULT_KEY_TYPE, help="default: %(default)s, the fastest handshakes"
    )
    parser.add_argument(
        "--ttl", metavar="DURATION", type=duration_s, default=ttl, help="seconds, or 30m, 1h, 7d; default: %(default)s"
    )


def _dns_name(text: str) -> str:
    try:
        return parse_server_name_pattern(text)
    except AddressFault as fault:
        raise argparse.ArgumentTypeError(f"{text!r} is no DNS name: {fault}") from None


def _create_ca(args: argparse.Namespace, now: datetime) -> int:
    from proxy.tls.authority import Authority
    from proxy.tls.identityfiles import BUNDLE_FILE, CA_KEY_FILE, write_authority

    folder: Path = args.out
    parse_trust_domain(args.trust_domain)
    there = [name for name in (CA_KEY_FILE, BUNDLE_FILE) if (folder / name).exists()]
    if there and not args.force:
        return complain(
            f"{folder / there[0]} exists: choose another --out, or --force to replace it "
            "(SVIDs of the old CA are then refused)",
            status=1,
        )
    authority = Authority.create(args.trust_domain, now=now, lifetime_s=args.ttl, key_type=args.key_type)
    try:
        write_authority(folder, authority)
    except OSError as error:
        return complain(f"cannot write the CA to {folder}: {error.strerror}", status=1)
    expires = authority.certificate.not_valid_after_utc
    print(f"Created a development CA for {args.trust_domain}, valid until {expires:%Y-%m-%dT%H:%M:%SZ}.")
    print(f"  {folder / BUNDLE_FILE}  its certificate: the trust bundle of {args.trust_domain}")
    print(f"  {folder / CA_KEY_FILE}  its key: keep it here, no workload needs it")
    print("Next, an SVID for a workload:")
    print(f"  mtls-sidecar certs issue spiffe://{args.trust_domain}/ns/default/sa/app --ca {folder} --out svid")
    return 0


def _issue_svid(args: argparse.Namespace, now: datetime) -> int:
    from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, read_authority, write_svid

    out: Path = args.out
    parse_workload_id(args.spiffe_id)
    if out.resolve() == args.ca.resolve():
        return complain("--out is the CA's own folder: choose another, no workload may read the CA's key", status=2)
    try:
        authority = read_authority(args.ca)
    except OSError as error:
        hint = f"; `mtls-sidecar certs ca TRUST-DOMAIN --out {args.ca}` creates one"
        missing = isinstance(error, FileNotFoundError)
        return complain(f"cannot read the CA: {error.filename}: {error.strerror}{hint if missing else ''}", status=2)
    svid = authority.issue(
        args.spiffe_id, now=now, lifetime_s=args.ttl, key_type=args.key_type, dns_names=tuple(args.dns)
    )
    try:
        write_svid(out, svid, bundles={BUNDLE_FILE: authority.bundle_pem})
    except OSError as error:
        return complain(f"cannot write the SVID to {out}: {error.strerror}", status=1)
    print(f"Issued {svid.spiffe_id}, valid until {svid.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}.")
    if svid.leaf.not_valid_after_utc + timedelta(seconds=1) < now + timedelta(
        seconds=args.ttl
    ):  # X.509 cuts to seconds
        print(f"That is when the CA in {args.ca} expires: no SVID outlives its CA, so --ttl was cut.")
    print("In the configuration:")
    print("  identity:")
    print(f"    cert: {out / CERT_FILE}")
    print(f"    key: {out / KEY_FILE}")
    print("    bundles:")
    print(f"      {authority.trust_domain}: {out / BUNDLE_FILE}")
    return 0


def _show(args: argparse.Namespace, now: datetime) -> int:
    from proxy.cli.certs_show import show

    return show(args.files, now, as_json=args.json)


def _check_expiration(args: argparse.Namespace, now: datetime) -> int:
    from proxy.cli.certs_expiration import check_expiration

    if not args.files and not args.config:
        return complain("nothing to check: name PEM files, or --config FILE", status=2)
    return check_expiration(args.files, args.config, now, warn_within_s=args.warn_within, as_json=args.json)
