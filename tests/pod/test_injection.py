"""What injection decides, one rule a test. Whole outputs: golden/; what holds for every Pod: test_properties.py."""

import json
from typing import Any

import pytest
import yaml

from proxy.pod.injection import inject, uninject
from proxy.pod.refusal import Refused
from proxy.pod.settings import CONFIG, STATUS, Settings
from tests.pod.pods import GOOD, Json, app, pod, settings


def config_of(value: Json) -> Any:
    return yaml.safe_load(value["metadata"]["annotations"][CONFIG])


def config(*containers: Json, **texts: str) -> Any:
    return config_of(inject(pod(*containers), settings(**texts)).pod)


def refusal(value: object, chosen: Settings | None = None, **more: Any) -> str:
    """All sentences of a refusal."""
    with pytest.raises(Refused) as refused:
        inject(value, chosen or settings(), **more)  # type: ignore[arg-type]
    return "\n".join(refused.value.sentences)


def sidecar(value: Json, name: str = "mtls-sidecar") -> Json:
    spec = value["spec"]
    found = [one for one in (*spec.get("initContainers", []), *spec["containers"]) if one["name"] == name]
    assert len(found) == 1
    container: Json = found[0]
    return container


# What is refused, and in which words.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pod(hostNetwork=True), "hostNetwork puts the Pod into the node's network"),
        (pod(os={"name": "windows"}), "for Windows nodes"),
        (pod(nodeSelector={"kubernetes.io/os": "windows"}), "for Windows nodes"),
        (pod(app(name="istio-proxy")), "Istio's container istio-proxy already"),
        (pod(app(), initContainers=[app(name="linkerd-init")]), "Linkerd's container linkerd-init already"),
        (pod(annotations={"linkerd.io/inject": "enabled"}), "asks for Linkerd's sidecar as well"),
        (pod(app(name="mtls-sidecar")), "that injection did not add"),
        (pod(volumes=[{"name": "mtls-sidecar-config"}]), "a volume mtls-sidecar-config that injection did not add"),
        (pod(app(securityContext={"runAsUser": 1337})), "runs with runAsUser 1337, which is the sidecar's"),
        (pod(securityContext={"runAsGroup": 1337}), "runs with runAsGroup 1337"),
        (pod(app(ports=[{"containerPort": 15006}])), "port 15006, which the sidecar needs for inbound connections"),
        (pod(app(ports=[{"containerPort": 15021}])), "port 15021, which the sidecar needs for its health endpoint"),
        (pod(annotations={"a": "ä" * 128 * 1024}), "and Kubernetes takes 262144 at most"),
        (pod(app(livenessProbe={"httpGet": {"port": "web"}})), "port web, which the container does not declare"),
        (pod(app(livenessProbe={"httpGet": {"port": 8443, "scheme": "HTTPS"}})), "is HTTPS, which kubelet does not"),
        (pod(app(livenessProbe={"tcpSocket": {"port": 0}})), "has no port from 1 to 65535"),
        (pod(annotations={"mtls-sidecar.io/alow": GOOD}), "no annotation mtls-sidecar.io/alow; did you mean `allow`?"),
        (pod(annotations={"mtls-sidecar.io/mode": "strict"}), "'strict': write STRICT, PERMISSIVE, DISABLE."),
        (pod(annotations={"mtls-sidecar.io/classic": True}), "has to be text: write it in quotes"),
        (pod(annotations={"mtls-sidecar.io/inject": "maybe"}), "'maybe': write true or false."),
        (pod(annotations={"mtls-sidecar.io/allow": "spiffe://x/*a"}), "intercept.inbound.default.allow[0]"),
        (pod(annotations={"mtls-sidecar.io/config": "{log: {level: loud}}"}), "faulty at log.level"),
        (pod(annotations={"mtls-sidecar.io/config": "{admin: null}"}), "sections tls, timeouts, limits, log, workers"),
        (pod(annotations={"mtls-sidecar.io/inbound": "a: &x 1\nb: *x"}), "it holds an alias"),
        (pod(annotations={"mtls-sidecar.io/inbound": "[: {"}), "it is no YAML (line 1)"),
        (pod(annotations={"mtls-sidecar.io/ports": "15007:8080"}), "which is for `intercept` false"),
        ({"metadata": {}, "spec": {"containers": []}}, "no spec.containers"),
        ({"spec": {"containers": [{}]}}, "spec.containers[0] has no name"),
        ({"spec": {"containers": [app()], "hostNetwork": "yes"}}, "spec.hostNetwork has to be true or false"),
        ("Pod", "The Pod has to be a mapping"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(value: object, words: str) -> None:
    assert words in refusal(value)


def test_a_port_of_udp_is_in_nobodys_way() -> None:
    value = pod(app(ports=[{"containerPort": 15006, "protocol": "UDP"}]))
    assert sidecar(inject(value, settings()).pod)


def test_everything_in_the_way_is_said_at_once() -> None:
    said = refusal(pod(hostNetwork=True), Settings())
    for words in ("hostNetwork", "no identity source", "no trust domain", "Nobody is named who may connect"):
        assert words in said


def test_a_pod_that_asks_to_be_left_alone_is_left_alone_whatever_else_it_says() -> None:
    for where in ("annotations", "labels"):
        value = pod(hostNetwork=True)
        value["metadata"][where] = {"mtls-sidecar.io/inject": "false", "mtls-sidecar.io/nonsense": "1"}
        assert inject(value, settings()).pod == value


def test_a_pod_that_was_injected_and_now_asks_to_be_left_alone_is_freed() -> None:
    once = inject(pod(), settings()).pod
    once["metadata"]["annotations"]["mtls-sidecar.io/inject"] = "false"
    assert inject(once, settings()).pod == pod(annotations={"mtls-sidecar.io/inject": "false"})


# Ports and policy.


def test_with_interception_every_port_has_the_default_and_some_their_own() -> None:
    inbound = config(deny="spiffe://example.org/ns/web/sa/old", inbound="{9090: {mode: DISABLE}, 1: {alpn: [h2]}}")
    rule = {"mode": "STRICT", "allow": [GOOD], "deny": ["spiffe://example.org/ns/web/sa/old"]}
    assert inbound["intercept"] == {
        "inbound": {
            "listen": "0.0.0.0:15006",
            "ports": {9090: {"mode": "DISABLE"}, 1: {**rule, "alpn": ["h2"]}},
            "default": rule,
        }
    }


def test_without_interception_each_port_has_a_listener_beside_it() -> None:
    listeners = config(intercept="false", ports="8443:8080 9090-9091")["inbound"]
    assert [(one["name"], one["listen"], one["upstream"]) for one in listeners] == [
        ("port-8080", "0.0.0.0:8443", "127.0.0.1:8080"),
        ("port-9090", "0.0.0.0:15006", "127.0.0.1:9090"),
        ("port-9091", "0.0.0.0:15007", "127.0.0.1:9091"),
    ]


def test_without_interception_the_declared_ports_are_the_default_and_udp_is_none() -> None:
    ports = [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 15007}]
    listeners = config(app(ports=ports), intercept="false")["inbound"]
    assert [one["listen"] for one in listeners] == ["0.0.0.0:15006", "0.0.0.0:15008"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"intercept": "false"}, "No container declares a TCP port"),
        ({"intercept": "false", "ports": "1-1000"}, "1000 listeners"),
        ({"intercept": "false", "ports": "8080", "inbound": "{1: {mode: DISABLE}}"}, "port 1, which is not among"),
        ({"intercept": "false", "ports": "8080", "routes": "[{to: 10.0.0.0/8}]"}, "`routes` are for interception"),
        ({"ports": "8080,15006"}, "`ports` names port 15006, which the sidecar needs for inbound connections. Name a"),
        ({"ports": "15000-15001"}, "`ports` names port 15001, which the sidecar needs for outbound connections."),
        ({"inbound": "{15021: {mode: DISABLE}}"}, "`inbound` names port 15021, which the sidecar needs for its health"),
        (
            {"intercept": "false", "ports": "8080:15000"},
            "`ports` names port 15000, which the sidecar needs for its adm",
        ),
        ({"bundles": "example.org=configmap/x"}, "our own trust domain"),
        ({"ports": "none"}, "the sidecar would have nothing to do"),
        ({"memory_limit": "60M"}, "`memory-request`, 64Mi, is more than `memory-limit`, 60M"),
        ({"cpu_limit": "0.04"}, "`cpu-request`, 50m, is more than `cpu-limit`, 0.04"),
        ({"config": "{log: {leve: info}}"}, "did you mean `level`?"),
        ({"routes": "[{to: 10.0.0.0/8}]"}, "as in `allow`."),
    ],
)
def test_settings_that_make_no_sense_are_refused(texts: dict[str, str], words: str) -> None:
    sentences = refusal(pod(), settings(**texts))
    assert words in sentences
    assert not sentences.endswith(("..", "?."))


@pytest.mark.parametrize("texts", [{"ports": "8000-20000"}, {"intercept": "false", "ports": "15006"}])
def test_a_wide_range_may_hold_the_sidecars_ports_and_without_interception_one_moves(texts: dict[str, str]) -> None:
    assert config(**texts)


def test_no_rule_is_asked_for_where_nobody_is_judged_or_nothing_comes_in() -> None:
    assert config(allow="", mode="DISABLE")["intercept"]["inbound"]["default"] == {"mode": "DISABLE"}
    routes = f"[{{to: 10.0.0.0/8, ports: [1], server_ids: ['{GOOD}']}}]"
    assert list(config(allow="", ports="none", routes=routes)["intercept"]) == ["outbound"]


def test_ipv6_is_listened_for_where_it_is_asked_for() -> None:
    made = config(ipv6="true")
    assert (made["intercept"]["inbound"]["listen"], made["health"]["listen"]) == ("[::]:15006", "[::]:15021")


# The packet rules.


def test_the_rules_catch_outbound_only_where_there_are_routes() -> None:
    routes = f"[{{to: 10.0.0.0/8, ports: [1], server_ids: ['{GOOD}']}}]"
    without = sidecar(inject(pod(), settings()).pod, "mtls-sidecar-intercept")["args"]
    with_routes = sidecar(inject(pod(), settings(routes=routes)).pod, "mtls-sidecar-intercept")["args"]
    assert without == ["intercept", "apply", "--inbound-port", "15006", "--outbound-port", "none"]
    assert with_routes == ["intercept", "apply", "--inbound-port", "15006", "--outbound-port", "15001"]


def test_the_rules_are_what_the_command_takes() -> None:
    from argparse import ArgumentParser

    from proxy.cli import intercept

    routes = f"[{{to: 10.0.0.0/8, ports: [1], server_ids: ['{GOOD}']}}]"
    chosen = settings(
        routes=routes,
        ports="80,90-99",
        exclude_inbound_ports="91",
        include_outbound_ports="1-5",
        exclude_outbound_ports="3",
        include_outbound_cidrs="10.0.0.0/8",
        exclude_outbound_cidrs="10.1.0.0/16,fd00::/8",
    )
    parser = ArgumentParser()
    intercept.add_arguments(parser)
    args = parser.parse_args(sidecar(inject(pod(), chosen).pod, "mtls-sidecar-intercept")["args"][1:])
    names = [
        *("exclude_inbound_ports", "include_outbound_ports", "exclude_outbound_ports"),
        *("include_outbound_cidrs", "exclude_outbound_cidrs"),
    ]
    assert {name: getattr(args, name) for name in names} == {name: getattr(chosen, name) for name in names}
    assert chosen.ports is not None
    assert args.include_inbound_ports == chosen.ports.ranges


def test_only_the_rules_container_is_privileged_and_nothing_else_may_gain_privileges() -> None:
    made = inject(pod(), settings(identity="spiffe-csi")).pod["spec"]["initContainers"]
    contexts = {one["name"]: one["securityContext"] for one in made}
    assert contexts.pop("mtls-sidecar-intercept")["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    for context in contexts.values():
        assert context["runAsNonRoot"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context["allowPrivilegeEscalation"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


# Where it stands.


def test_a_native_sidecar_is_before_everything_of_the_app_and_behind_the_rules() -> None:
    made = inject(pod(app(), initContainers=[app(name="prepare")]), settings(identity="spiffe-csi")).pod["spec"]
    assert [(one["name"], one.get("restartPolicy")) for one in made["initContainers"]] == [
        ("mtls-sidecar-intercept", None),
        ("mtls-sidecar-spiffe-helper", "Always"),
        ("mtls-sidecar", "Always"),
        ("prepare", None),
    ]


def test_a_classic_sidecar_is_the_first_container_and_holds_the_others_until_it_is_ready() -> None:
    made = inject(pod(app(), initContainers=[app(name="prepare")]), settings(classic="true")).pod
    spec = made["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["prepare", "mtls-sidecar-intercept"]
    assert [one["name"] for one in spec["containers"]] == ["mtls-sidecar", "app"]
    assert "restartPolicy" not in spec["containers"][0]
    assert spec["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][:2] == ["mtls-sidecar", "wait"]
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "app"
    assert config_of(made)["timeouts"] == {"drain_delay_s": 5, "drain_s": 23}


def test_a_default_container_that_is_set_stays() -> None:
    own = {"kubectl.kubernetes.io/default-container": "other"}
    made = inject(pod(annotations=own), settings(classic="true")).pod
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "other"
    assert uninject(made).pod == pod(annotations=own)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "never completes by itself"),
        ({"job_quits": "true", "identity": "spiffe-csi"}, "spiffe-helper would never end"),
    ],
)
def test_a_job_with_a_classic_sidecar_has_to_end_it_itself(texts: dict[str, str], words: str) -> None:
    assert words in refusal(pod(), settings(classic="true", **texts), owner_kind="Job")
    assert inject(pod(), settings(classic="true", job_quits="true"), owner_kind="CronJob")


# Identity.


@pytest.mark.parametrize(("spec", "mode"), [({}, 0o444), ({"securityContext": {"fsGroup": 5}}, 0o440)])
def test_a_secret_is_readable_to_the_sidecar_with_and_without_an_fs_group(spec: Json, mode: int) -> None:
    volumes = inject(pod(**spec), settings(identity="secret/svid")).pod["spec"]["volumes"]
    assert {"name": "mtls-sidecar-identity", "secret": {"secretName": "svid", "defaultMode": mode}} in volumes


def test_nobody_but_the_sidecar_mounts_the_key() -> None:
    spec = inject(pod(app(), app(name="other")), settings(identity="spiffe-csi")).pod["spec"]
    holders = {
        one["name"]
        for one in (*spec["initContainers"], *spec["containers"])
        if any(mount["name"] == "mtls-sidecar-identity" for mount in one.get("volumeMounts", []))
    }
    assert holders == {"mtls-sidecar", "mtls-sidecar-spiffe-helper"}


def test_bundles_of_partners_are_mounted_and_named_by_their_domain() -> None:
    made = inject(pod(), settings(bundles="partner.example=configmap/roots")).pod
    assert config_of(made)["identity"]["bundles"] == {
        "example.org": "/run/svid/ca.crt",
        "partner.example": "/run/bundles/partner.example/ca.crt",
    }
    assert {"name": "mtls-sidecar-bundle-0", "configMap": {"name": "roots"}} in made["spec"]["volumes"]


# Probes.


def probes(*containers: Json, **texts: str) -> Any:
    return config(*containers, **texts)["health"].get("app_probes", [])


def test_probes_become_requests_to_the_sidecar_with_their_timing() -> None:
    probe = {"httpGet": {"path": "/h", "port": "web"}, "periodSeconds": 3, "timeoutSeconds": 90}
    container = app(ports=[{"name": "web", "containerPort": 80}], livenessProbe=probe)
    made = inject(pod(container), settings()).pod
    assert made["spec"]["containers"][0]["livenessProbe"] == {
        "httpGet": {"path": "/app-health/app/livez", "port": 15021},
        "periodSeconds": 3,
        "timeoutSeconds": 90,
    }
    assert config_of(made)["health"]["app_probes"] == [
        {"name": "app/livez", "kind": "http", "port": 80, "path": "/h", "timeout_s": 60}
    ]


@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["true"]}},
        {"httpGet": {"port": 80, "host": "10.0.0.1"}},
        {"tcpSocket": {"port": 9090}},  # DISABLE
        {"tcpSocket": {"port": 9100}},  # excluded
        {"httpGet": {"port": 9100, "scheme": "HTTPS"}},
        {},
    ],
)
def test_probes_that_reach_the_app_all_the_same_stay(probe: Json) -> None:
    texts = {"inbound": "{9090: {mode: DISABLE}}", "exclude_inbound_ports": "9100"}
    made = inject(pod(app(readinessProbe=probe)), settings(**texts)).pod
    assert made["spec"]["containers"][0]["readinessProbe"] == probe
    assert probes(app(readinessProbe=probe), **texts) == []


def test_probes_of_the_apps_own_native_sidecars_and_hooks_are_rewritten_too() -> None:
    own = app(name="logs", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 24224}})
    hook = app(lifecycle={"preStop": {"httpGet": {"port": 80, "path": "bye"}}, "postStart": {"exec": {}}})
    made = inject(pod(hook, initContainers=[own]), settings()).pod
    names = [one["name"] for one in config_of(made)["health"]["app_probes"]]
    assert names == ["logs/startupz", "app/prestopz"]
    assert made["spec"]["containers"][0]["lifecycle"]["postStart"] == {"exec": {}}


def test_without_interception_probes_stay_unless_the_rewriting_is_asked_for() -> None:
    container = app(readinessProbe={"tcpSocket": {"port": 80}})
    assert probes(container, intercept="false", ports="80") == []
    assert len(probes(container, intercept="false", ports="80", rewrite_probes="true")) == 1
    assert probes(container, rewrite_probes="false") == []


@pytest.mark.parametrize(("path", "written"), [("", "/"), ("x", "/x"), ("/a b?c=d#e", "/a%20b?c=d"), ("/ü", "/%C3%BC")])
def test_paths_are_written_as_kubelet_would_send_them(path: str, written: str) -> None:
    assert probes(app(livenessProbe={"httpGet": {"path": path, "port": 80}}))[0]["path"] == written


# Updates and the record.


def test_a_probe_that_was_changed_by_hand_since_stays_changed() -> None:
    once = inject(pod(app(livenessProbe={"tcpSocket": {"port": 80}})), settings()).pod
    once["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["true"]}}
    assert uninject(once).pod["spec"]["containers"][0]["livenessProbe"] == {"exec": {"command": ["true"]}}


def test_timing_that_was_changed_by_hand_since_survives_an_update() -> None:
    once = inject(pod(app(livenessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 1})), settings()).pod
    once["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = 7
    back = uninject(once).pod["spec"]["containers"][0]["livenessProbe"]
    assert back == {"tcpSocket": {"port": 80}, "periodSeconds": 7}


def test_volumes_that_were_added_since_survive_the_way_back() -> None:
    once = inject(pod(), settings()).pod
    once["spec"]["volumes"].append({"name": "mine", "emptyDir": {}})
    assert uninject(once).pod["spec"]["volumes"] == [{"name": "mine", "emptyDir": {}}]


@pytest.mark.parametrize("empty", [None, [], "absent"])
def test_empty_lists_come_back_as_they_were(empty: object) -> None:
    value = pod()
    if empty != "absent":
        value["spec"] |= {"initContainers": empty, "volumes": empty}
        value["metadata"]["annotations"] = None
    assert json.dumps(uninject(inject(value, settings()).pod).pod) == json.dumps(value)


def test_a_record_that_names_what_is_not_there_takes_nothing_else_away() -> None:
    once = inject(pod(), settings()).pod
    status = json.loads(once["metadata"]["annotations"][STATUS])
    status["made"]["spec.containers"] = "absent"
    once["metadata"]["annotations"][STATUS] = json.dumps(status)
    with pytest.raises(Refused, match="damaged"):
        uninject(once)


def limits_of(value: Json, part: str) -> dict[str, Json]:
    return {one["name"]: one["resources"][part] for one in value["spec"]["initContainers"]}


def test_a_quota_that_asks_for_cpu_limits_can_be_met() -> None:
    value = inject(pod(), settings(identity="spiffe-csi", cpu_limit="2")).pod
    limits = {name: one["cpu"] for name, one in limits_of(value, "limits").items()}
    assert limits == {"mtls-sidecar-intercept": "2", "mtls-sidecar-spiffe-helper": "100m", "mtls-sidecar": "2"}
    asked = {name: one["cpu"] for name, one in limits_of(value, "requests").items()}
    assert asked == {"mtls-sidecar-intercept": "50m", "mtls-sidecar-spiffe-helper": "10m", "mtls-sidecar": "50m"}


GUARANTEED = {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}


def test_a_guaranteed_pod_can_stay_guaranteed() -> None:
    keeping = settings(identity="spiffe-csi", cpu_limit="50m", memory_limit="64Mi")
    made = inject(pod(app(resources=GUARANTEED)), keeping)
    assert limits_of(made.pod, "limits") == limits_of(made.pod, "requests")
    assert "Guaranteed" not in "\n".join(made.notes)


@pytest.mark.parametrize(
    ("resources", "is_told"),
    [
        (GUARANTEED, True),
        ({"limits": GUARANTEED["limits"]}, True),
        (GUARANTEED | {"requests": {"cpu": "0.5"}}, False),
        ({"limits": {"cpu": "1"}}, False),
        ({}, False),
        (None, False),
        ({"limits": 1, "requests": [1]}, False),
    ],
)
def test_a_pod_that_is_guaranteed_no_more_is_warned_of(resources: object, is_told: bool) -> None:
    notes = inject(pod(app(resources=resources)), settings()).notes
    assert any("QoS class Guaranteed" in note for note in notes) is is_told


def test_what_should_be_known_is_among_the_notes() -> None:
    notes = "\n".join(inject(pod(shareProcessNamespace=True), settings(exclude_inbound_ports="1")).notes)
    for words in ("shareProcessNamespace lets", "excluded inbound ports are reachable in plaintext", "native sidecar"):
        assert words in notes


@pytest.mark.parametrize(
    ("texts", "annotations", "is_told"),
    [
        ({}, {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}, True),
        ({"inbound": "{9090: {mode: DISABLE}}"}, {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}, False),
        ({"exclude_inbound_ports": "9090"}, {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}, False),
        ({}, {"prometheus.io/scrape": "false", "prometheus.io/port": "9090"}, False),
        ({}, {"prometheus.io/scrape": "true", "prometheus.io/port": "metrics"}, False),
        ({}, {"prometheus.io/scrape": "true"}, False),
    ],
)
def test_a_port_that_is_scraped_in_plaintext_is_among_the_notes(
    texts: dict[str, str], annotations: dict[str, str], is_told: bool
) -> None:
    told = inject(pod(annotations=annotations), settings(**texts)).notes
    assert any("port 9090 scraped in plaintext" in note for note in told) is is_told


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"rewrite_probes": "false"}, "kubelet's come in plaintext"),
        ({"allow": "spiffe://exmaple.org/ns/web/**"}, "can match nobody"),
        ({"ports": "80"}, "not among `ports` are reachable in plaintext"),
        ({"intercept": "false", "ports": "80"}, "stay reachable beside the sidecar"),
    ],
)
def test_what_weakens_the_protection_is_among_the_notes(texts: dict[str, str], words: str) -> None:
    notes = [note for note in inject(pod(), settings(**texts)).notes if words in note]
    assert len(notes) == 1
    assert notes[0].endswith(".")
