"""
SPIFFE IDs and the patterns that match them: who somebody is, and how a rule names many of them.

Decides what a well-formed name is, byte by byte, and nothing else: certificates are svid.py's, rules policy.py's.
A value of these types is well-formed because only the parsers below make one out of text.

Strictness. SPIFFE-ID 2.1 demands a lower-case trust domain while 2.4 compares scheme and trust domain without regard to
case. We refuse upper case in both (as go-spiffe does) instead of folding it: one identity then has one spelling, so
that equality is byte equality in policies, logs and caches, and no two spellings can be judged differently. Nothing is
normalised, decoded or trimmed either. A name that looks like an IPv4 address or a DNS name is treated like any other
(2.1).

Patterns. A pattern is a SPIFFE ID in which whole path segments may be wildcards: `*` is exactly one segment, `**` is
one or more and stands only at the end. No pattern spans trust domains, and none matches a part of a segment, since
`/sa/cart*` would also let `/sa/cart-of-somebody-else` in. Matching compares segments from the left and never goes
back, so its cost is linear in the ID whatever the pattern.
"""

from dataclasses import dataclass, field

from proxy.core.reasons import Reason, Rejected

MAX_ID_BYTES = 2048  # SPIFFE-ID 2.3: the length every implementation must accept
MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID 2.3

_SCHEME = "spiffe://"
_DIGITS_AND_MARKS = "0123456789.-_"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_TRUST_DOMAIN_ALPHABET = frozenset(_LOWER + _DIGITS_AND_MARKS)
_SEGMENT_ALPHABET = frozenset(_LOWER + _LOWER.upper() + _DIGITS_AND_MARKS)
_QUOTED_CHARACTERS = 120  # a hostile name of 64 KiB must not fill the log

_MISPLACED = {
    "%": "percent-encoding is not allowed",
    "?": "a query is not allowed",
    "#": "a fragment is not allowed",
    "@": "user information is not allowed",
    ":": "a port is not allowed",
}


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """A trust domain. name: the bare lower-case name, e.g. "example.org"; made by the parsers of this file."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """The ID of a workload. path: "/ns/shop/sa/cart", never empty; made by parse_workload_id. str() is the URI."""

    trust_domain: TrustDomain
    path: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"


class PatternFault(ValueError):  # noqa: N818  # a fault of the operator's file, as in ConfigFault
    """A pattern breaks the rules; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class IdPattern:
    """
    A compiled pattern, made by parse_pattern; two are equal when their texts are. str() is the source text.

    segments:   the path's segments without a trailing `**`
    open_ended: whether `**` stands at the end
    literal:    without any `*`: the whole path, or for an open end what an ID's path starts with; else None
    """

    text: str
    trust_domain: TrustDomain = field(compare=False, repr=False)
    segments: tuple[str, ...] = field(compare=False, repr=False)
    open_ended: bool = field(compare=False, repr=False)
    literal: str | None = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def matches(self, spiffe_id: SpiffeId) -> bool:
        """Whether the pattern covers this ID."""
        if spiffe_id.trust_domain.name != self.trust_domain.name:
            return False
        path = spiffe_id.path
        if self.literal is not None:
            # The literal of an open end closes with "/", so that /ns/web/** says nothing about /ns/website.
            return path.startswith(self.literal) if self.open_ended else path == self.literal
        theirs = path.split("/")[1:]
        if self.open_ended:
            if len(theirs) <= len(self.segments):
                return False
        elif len(theirs) != len(self.segments):
            return False
        return all(ours in ("*", their) for ours, their in zip(self.segments, theirs, strict=False))

    def covers(self, other: "IdPattern") -> bool:
        """Whether this pattern matches every ID that the other one matches."""
        if other.trust_domain.name != self.trust_domain.name:
            return False
        ours, theirs = self.segments, other.segments
        if self.open_ended:
            # `**` stands for at least one segment, here and there.
            if len(theirs) + other.open_ended <= len(ours):
                return False
        elif other.open_ended or len(theirs) != len(ours):
            return False
        return all(our in ("*", their) for our, their in zip(ours, theirs, strict=False))

    def nearness(self, spiffe_id: SpiffeId) -> int:
        """How far from the left pattern and ID agree: 0 for another trust domain, else 1 + segments in common."""
        if spiffe_id.trust_domain.name != self.trust_domain.name:
            return 0
        agreed = 1
        for ours, their in zip(self.segments, spiffe_id.path.split("/")[1:], strict=False):
            if ours not in ("*", their):
                break
            agreed += 1
        return agreed


def parse_workload_id(text: str) -> SpiffeId:
    """
    Parse the SPIFFE ID of a workload (a trust domain alone is not one).

    text:    1 to 2048 ASCII bytes, e.g. "spiffe://example.org/ns/shop/sa/cart"
    Returns: SpiffeId(trust_domain, path); equal only if both are byte-equal
    Raises:  Rejected(SPIFFE_ID_MALFORMED)
    Source:  SPIFFE-ID 2 to 2.4; X509-SVID 3.1 and 5.2 (a leaf's path is never empty)
    """
    name, slash, rest = _split(text)
    if not slash:
        raise _malformed(text, "a workload's ID has a path after the trust domain")
    for segment in rest.split("/"):
        fault = _segment_fault(segment)
        if fault is not None:
            raise _malformed(text, fault)
    return SpiffeId(TrustDomain(name), "/" + rest)


def parse_authority_id(text: str) -> TrustDomain:
    """
    Parse the SPIFFE ID of a signing authority, which is its trust domain as a URI and has no path, not even "/".

    Returns: the trust domain that the ID names
    Raises:  Rejected(SPIFFE_ID_MALFORMED)
    Source:  SPIFFE-ID 3.1; X509-SVID 3.2
    """
    name, slash, _ = _split(text)
    if slash:
        raise _malformed(text, "the ID of a signing authority has no path")
    return TrustDomain(name)


def parse_trust_domain(text: str) -> TrustDomain:
    """
    Parse the bare name of a trust domain, as a configuration spells it.

    text:   1 to 255 bytes of a-z 0-9 . - _, e.g. "example.org" (the URI form is refused: one thing, one spelling)
    Raises: Rejected(SPIFFE_ID_MALFORMED)
    Source: SPIFFE-ID 2.1, 2.3
    """
    if text.startswith(_SCHEME):
        raise _malformed(text, "a trust domain is written without the scheme, e.g. example.org")
    fault = _trust_domain_fault(text)
    if fault is not None:
        raise _malformed(text, fault)
    return TrustDomain(text)


def parse_pattern(text: str) -> IdPattern:
    """
    Compile a pattern of `allow`, `deny` or `server_ids`.

    text:   e.g. "spiffe://example.org/ns/shop/sa/cart", "spiffe://example.org/ns/*/sa/cart", "spiffe://example.org/**"
    Raises: PatternFault, whose message says what to write instead
    """
    if len(text) > MAX_ID_BYTES:
        raise PatternFault(f"{quote(text)} is longer than {MAX_ID_BYTES} bytes, which no SPIFFE ID may be")
    if not text.startswith(_SCHEME):
        raise PatternFault(
            f"{quote(text)} is no SPIFFE ID: write spiffe://TRUST-DOMAIN/PATH, in lower case up to the path"
        )
    name, slash, rest = text[len(_SCHEME) :].partition("/")
    if "*" in name:
        raise PatternFault(
            f"{quote(text)} has a wildcard in the trust domain: write one pattern for each trust domain, "
            "e.g. spiffe://example.org/**"
        )
    fault = _trust_domain_fault(name)
    if fault is not None:
        raise PatternFault(f"{quote(text)}: {fault}; write it like spiffe://example.org/ns/shop/sa/cart")
    if not slash:
        raise PatternFault(f"{quote(text)} names no workload: write {text}/** for every workload of the trust domain")
    segments = tuple(rest.split("/"))
    open_ended = segments[-1] == "**"
    if open_ended:
        segments = segments[:-1]
    for segment in segments:
        _check_pattern_segment(text, segment)
    literal = None
    if "*" not in segments:
        literal = "".join(f"/{segment}" for segment in segments) + ("/" if open_ended else "")
    return IdPattern(text, TrustDomain(name), segments, open_ended, literal)


def quote(text: str) -> str:
    """Text of a stranger, fit for a log line: ASCII, quoted, every control character escaped, cut at 120 characters."""
    if len(text) <= _QUOTED_CHARACTERS:
        return ascii(text)
    return f"{text[:_QUOTED_CHARACTERS]!a}... ({len(text)} characters)"


def _split(text: str) -> tuple[str, str, str]:
    """Split a URI into trust domain, "/" or nothing, and the rest; the trust domain is judged here, the rest not."""
    # Counted in characters: what is not ASCII is refused below, so these are the bytes.
    if len(text) > MAX_ID_BYTES:
        raise _malformed(text, f"longer than {MAX_ID_BYTES} bytes")
    if not text.startswith(_SCHEME):
        if text[: len(_SCHEME)].lower() == _SCHEME:
            raise _malformed(text, "the scheme must be in lower case")
        raise _malformed(text, "it must start with spiffe://")
    name, slash, rest = text[len(_SCHEME) :].partition("/")
    fault = _trust_domain_fault(name)
    if fault is not None:
        raise _malformed(text, fault)
    return name, slash, rest


def _trust_domain_fault(name: str) -> str | None:
    if not name:
        return "the trust domain is empty"
    if len(name) > MAX_TRUST_DOMAIN_BYTES:
        return f"the trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes"
    if _TRUST_DOMAIN_ALPHABET.issuperset(name):
        return None
    stranger = next(character for character in name if character not in _TRUST_DOMAIN_ALPHABET)
    why = _MISPLACED.get(stranger, "only a-z 0-9 . - _ are allowed")
    return f"{stranger!a} in the trust domain: {why}"


def _segment_fault(segment: str) -> str | None:
    if not segment:
        return "the path has an empty segment or ends with a slash"
    if segment in (".", ".."):
        return f"the path has a segment {segment!r}"
    if _SEGMENT_ALPHABET.issuperset(segment):
        return None
    stranger = next(character for character in segment if character not in _SEGMENT_ALPHABET)
    why = _MISPLACED.get(stranger) if stranger in "%?#" else None
    return f"{stranger!a} in the path: {why or 'only a-z A-Z 0-9 . - _ are allowed'}"


def _check_pattern_segment(text: str, segment: str) -> None:
    if segment == "*":
        return
    if segment == "**":
        raise PatternFault(f"{quote(text)}: `**` stands only at the end; write `*` for exactly one segment here")
    if "*" in segment:
        raise PatternFault(
            f"{quote(text)}: {quote(segment)} mixes a wildcard with other characters; a wildcard is a whole segment: "
            "write `*` for any one segment, or one pattern for each name"
        )
    fault = _segment_fault(segment)
    if fault is not None:
        raise PatternFault(f"{quote(text)}: {fault}; write it like spiffe://example.org/ns/shop/sa/cart")


def _malformed(text: str, why: str) -> Rejected:
    return Rejected(Reason.SPIFFE_ID_MALFORMED, f"{quote(text)} is not a valid SPIFFE ID: {why}")
