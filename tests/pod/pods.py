"""Pods, templates and settings by hypothesis: whatever Kubernetes takes and injection has an opinion about."""

from typing import Any

from hypothesis import strategies as st

from proxy.pod.settings import TABLE, Settings

Json = dict[str, Any]

GOOD = "spiffe://example.org/ns/web/**"
OPTIONS = {"identity": "csi-driver-spiffe", "trust_domain": "example.org", "allow": GOOD}


def settings(**texts: str) -> Settings:
    """Settings by their texts, as options and annotations have them."""
    rows = {row.field: row for row in TABLE}
    return Settings(**{name: rows[name].parse(text) for name, text in {**OPTIONS, **texts}.items()})  # type: ignore[arg-type]


def pod(*containers: Json, annotations: Json | None = None, **spec: Any) -> Json:
    """A Pod with one container `app`, or these."""
    metadata: Json = {"name": "one"} | ({"annotations": annotations} if annotations is not None else {})
    return {"metadata": metadata, "spec": {"containers": list(containers) or [app()], **spec}}


def app(**more: Any) -> Json:
    """A container."""
    return {"name": "app", "image": "example/app:1", **more}


_names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(
    lambda name: not name.startswith(("mtls-sidecar", "istio", "linkerd"))
)
_ports = st.integers(1, 65535).filter(lambda port: port not in (15000, 15001, 15006, 15021))
_texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30)
_words = st.one_of(
    st.sampled_from(["on", "off", "yes", "null", "1e3", "0x1f", "1_0", "12:30", "~", "a: b", "- x"]), _texts
)
_paths = st.from_regex(r"/[a-z0-9/?=&.-]{0,12}", fullmatch=True)


def _handlers(port_names: list[str]) -> st.SearchStrategy[Json]:
    ports = st.one_of(_ports, st.sampled_from(port_names)) if port_names else _ports
    header = st.fixed_dictionaries(
        {"name": st.sampled_from(["X-Probe", "Accept"]), "value": st.sampled_from(["1", "a b"])}
    )
    http = st.fixed_dictionaries(
        {"port": ports},
        optional={"path": _paths, "scheme": st.just("HTTP"), "httpHeaders": st.lists(header, max_size=2)},
    )
    return st.one_of(
        st.fixed_dictionaries({"httpGet": http}),
        st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": ports})}),
        st.fixed_dictionaries({"grpc": st.fixed_dictionaries({"port": _ports}, optional={"service": st.just("a.B")})}),
        st.just({"exec": {"command": ["true"]}}),
        st.just({"httpGet": {"port": 80, "host": "elsewhere.example"}}),
    )


@st.composite
def _containers(draw: st.DrawFn, name: str) -> Json:
    port_names = draw(st.lists(_names.filter(lambda one: len(one) < 15), max_size=2, unique=True))
    container: Json = {"name": name, "image": draw(st.sampled_from(["example/app:1", "x@sha256:00"]))}
    if port_names:
        container["ports"] = [{"name": one, "containerPort": draw(_ports)} for one in port_names]
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if draw(st.booleans()):
            timing = st.fixed_dictionaries(
                {}, optional={"periodSeconds": st.integers(1, 9), "timeoutSeconds": st.integers(1, 90)}
            )
            container[key] = draw(_handlers(port_names)) | draw(timing)
    if draw(st.booleans()):
        container["env"] = [{"name": "E", "value": draw(_words)}]
    if draw(st.integers(0, 5)) == 0:
        container["lifecycle"] = {"preStop": {"httpGet": {"path": "/bye", "port": draw(_ports)}}}
    return container


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """A Pod or template that can be injected."""
    names = draw(st.lists(_names, min_size=1, max_size=4, unique=True))
    made = [draw(_containers(name)) for name in names]
    cut = draw(st.integers(0, len(made) - 1))
    spec: Json = {}
    if cut or draw(st.booleans()):
        spec["initContainers"] = [
            {key: value for key, value in one.items() if "Probe" not in key and key != "lifecycle"}
            for one in made[:cut]
        ]
    spec["containers"] = made[cut:]
    if draw(st.booleans()):
        spec["volumes"] = [
            {"name": f"{name}-data", "emptyDir": {}} for name in draw(st.lists(_names, max_size=2, unique=True))
        ]
    if draw(st.booleans()):
        spec["securityContext"] = {"fsGroup": draw(st.integers(1, 5000))}
    spec |= draw(st.fixed_dictionaries({}, optional={"terminationGracePeriodSeconds": st.integers(0, 600)}))
    metadata = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(_names, _names, max_size=2),
                "annotations": st.dictionaries(_names.map(lambda name: f"example.com/{name}"), _words, max_size=2),
            },
        )
    )
    return {"metadata": metadata, "spec": spec} if metadata or draw(st.booleans()) else {"spec": spec}


@st.composite
def all_settings(draw: st.DrawFn) -> Settings:
    """Settings that a Pod of `pods` can be injected with."""
    texts = {"identity": draw(st.sampled_from(["csi-driver-spiffe", "spiffe-csi", "secret/svid"]))}
    texts["mode"] = draw(st.sampled_from(["STRICT", "PERMISSIVE"]))
    texts["intercept"] = draw(st.sampled_from(["true", "false"]))
    texts["classic"] = draw(st.sampled_from(["true", "false"]))
    texts["ports"] = draw(st.sampled_from(["8080", "8080,9000-9003", "1-20"]))
    if texts["intercept"] == "true" and draw(st.booleans()):
        texts["routes"] = f"[{{to: 10.0.0.0/8, ports: [{draw(_ports)}], server_ids: ['{GOOD}']}}]"
        texts["exclude_outbound_ports"] = "5432,6000-6010"
    if draw(st.booleans()):
        texts["outbound"] = (
            f"[{{name: a, listen: '127.0.0.1:9', upstream: 'b:{draw(_ports)}', server_ids: ['{GOOD}']}}]"
        )
    if draw(st.booleans()):
        texts["rewrite_probes"] = draw(st.sampled_from(["true", "false"]))
    return settings(**texts)


@st.composite
def objects(draw: st.DrawFn) -> Json:
    """An object of Kubernetes that makes Pods."""
    kind = draw(st.sampled_from(["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]))
    one = draw(pods())
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": kind, **one, "metadata": {"name": "one", **one.get("metadata", {})}}
    template = {"metadata": {"labels": {"app": "one"}}, **one}
    spec: Json = {"selector": {"matchLabels": {"app": "one"}}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = "one"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "one"}, "spec": spec}
