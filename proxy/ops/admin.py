"""
The operator's endpoint: what a path means, and what is asked of the running proxy for it.

`Operated` is the whole of what this file knows about the proxy. A single worker and a supervisor of several both are
one; what has to be fetched from workers is awaited. HTTP itself is ops/http.py's, JSON and text are
ops/representations.py's, and ops/origins.py keeps web pages out.

The admin endpoint trusts whoever reaches it, which is why it listens on loopback or a unix socket unless the
configuration says otherwise. The health endpoint is for the network (kubelet, Prometheus) and only reads: /live, /ready
and /metrics, and how the configured probes of the application go.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from proxy.core.appprobe import APP_HEALTH
from proxy.core.config import AdminConfig, HealthConfig, LogLevel, TcpAddress
from proxy.core.reasons import EXPLANATIONS
from proxy.ops.appprobes import AppProbes, pod_host
from proxy.ops.http import HttpLimits, HttpServer, Request, Response
from proxy.ops.log import Log
from proxy.ops.origins import foreign_host, foreign_origin
from proxy.ops.representations import HTML, TEXT, accepts_html, show
from proxy.ops.scrapes import Scrapes

_T = TypeVar("_T")


class Operated(Protocol):
    """A running proxy as an operator may ask it and steer it. Data is what msgspec can encode, never a secret."""

    def ready(self) -> tuple[bool, str]:
        """Whether it serves with a valid certificate now, and a sentence why or why not."""
        ...

    def log_level(self) -> LogLevel:
        """The level in force."""
        ...

    async def certs(self) -> Mapping[str, object]:
        """Our identity and the bundles in force, their generation, and why and since when a reload fails."""
        ...

    async def config(self) -> Mapping[str, object]:
        """The configuration in force, without secrets."""
        ...

    async def connections(self) -> Sequence[Mapping[str, object]]:
        """The open connections, one flat object each."""
        ...

    async def recent(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The latest `refusals` and `reloads`, the latest first."""
        ...

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """The metrics for a scraper: (content type, body)."""
        ...

    async def drain(self) -> None:
        """Begin to drain; returns when it has begun, not when it is over."""
        ...

    def quit(self) -> None:
        """Begin to drain, then exit 0; returns at once."""
        ...

    async def reload(self) -> Mapping[str, object]:
        """Reload identity and configuration; the outcome, with a `result` of published, unchanged or failed."""
        ...

    async def set_log_level(self, level: LogLevel) -> None:
        """Write the log from this level on, in every worker."""
        ...


class _Route(NamedTuple):
    """What one method does on one path; HEAD is answered as GET."""

    method: str
    path: str
    meaning: str
    answer: Callable[["_Endpoint", Request], Awaitable[Response]]


class _Endpoint:
    """One set of routes over one Operated, with its own idea of which Host is its own."""

    def __init__(
        self, operated: Operated, routes: "Sequence[_Route]", foreign: Callable[[Request], str | None], log: Log
    ) -> None:
        self._operated = operated
        self._log = log
        self._foreign = foreign
        self._scrapes = Scrapes(operated.metrics)
        self._routes: dict[str, dict[str, _Route]] = {}
        for route in routes:
            self._routes.setdefault(route.path, {})[route.method] = route

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        refusal = self._foreign(request)
        if refusal is not None:
            return Response.sentence(403, refusal)
        methods = self._routes.get(request.path)
        if methods is None:
            return Response.sentence(404, f"There is nothing at this path. There is: {' '.join(self._routes)}")
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = ", ".join("GET, HEAD" if method == "GET" else method for method in methods)
            return Response.sentence(405, f"Use {allowed} here.", ("Allow", allowed))
        return await route.answer(self, request)

    async def live(self, request: Request) -> Response:
        return show(_accept(request), {"live": True}, text="live\n")

    async def ready(self, request: Request) -> Response:
        ready, why = self._operated.ready()
        data = {"ready": ready, "detail": why}
        return show(_accept(request), data, text=f"{why}\n", status=200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        rendering = await self._scrapes.get(_accept(request))
        if rendering is None:
            return Response.sentence(503, "Too many ask for the metrics at the same time; try again shortly.")
        return Response(200, *rendering)

    async def certs(self, request: Request) -> Response:
        return show(_accept(request), await self._operated.certs())

    async def config(self, request: Request) -> Response:
        return show(_accept(request), await self._operated.config())

    async def connections(self, request: Request) -> Response:
        return show(_accept(request), await self._operated.connections())

    async def recent(self, request: Request) -> Response:
        return show(_accept(request), await self._operated.recent())

    async def reasons(self, request: Request) -> Response:
        rows = [
            {"reason": reason, "kind": word.kind, "meaning": word.sentence, "advice": word.advice}
            for reason, word in EXPLANATIONS.items()
        ]
        text = "".join(f"{row['reason']} ({row['kind']})\n  {row['meaning']}\n  {row['advice']}\n" for row in rows)
        return show(_accept(request), rows, text=text)

    async def index(self, request: Request) -> Response:
        routes = [route for methods in self._routes.values() for route in methods.values()]
        if accepts_html(_accept(request)):
            return await self._page([(route.method, route.path, route.meaning) for route in routes])
        lines = [f"{route.method:<5}{route.path:<14}{route.meaning}" for route in routes]
        return Response(200, TEXT, ("\n".join(["mtls-sidecar admin", "", *lines]) + "\n").encode())

    async def _page(self, routes: Sequence[tuple[str, str, str]]) -> Response:
        """The page for people. A part that cannot be had is named in it, and the rest is shown."""
        from proxy.ops.page import HEADERS, Facts, page_of  # for browsers alone: not in the memory of every sidecar

        operated, missing = self._operated, list[str]()

        async def get(name: str, part: Awaitable[_T]) -> _T | None:
            try:
                return await part
            except Exception as error:
                self._log.error("an admin request failed", fault=f"{type(error).__name__}: {error}")
                missing.append(f"{name} ({type(error).__name__})")
                return None

        metrics = await get("/metrics", operated.metrics(""))
        facts = Facts(
            ready=operated.ready(),
            certs=await get("/certs", operated.certs()),
            config=await get("/config", operated.config()),
            connections=await get("/connections", operated.connections()),
            recent=await get("/recent", operated.recent()),
            metrics=metrics[1].decode() if metrics is not None else "",
            missing=missing,
            routes=routes,
        )
        return Response(200, HTML, page_of(facts).encode("utf-8", "backslashreplace"), HEADERS)

    async def drain(self, request: Request) -> Response:
        await self._operated.drain()
        return show(_accept(request), {"draining": True}, text="draining\n")

    async def quit(self, request: Request) -> Response:
        self._operated.quit()
        return show(_accept(request), {"quitting": True}, text="draining, then exiting\n")

    async def reload(self, request: Request) -> Response:
        outcome = await self._operated.reload()
        # 409: what is on disk conflicts with what may be published, and what was in force stays.
        return show(_accept(request), outcome, status=409 if outcome.get("result") == "failed" else 200)

    async def log_level(self, request: Request) -> Response:
        try:
            level = LogLevel(request.body.decode("ascii").strip().lower())
        except ValueError:
            words = ", ".join(LogLevel)
            return Response.sentence(400, f"The body is one of the bare words {words}.")
        before = self._operated.log_level()
        # Said at the more talkative of the two, or who turns the log down would leave no trace in it.
        order = list(LogLevel)
        if order.index(before) <= order.index(level):
            self._note_log_level(before, level)
            await self._operated.set_log_level(level)
        else:
            await self._operated.set_log_level(level)
            self._note_log_level(before, level)
        return show(_accept(request), {"log_level": level, "before": before}, text=f"{level}\n")

    def _note_log_level(self, before: LogLevel, level: LogLevel) -> None:
        self._log.warning("notice", detail=f"log level {before} -> {level}, asked for at the admin endpoint")


_HEALTH_ROUTES = (
    _Route("GET", "/live", "200 while the process serves this page", _Endpoint.live),
    _Route("GET", "/ready", "200 while new connections are served, else 503 and why", _Endpoint.ready),
    _Route("GET", "/metrics", "Prometheus or OpenMetrics", _Endpoint.metrics),
)
_ADMIN_ROUTES = (
    *_HEALTH_ROUTES,
    _Route("GET", "/certs", "our identity and the trust bundles in force", _Endpoint.certs),
    _Route("GET", "/config", "the configuration in force", _Endpoint.config),
    _Route("GET", "/connections", "the open connections", _Endpoint.connections),
    _Route("GET", "/recent", "the latest refusals by reason and peer, and the latest reloads", _Endpoint.recent),
    _Route("GET", "/reasons", "every reason word, what it means and what to do", _Endpoint.reasons),
    _Route("GET", "/", "this list; in a browser a page for people", _Endpoint.index),
    _Route("POST", "/drain", "unready, then no new connections", _Endpoint.drain),
    _Route("POST", "/quitquitquit", "drain, then exit 0", _Endpoint.quit),
    _Route("POST", "/reload", "read identity and configuration anew", _Endpoint.reload),
    _Route("PUT", "/log-level", "debug, info, warning or error as the body", _Endpoint.log_level),
)


async def open_admin(config: AdminConfig, operated: Operated, log: Log, limits: HttpLimits | None = None) -> HttpServer:
    """
    Open the admin endpoint.

    Returns: the server; whoever opens it closes it
    Raises:  OSError where the address cannot be had
    """
    configured = config.listen.host if isinstance(config.listen, TcpAddress) else None

    def foreign(request: Request) -> str | None:
        host = request.headers.get("host")
        return foreign_host(host, configured) or foreign_origin(request.headers.get("origin"), host)

    server = HttpServer(_Endpoint(operated, _ADMIN_ROUTES, foreign, log).handle, _reporter(log), limits or HttpLimits())
    await server.open(config.listen)
    return server


async def open_health(
    config: HealthConfig,
    operated: Operated,
    log: Log,
    app_probes: Callable[[], AppProbes] = AppProbes,
    limits: HttpLimits | None = None,
) -> HttpServer:
    """
    Open the health endpoint: /live, /ready and /metrics, and the application's probes that are in force.

    Raises: OSError where the address cannot be had
    """

    def foreign(request: Request) -> str | None:
        return foreign_origin(request.headers.get("origin"), request.headers.get("host"))

    endpoint = _Endpoint(operated, _HEALTH_ROUTES, foreign, log)

    async def handle(request: Request) -> Response:
        probes, name = app_probes(), request.path.removeprefix(APP_HEALTH)
        probe = probes.get(name) if name != request.path and request.method in {"GET", "HEAD"} else None
        if probe is None or foreign(request) is not None:
            return await endpoint.handle(request)
        verdict = await probes.check(probe, pod_host(request.headers.get("host")))
        return Response.sentence(200 if verdict.healthy else 503, verdict.detail)

    server = HttpServer(handle, _reporter(log), limits or HttpLimits())
    await server.open(config.listen)
    return server


def _accept(request: Request) -> str:
    return request.headers.get("accept", "")


def _reporter(log: Log) -> Callable[[Exception], None]:
    return lambda error: log.error("an admin request failed", fault=f"{type(error).__name__}: {error}")
