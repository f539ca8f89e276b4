"""
From files on disk to a generation in force: whole or not at all.

    read the configuration -> read the identity stably -> check both as sets -> shake hands with itself -> publish

Whatever fails on the way leaves what was in force as it was, and is remembered as a Failure until a later attempt does
better: the log says it once, the metric counts it, `/certs` shows it with its age. A configuration that is broken does
not keep certificates from rotating: they are then reloaded under the configuration in force.

One attempt runs at a time, whoever asked for it (the file watch, SIGHUP, POST /reload, the retry after a failure).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from proxy.core.config import Config
from proxy.core.configchange import keep_fixed
from proxy.core.configfile import ConfigFaults
from proxy.core.configwarnings import warnings_of
from proxy.core.events import Observer, Reloaded, ReloadResult
from proxy.core.reasons import Reason, Rejected
from proxy.net.sockets import ListenFault
from proxy.ops.failures import CONFIGURATION, IDENTITY, Failures, mended
from proxy.tls.identityreader import read_identity
from proxy.tls.material import check_identity
from proxy.tls.store import Generation, build_generation
from proxy.tls.ticketkeys import new_secret


class Reloader:
    """
    Makes and publishes generations.

    read_config: the configuration as it is on disk; raises ConfigFaults
    apply:       puts a generation in force; raises ListenFault when its addresses cannot be had, having changed nothing
                 (what it returns is called when the log has said what was published)
    notice:      told of what cannot change in place and was kept, and of warnings, one sentence each
    number_from: generations count on from here: a worker that took a dead one's place goes on where its siblings are
    ticket_secret: as build_generation's; None draws one, which holds as long as this lives
    """

    def __init__(
        self,
        config: Config,
        *,
        read_config: Callable[[], Config],
        apply: Callable[[Generation], Awaitable[Callable[[], None]]],
        observer: Observer,
        clock: Callable[[], float],
        notice: Callable[[str], None],
        number_from: int = 0,
        ticket_secret: bytes | None = None,
    ) -> None:
        self.config = config
        self.generation: Generation | None = None
        self.published_at = 0.0
        self.failures = Failures(clock)
        self._read_config = read_config
        self._apply = apply
        self._observer = observer
        self._clock = clock
        self._notice = notice
        self._number_from = number_from
        self._ticket_secret = ticket_secret or new_secret()
        self._lock = asyncio.Lock()

    async def load_first(self) -> None:
        """
        Publish the first generation, from the configuration given.

        Raises: Rejected, ListenFault; the failure is remembered, and emitted when it is a new one
        """
        async with self._lock:
            try:
                await self._attempt(self.config)
            except Rejected as rejected:
                self._fail(IDENTITY, rejected, quiet=True)
                raise

    def reread_configuration(self) -> bool:
        """
        Before the first generation: take the configuration as it is on disk now, for the next `load_first`.

        Returns: whether it is another one
        """
        try:
            config, kept = keep_fixed(self._read_config(), self.config)
        except ConfigFaults as faults:
            self._fail(CONFIGURATION, Rejected(Reason.CONFIG_FAULT, str(faults)), quiet=True)
            return False
        self.failures.forget(CONFIGURATION)
        if config == self.config:
            return False
        self.config = config
        for sentence in kept:
            self._notice(sentence)
        self._emit(CONFIGURATION, ReloadResult.PUBLISHED, Reason.RELOADED, "read again before the first identity")
        return True

    async def reload(self, *, quiet: bool = False) -> Mapping[str, object]:
        """
        Look at everything again and publish what changed.

        quiet:   a retry: a failure for the same reason as before is not emitted again
        Returns: {"result": published | unchanged | failed, "generation": n, and the failures by what failed}
        """
        async with self._lock:
            changed = await self._reload_configuration(quiet)
            if not changed and not (changed := await self._reload_identity(quiet)) and not self.failures and not quiet:
                self._emit("identity and configuration", ReloadResult.UNCHANGED, Reason.RELOADED, "identical bytes")
        result = ReloadResult.FAILED if self.failures else ReloadResult.PUBLISHED if changed else ReloadResult.UNCHANGED
        return {"result": result, "generation": self._number, **self.failures.describe()}

    async def _reload_configuration(self, quiet: bool) -> bool:
        try:
            config, kept = keep_fixed(self._read_config(), self.config)
        except ConfigFaults as faults:
            self._fail(CONFIGURATION, Rejected(Reason.CONFIG_FAULT, str(faults)), quiet)
            return False
        for sentence in kept:
            self._notice(sentence)
        if config == self.config:
            if self.failures.forget(CONFIGURATION):
                self._notice(mended(CONFIGURATION))
            return False
        try:
            await self._attempt(config)
        except (Rejected, ListenFault) as error:
            rejected = error if isinstance(error, Rejected) else Rejected(Reason.CONFIG_FAULT, str(error))
            self._fail(CONFIGURATION, rejected, quiet)
            return False
        self.failures.forget(CONFIGURATION)
        return True

    async def _reload_identity(self, quiet: bool) -> bool:
        try:
            return await self._attempt(self.config)
        except Rejected as rejected:
            self._fail(IDENTITY, rejected, quiet)
        except ListenFault as fault:
            self._fail(IDENTITY, Rejected(Reason.CONFIG_FAULT, str(fault)), quiet)
        return False

    async def _attempt(self, config: Config) -> bool:
        """Publish if something differs from what is in force. Raises: Rejected, ListenFault."""
        files = await read_identity(config.identity, sleep=asyncio.sleep)
        before = self.generation
        same_identity = before is not None and files.digest == before.material.digest
        if before is not None and same_identity and config == before.config:
            if self.failures.forget(IDENTITY):
                self._notice(mended(IDENTITY))
            return False
        now = self._clock()
        material = before.material if before is not None and same_identity else check_identity(files, now)
        generation = build_generation(self._number + 1, config, material, self._clock, self._ticket_secret)
        say_what_follows = await self._apply(generation)
        self.generation, self.config, self.published_at = generation, config, now
        self.failures.forget(IDENTITY)  # a broken configuration stays broken when a certificate rotates
        if not same_identity:
            self._emit(IDENTITY, ReloadResult.PUBLISHED, Reason.RELOADED, _describe(generation))
            for warning in material.warnings:
                self._notice(warning)
        if before is None or config != before.config:
            for warning in warnings_of(config):
                self._notice(warning)
        if before is not None and config != before.config:
            self._emit(CONFIGURATION, ReloadResult.PUBLISHED, Reason.RELOADED, "the new configuration is in force")
        say_what_follows()
        return True

    @property
    def _number(self) -> int:
        return self.generation.number if self.generation is not None else self._number_from

    def _fail(self, what: str, rejected: Rejected, quiet: bool) -> None:
        if self.failures.remember(what, rejected) or not quiet:
            self._emit(what, ReloadResult.FAILED, rejected.reason, rejected.detail)

    def _emit(self, what: str, result: ReloadResult, reason: Reason, detail: str) -> None:
        self._observer.emit(Reloaded(what=what, result=result, reason=reason, detail=detail, generation=self._number))


def _describe(generation: Generation) -> str:
    identity = generation.material.identity
    domains = ", ".join(sorted(domain.name for domain in generation.material.bundles))
    return f"{identity.spiffe_id}, serial {identity.svid.serial}, bundles for {domains}"
