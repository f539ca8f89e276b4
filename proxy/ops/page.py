"""
The page for people at `GET /` of the admin endpoint: plain data in, one HTML document out.

It is for the moment in which something does not work and only a browser or a port-forward is at hand: is it ready and
if not why, which identity and for how long, what each listener does, who was refused and what to do about it. It needs
no script, no other file and no network, and fits a phone. What could not be had (a worker that does not answer) is said
in its place, and the rest is shown.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from proxy.ops.markup import Markup, page, tag

Row = Mapping[str, object]

STYLE = """
:root{--line:#8884;--soft:#8882;--good:#187a3c;--bad:#b3261e;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--good:#5fd38a;--bad:#ff8a80}}
body{margin:0;font:15px/1.5 system-ui,sans-serif}
main{max-width:70rem;margin:auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.3rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}p{margin:.3rem 0}
.state{border-left:.4rem solid var(--bad);background:var(--soft);padding:.5rem .8rem;margin:.8rem 0}
.good{border-color:var(--good)}.state b,.bad{color:var(--bad)}.good b{color:var(--good)}
.quiet{opacity:.75}code{font:13px ui-monospace,monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:0}dt{opacity:.75}dd{margin:0}
ul{list-style:none;margin:0;padding:0}li{border-top:1px solid var(--line);padding:.4rem 0}
table{border-collapse:collapse;width:100%}
td,th{overflow-wrap:normal;text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0}
td:last-child{overflow-wrap:anywhere}
tr{border-top:1px solid var(--line)}thead tr{border:0}th{font-weight:600;opacity:.75}
@media(max-width:46rem){thead{display:none}table,tbody,tr,td{display:block}
td{overflow-wrap:anywhere;padding:0}tr{padding:.4rem 0}
td[data-label]::before{content:attr(data-label) ": ";opacity:.75}dl{display:block}dt{margin-top:.3rem}}
""".strip()

# Nothing may be loaded or run, should a word of a stranger ever get through the escaping: the style alone, by its hash.
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
HEADERS = (
    ("Content-Security-Policy", f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)

_SAMPLE = re.compile(r"mtls_sidecar_(connections|rejected)_total\{([^{}]*)\} ([0-9.e+]+)")
_LABEL = re.compile(r'(direction|listener)="((?:[^"\\]|\\.)*)"')


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the page shows; a part that could not be had is None, and `missing` has a sentence for each.

    ready:  as /ready; metrics: the text of /metrics; the other parts as the paths of their names
    routes: method, path, meaning
    """

    ready: tuple[bool, str]
    certs: Row | None = None
    config: Row | None = None
    connections: Sequence[Row] | None = None
    recent: Mapping[str, Sequence[Row]] | None = None
    metrics: str = ""
    missing: Sequence[str] = ()
    routes: Sequence[tuple[str, str, str]] = ()


def page_of(facts: Facts) -> str:
    """Write the page."""
    ready, why = facts.ready
    certs = facts.certs or {}
    state = tag(
        "p",
        tag("b", "ready" if ready else "not ready"),
        None if ready else f": {why}",
        class_="state" + " good" * ready,
    )
    return page(
        f"{'ready' if ready else 'not ready'} - mtls-sidecar",
        STYLE,
        tag("h1", "mtls-sidecar"),
        tag("p", _text(certs.get("spiffe_id") or "no identity yet"), class_="quiet"),
        state,
        *(tag("p", f"not to be had: {sentence}", class_="bad") for sentence in facts.missing),
        *_identity(certs),
        *_listeners(facts),
        *_refusals(facts),
        *_reloads(facts),
        *_links(facts.routes),
    )


def _identity(certs: Row) -> Iterable[Markup]:
    yield tag("h2", "Identity")
    bundles = certs.get("bundles")
    domains = ", ".join(f"{name} ({len(roots)} CA)" for name, roots in _mapping(bundles).items())
    shown = {
        "SPIFFE ID": certs.get("spiffe_id"),
        "time left": certs.get("lapses_in"),
        "lapses at": certs.get("lapses_at"),
        "our clock": certs.get("our_clock"),
        "trust bundles": domains,
        "generation": certs.get("generation"),
        "published at": certs.get("published_at"),
        "workers behind": ", ".join(map(str, _sequence(certs.get("lagging")))),
    }
    yield tag(
        "dl", *(cell for name, value in shown.items() if value for cell in (tag("dt", name), tag("dd", _text(value))))
    )
    for what in ("identity", "configuration"):
        failure = _mapping(certs.get(f"{what}_failure"))
        if failure:
            yield tag(
                "p",
                tag("b", f"The {what} cannot be reloaded"),
                f" since {failure.get('since')}, what was in force stays: {failure.get('reason')}: "
                f"{failure.get('detail')}. {failure.get('advice')}",
                class_="state",
            )
    for warning in _sequence(certs.get("warnings")):
        yield tag("p", f"warning: {warning}")


def _listeners(facts: Facts) -> Iterable[Markup]:
    yield tag("h2", "Listeners")
    config = facts.config or {}
    settings = {
        (direction, str(one.get("name"))): one
        for direction in ("inbound", "outbound")
        for one in map(_mapping, _sequence(config.get(direction)))
    }
    totals = _totals(facts.metrics)
    rows = []
    for bound in map(_mapping, _sequence(config.get("listening"))):
        key = str(bound.get("direction")), str(bound.get("listener"))
        setting = settings.get(key, {})
        here = [one for one in facts.connections or () if (one.get("direction"), one.get("listener")) == key]
        let_in, refused = totals.get(key, (0, 0))
        rows.append(
            {
                "listener": key[1],
                "direction": key[0],
                "mode": setting.get("mode") or ("mutual TLS out" if key[0] == "outbound" else "see /config"),
                "address": bound.get("address"),
                "upstream": setting.get("upstream") or "-",
                "open now": len(here) if facts.connections is not None else "?",
                "let in": let_in,
                "refused": refused,
            }
        )
    yield _table(rows, "It listens nowhere.")


def _refusals(facts: Facts) -> Iterable[Markup]:
    yield tag("h2", "Latest refusals")
    items = [
        tag(
            "li",
            tag("p", tag("b", _text(one.get("reason")), class_="bad"), " ", tag("b", _text(one.get("who")))),
            tag("p", _circumstances(one), class_="quiet"),
            tag("p", _text(one.get("detail"))),
            tag("p", "To do: ", _text(one.get("advice"))),
        )
        for one in (facts.recent or {}).get("refusals", ())
    ]
    yield tag("ul", *items) if items else tag("p", "Nobody was refused lately.", class_="quiet")


def _circumstances(one: Row) -> str:
    count = one.get("count")
    times = "once, at" if count == 1 else f"{count} times, last at"
    worker = f", worker {one['worker']}" if "worker" in one else ""
    place = f"on the {one.get('direction')} listener {one.get('listener')}{worker}"
    return f"{place}, {times} {one.get('time')}, from {one.get('downstream_remote_address')}"


def _reloads(facts: Facts) -> Iterable[Markup]:
    yield tag("h2", "Latest reloads")
    names = ("time", "what", "result", "reason", "generation", "detail")
    rows = [{name: one.get(name) for name in names} for one in (facts.recent or {}).get("reloads", ())]
    yield _table(rows, "None yet.")


def _links(routes: Sequence[tuple[str, str, str]]) -> Iterable[Markup]:
    yield tag("h2", "More")
    rows = [
        {
            "path": tag("a", path, href=path) if method == "GET" else tag("code", f"curl -X {method} {path}"),
            "meaning": meaning,
        }
        for method, path, meaning in routes
        if path != "/"
    ]
    yield _table(rows, "")


def _table(rows: Sequence[Row], empty: str) -> Markup:
    if not rows:
        return tag("p", empty, class_="quiet")
    head = tag("thead", tag("tr", *(tag("th", name) for name in rows[0])))
    lines = [tag("tr", *(tag("td", _cell(value), data_label=name) for name, value in row.items())) for row in rows]
    return tag("table", head, tag("tbody", *lines))


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else _text(value)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _totals(metrics: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Direction and listener -> (let in, refused) since the start, as /metrics counts them."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for family, labels, value in _SAMPLE.findall(metrics):
        found = dict(_LABEL.findall(labels))
        key = found.get("direction", ""), found.get("listener", "")
        let_in, refused = totals.get(key, (0, 0))
        count = int(float(value))
        totals[key] = (let_in + count, refused) if family == "connections" else (let_in, refused + count)
    return totals


def _mapping(value: object) -> Mapping[str, list[object]]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
