"""
The acts of the demo, in the order of the story: each shows its steps to the report, against one World.

An act that cannot go on raises NotShown; the steps before it stand. What counts as shown is decided here, from what
the clients saw and from what the sidecars logged, never from what was configured.
"""

import http.client
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from proxy.cli.childprocess import Address, Line, NotShown
from proxy.cli.demo_refusals import CLOSED, REFUSALS, Refusal, explained
from proxy.cli.demo_report import Report
from proxy.cli.demo_traffic import Tally, Traffic, call, steady_traffic
from proxy.cli.demo_world import APP_A, APP_B, TO_APP_B, VERSIONS, RunningSidecar, World
from proxy.core.reasons import EXPLANATIONS

ROTATIONS = 5
_MORE_REQUESTS = 20  # of each kind, after the last rotation: the newest generation has served, too
_PATIENCE_S = 10.0


class Act(NamedTuple):
    """A title, and what plays it. is_vital: nothing can follow when it fails."""

    title: str
    play: Callable[[World, Report], None]
    is_vital: bool = False


def start(world: World, report: Report) -> None:
    """The identities are minted and all processes run."""
    report.show(f"a development CA of {world.authority.trust_domain}, and SVIDs for both sidecars, as files")
    app = world.start_app()
    report.show(f"app B serves plain HTTP on {_text(app)}")
    began = time.monotonic()
    world.start_sidecar_b(app)
    where = world.sidecar_b.addresses[TO_APP_B]
    report.show(f"sidecar B is ready on {_text(where)} (STRICT) after {time.monotonic() - began:.1f} s")
    for version in VERSIONS:
        began = time.monotonic()
        world.start_sidecar_a(version)
        where = world.sidecars_a[version].addresses[TO_APP_B]
        took = f"{time.monotonic() - began:.1f} s"
        report.show(f"sidecar A for TLS {version} is ready on {_text(where)} (plaintext, for app A) after {took}")


def call_through_both(world: World, report: Report) -> None:
    """App A calls app B, over both TLS versions, first in full and then resumed."""
    for version in VERSIONS:
        for resumed in (False, True):
            _show_call(world, report, version, resumed=resumed)


def _show_call(world: World, report: Report, version: str, *, resumed: bool) -> None:
    body, a, b = _call_and_read_logs(world, version)
    wanted = {
        "TLS version in A's log": (f"TLSv{version}", a["version"]),
        "TLS version in B's log": (f"TLSv{version}", b["version"]),
        "resumed in A's log": (resumed, a["resumed"]),
        "resumed in B's log": (resumed, b["resumed"]),
        "server that A saw": (APP_B, a["peer_spiffe_id"]),
        "client that B saw": (APP_A, b["peer_spiffe_id"]),
        "caller that app B was told": (APP_A, body.get("caller")),
    }
    kind = "resumed" if resumed else "full handshake"
    report.show(
        f"TLS {version}, {kind}: {b['cipher']}, {b['group'] or 'group not known'}",
        all(one == other for one, other in wanted.values()),
        differed=_differences(wanted),
        facts={
            "A saw": str(a["peer_spiffe_id"]),
            "B saw": str(b["peer_spiffe_id"]),
            "app B heard": f"{body.get('caller')} calls, over {body.get('tls_version')} (PROXY v2)",
        },
    )


def _call_and_read_logs(world: World, version: str) -> tuple[dict[str, object], Line, Line]:
    """One call, and the `tls` objects of both sidecars' lines about it. Raises: NotShown."""
    sidecar_a, sidecar_b = world.sidecars_a[version], world.sidecar_b
    mark_a, mark_b = sidecar_a.process.mark, sidecar_b.process.mark
    answer = call(sidecar_a.addresses[TO_APP_B])
    line_a = explained(sidecar_a.process, mark_a, answer.client)
    line_b = explained(sidecar_b.process, mark_b, str(answer.body.get("address")))  # A's end, from the PROXY header
    if not line_a.get("tls") or not line_b.get("tls"):
        raise NotShown(f"the sidecars logged no TLS: A says {line_a.get('detail')}, B says {line_b.get('detail')}")
    return answer.body, line_a["tls"], line_b["tls"]


def rotate_in_traffic(world: World, report: Report) -> None:
    """All certificates are replaced on disk, several times, while requests flow on new and kept-alive connections."""
    before = {id(sidecar): sidecar.generation for sidecar in world.sidecars}
    serials: dict[str, str] = {}  # name of the sidecar -> serial of its newest certificate
    with steady_traffic([world.sidecars_a[version].addresses[TO_APP_B] for version in VERSIONS]) as traffic:
        for _ in range(ROTATIONS):
            for sidecar in world.sidecars:
                serials[sidecar.process.name] = _rotate(world, sidecar)
        _wait_for_more(traffic)
    for sidecar in world.sidecars:
        first, last = before[id(sidecar)], sidecar.generation
        report.show(
            f"{sidecar.process.name}: {ROTATIONS} rotations by {_WAYS[sidecar.publication.value]}, "
            f"generation {first} -> {last}",
            last == first + ROTATIONS,
            differed=f"{last - first} new generations, not {ROTATIONS}",
        )
    _show_tally(report, "on new connections", traffic.fresh)
    _show_tally(report, f"on {len(VERSIONS)} connections kept alive through all rotations", traffic.kept)
    for version in VERSIONS:
        _, a, b = _call_and_read_logs(world, version)
        wanted = {
            "serial that A saw": (serials[world.sidecar_b.process.name], a["peer_serial"]),
            "serial that B saw": (serials[world.sidecars_a[version].process.name], b["peer_serial"]),
        }
        report.show(
            f"TLS {version}: the next connection is between the newest certificates",
            all(one == other for one, other in wanted.values()),
            differed=_differences(wanted),
        )


_WAYS = {"swap": "`..data` symlink swap", "rename": "rename of each file"}


def _rotate(world: World, sidecar: RunningSidecar) -> str:
    generation = sidecar.generation
    mark = sidecar.process.mark
    serial = world.rotate(sidecar)
    sidecar.process.line(
        lambda line: (
            line.get("event") == "reload" and line.get("result") == "published" and line["generation"] > generation
        ),
        f"that generation {generation + 1} is published",
        since=mark,
    )
    return serial


def _wait_for_more(traffic: Traffic) -> None:
    enough = {tally: tally.requests + _MORE_REQUESTS for tally in traffic}
    deadline = time.monotonic() + _PATIENCE_S
    while any(tally.requests < wanted and not tally.failed for tally, wanted in enough.items()):
        if time.monotonic() > deadline:
            raise NotShown("the traffic stands still after the last rotation")
        time.sleep(0.01)


def _show_tally(report: Report, where: str, tally: Tally) -> None:
    report.show(
        f"{tally.requests} requests {where}, {tally.failed} failed",
        tally.requests > 0 and not tally.failed,
        differed="; ".join(dict.fromkeys(tally.failures)) or "no request was made",
    )


def refuse_each_kind(world: World, report: Report) -> None:
    """Who must not get in does not, the client gets its alert, and the operator an explanation."""
    way_in = world.sidecars_a[VERSIONS[0]].addresses[TO_APP_B]
    before = call(way_in).body.get("connection")
    for refusal in REFUSALS:
        try:
            _show_refusal(world, report, refusal)
        except (NotShown, OSError) as error:
            report.show(refusal.claim, False, differed=str(error))
    after = call(way_in).body.get("connection")
    report.show(
        "nothing of a refused connection reached app B",
        isinstance(before, int) and after == before + 1,
        differed=f"app B counted {before} connections before, and {after} with the one that asked",
    )


def _show_refusal(world: World, report: Report, refusal: Refusal) -> None:
    wrong: list[str] = []
    saw: dict[str, list[str]] = {}  # words -> the TLS versions that they were seen over
    told: Line = {}
    for version, alerts in refusal.alerts.items():
        judge = refusal.judge(world, version)
        mark = judge.mark
        seen = refusal.connect(world, version)
        line = explained(judge, mark, seen.client)
        over = f" over TLS {version}" if version else ""
        wanted = {f"alert {alert}" for alert in alerts} or {CLOSED}
        if seen.words not in wanted:
            wrong.append(f"the client saw{over}: {seen.words}, not {' or '.join(sorted(wanted))}")
        for key, word in (("reason", str(refusal.reason)), ("advice", EXPLANATIONS[refusal.reason].advice)):
            if line.get(key) != word:
                wrong.append(f"the {key} in the log{over}: {line.get(key)}, not {word}")
        saw.setdefault(seen.words, []).append(version)
        told = told or line
    facts = {"client saw": "; ".join(_over(words, versions) for words, versions in saw.items())}
    facts |= {name: str(told.get(name)) for name in ("reason", "detail", "advice")}
    report.show(refusal.claim, not wrong, differed="; ".join(wrong), facts=facts)


def _over(words: str, versions: list[str]) -> str:
    named = " and ".join(sorted(filter(None, versions)))
    return f"{words} (TLS {named})" if named else words


def end(world: World, report: Report) -> None:
    """The metrics have counted what the log said, and everything drains."""
    counted = _rejected(world.sidecar_b.admin)
    wanted = {
        str(refusal.reason): (float(len(refusal.alerts)), counted.get(str(refusal.reason), 0.0))
        for refusal in REFUSALS
        if refusal.judge(world, VERSIONS[0]) is world.sidecar_b.process
    }
    report.show(
        f"/metrics of sidecar B counts the same refusals under the same {len(wanted)} words",
        all(one == other for one, other in wanted.values()),
        differed=_differences(wanted),
    )
    statuses = {sidecar.process.name: sidecar.process.terminate() for sidecar in reversed(world.sidecars)}
    report.show(
        "SIGTERM: every sidecar drains and exits 0",
        all(status == 0 for status in statuses.values()),
        differed=", ".join(f"{name}: {_ended(status)}" for name, status in statuses.items()),
    )
    strange = [text for sidecar in world.sidecars for text in sidecar.process.unreadable]
    report.show("every line that they logged is JSON", not strange, differed=" / ".join(strange[:5]))


def _rejected(admin: Address) -> dict[str, float]:
    """rejected_total by reason. Raises: NotShown."""
    connection = http.client.HTTPConnection(*admin, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise NotShown(f"the admin endpoint of sidecar B does not answer: {error}") from None
    finally:
        connection.close()
    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "mtls_sidecar_rejected_total":
                reason = sample.labels["reason"]
                counted[reason] = counted.get(reason, 0.0) + sample.value
    return counted


def _ended(status: int | None) -> str:
    return "had to be killed" if status is None else f"status {status}"


def _differences(wanted: Mapping[str, tuple[object, object]]) -> str:
    return "; ".join(f"{what}: {other}, not {one}" for what, (one, other) in wanted.items() if one != other)


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


ACTS = (
    Act("1. Identities and processes", start, is_vital=True),
    Act("2. App A calls app B through both sidecars", call_through_both),
    Act("3. Certificates rotate on disk while requests keep flowing", rotate_in_traffic),
    Act("4. One refusal of each kind, as the client and the operator see it", refuse_each_kind),
    Act("5. The end", end),
)
