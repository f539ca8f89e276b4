"""The JSON of `probe` is read by programs: what is in it stays, and what is added is added here."""

import msgspec
import pytest

from proxy.cli import probe_document
from proxy.cli.probe_document import SCHEMA

FIELDS = {
    "ProbeDocument": """schema peer server_name our_clock ours lookup_ms addresses probed speaks_tls protocol greeting
        versions groups cipher_suites chain chain_order pem identity warnings connections verdict""",
    "AddressView": "address connected ms reason detail",
    "HandshakeView": """version with_certificate outcome proof reason alert detail advice cipher group alpn
        certificate_asked certificate_sent ca_names tickets ticket_lifetime_s warning_alert ms""",
    "VersionView": "version spoken as_asked without_certificate client_certificate resumption",
    "ChoiceView": "version taken not_taken complete",
    "IdentityView": "spiffe_id verified server_ids expected lapses_at reason detail advice",
    "OursView": "spiffe_id serial issuer key_type validity reason fault",
    "VerdictView": "good reason sentence advice next_command",
}
WORDS = {
    "Outcome": ["accepted", "refused", "no word", "not spoken", "failed"],
    "Demand": ["required", "optional", "not asked", "unknown"],
    "Resumption": ["works", "no ticket came", "the session was not taken up", "failed", "not tried"],
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_fields_are_these(name: str) -> None:
    assert list(getattr(probe_document, name).__struct_fields__) == FIELDS[name].split()


@pytest.mark.parametrize("name", WORDS)
def test_the_words_are_these(name: str) -> None:
    assert [word.value for word in getattr(probe_document, name)] == WORDS[name]


def test_every_struct_is_pinned_and_has_a_json_schema() -> None:
    components = msgspec.json.schema(probe_document.ProbeDocument)["$defs"]
    structs = {name for name, schema in components.items() if schema.get("type") == "object"}
    assert structs - {"CertificateView", "Fault"} == FIELDS.keys()  # those two are `certs show`'s
    assert SCHEMA == 1
