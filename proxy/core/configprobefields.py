"""
The table of one entry of `health.app_probes`; what its words mean is core/appprobe.py's.
"""

from proxy.core.appprobe import (
    MAX_PROBE_S,
    AppProbe,
    ProbeKind,
    parse_header,
    parse_probe_name,
    parse_request_target,
    parse_service,
)
from proxy.core.configkinds import ListKind, enum_kind, text_kind
from proxy.core.confignumbers import port_kind, seconds_kind
from proxy.core.configtables import Field, Table

APP_PROBE = Table(
    AppProbe,
    "One probe of the app behind, made over loopback whenever `GET /app-health/NAME` of the health endpoint asks: 200 "
    "where the app is healthy, else 503, each with a sentence and nothing of the app's answer.",
    (
        Field(
            name="name",
            kind=text_kind("CONTAINER/livez, /readyz, /startupz, /poststartz or /prestopz", parse_probe_name),
            meaning="The path below /app-health/; unique.",
        ),
        Field(
            name="kind",
            kind=enum_kind(ProbeKind),
            meaning="What is healthy. http: a status from 200 to 399; tcp: the port takes connections; grpc: the "
            "standard health service says SERVING.",
        ),
        Field(name="port", kind=port_kind(), meaning="The app's port, on 127.0.0.1 or ::1."),
        Field(
            name="path",
            kind=text_kind("the path of a request, e.g. /healthz", parse_request_target, pattern="^/"),
            meaning="http: what to GET. Redirects that stay on this port are followed, others are taken for success.",
        ),
        Field(
            name="headers",
            kind=ListKind(
                text_kind('a header, "Name: value"', parse_header, pattern=":"), "a list of headers", most=64
            ),
            meaning="http: headers to send. `Host` is otherwise what kubelet asked for, with the app's port.",
        ),
        Field(
            name="service",
            kind=text_kind("the name of a gRPC service", parse_service),
            meaning="grpc: which service to ask about; without it, the server as a whole.",
        ),
        Field(
            name="timeout_s",
            kind=seconds_kind(most=MAX_PROBE_S, zero="0: as long as the endpoint waits"),
            meaning="For everything that the probe does.",
        ),
    ),
)
