"""
A running `dev`: the sidecar and, where there is no --upstream, the sample app as children; the SVIDs renewed meanwhile.

The sidecar logs to this terminal itself. It is in a process group of its own, so that Ctrl-C reaches only this process,
which asks it once to drain; a second Ctrl-C is passed on as well and ends it at once. Where this process is killed, its
keeper (lab/keeper.py) asks, and leaves the state as it is. Renewal goes by the wall clock, looked at every few seconds:
a laptop that slept through half a life renews as soon as it wakes.
"""

import asyncio
import asyncio.subprocess
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

import yaml

from proxy.cli.childprocess import LoggedProcess, NotShown, is_ready
from proxy.cli.devstate import DevFault, DevState, Wanted
from proxy.cli.devwords import curl_lines, host_names
from proxy.cli.sampleapp import LISTENING, MODULE
from proxy.cli.terminal import Colour, paint
from proxy.core.clockwords import span
from proxy.core.config import Mode, TcpAddress, UnixAddress, UpstreamAddress
from proxy.core.configfile import ConfigFaults
from proxy.core.reasons import Rejected
from proxy.core.spiffe import IdPattern, SpiffeId
from proxy.lab.keeper import Keeper
from proxy.lab.ports import free_port, is_free
from proxy.ops.configsource import read_config_file
from proxy.ops.ownmodule import package_command, package_environment
from proxy.tls.identityfiles import write_atomically

START_PATIENCE_S = 30.0
DRAIN_S = 5  # a developer waits for it after Ctrl-C
_KILL_AFTER_S = DRAIN_S + 5.0
_LOOK_S = 2.0  # between two looks at the wall clock
_RETRY_S = 5.0  # after a renewal that failed (a full disk)
_UPSTREAM_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the developer asked for. may_move, admin_may_move: it may be another port where that one is taken."""

    upstream: UpstreamAddress | None
    listen: TcpAddress
    may_move: bool
    admin: TcpAddress
    admin_may_move: bool
    mode: Mode
    service_id: SpiffeId
    client_id: SpiffeId
    allow: tuple[IdPattern, ...]
    ttl_s: float


def choose_address(wanted: TcpAddress, *, may_move: bool, option: str) -> TcpAddress:
    """
    Where to listen: `wanted` (for port 0 a free port), or a free port on its host where it is taken and may move.

    option: that the developer can give it with, for the sentences
    Raises: DevFault
    """
    try:
        if wanted.port and is_free(wanted.host, wanted.port):
            return wanted
        if wanted.port and not may_move:
            raise DevFault(f"{wanted} is taken: stop what has it, or give another {option} HOST:PORT")
        moved = TcpAddress(wanted.host, free_port(wanted.host))
    except OSError as error:
        why = error.strerror or error
        raise DevFault(f"cannot listen on {wanted}: {why}; give an address of this machine with {option}") from None
    if wanted.port:
        _say(f"{wanted} is taken, so {moved} takes its place ({option} HOST:PORT chooses).")
    return moved


class DevServer:
    """One `dev`, from its start to its end."""

    def __init__(self, plan: Plan, state: DevState) -> None:
        self._plan = plan
        self._state = state
        self._listen = plan.listen
        self._admin = plan.admin
        self._wanted = Wanted(
            service_id=plan.service_id,
            client_id=plan.client_id,
            ttl_s=plan.ttl_s,
            dns_names=host_names(plan.listen),
        )
        self._due = datetime.now(UTC)
        self._signals = 0
        self._stirred: asyncio.Event

    def run(self) -> int:
        """Serve until a signal. Returns: the exit status. Raises: DevFault."""
        self._listen = choose_address(self._plan.listen, may_move=self._plan.may_move, option="--listen")
        self._admin = choose_address(self._plan.admin, may_move=self._plan.admin_may_move, option="--admin")
        self._renew()
        with contextlib.ExitStack() as stack:
            try:
                keeper = stack.enter_context(contextlib.closing(Keeper(None)))
            except OSError as error:
                raise DevFault(f"no process can be started here: {error.strerror}") from None
            upstream = self._plan.upstream or self._start_sample_app(stack)
            self._write_config(upstream)
            with asyncio.Runner() as runner:
                return runner.run(self._serve(upstream, keeper))

    def _renew(self) -> None:
        """Write new SVIDs. Raises: DevFault."""
        try:
            self._due, sentence = self._state.mint(self._wanted, datetime.now(UTC))
        except OSError as error:
            place = error.filename or self._state.folder
            raise DevFault(
                f"cannot write {place}: {error.strerror}; is the disk full, or the folder not yours?"
            ) from None
        except Rejected as rejected:  # such as a host name of --listen that X.509 cannot hold
            raise DevFault(f"cannot issue the SVIDs: {rejected.detail}") from None
        if sentence is not None:
            _say(sentence)

    def _start_sample_app(self, stack: contextlib.ExitStack) -> TcpAddress:
        try:
            app = LoggedProcess("the built-in service", package_command(MODULE), self._state.folder / "sample-app.log")
            stack.callback(app.kill)
            line = app.line(lambda line: line.get("event") == LISTENING, "where it listens", within_s=START_PATIENCE_S)
        except (OSError, NotShown) as error:
            raise DevFault(f"the built-in service does not start: {error}; give your own with --upstream") from None
        return TcpAddress("127.0.0.1", int(line["port"]))

    def _write_config(self, upstream: UpstreamAddress) -> None:
        """Write the configuration that the sidecar runs with. Raises: DevFault, also where it has faults."""
        plan, file = self._plan, self._state.config_file
        inbound: dict[str, object] = {
            "name": "dev",
            "listen": str(self._listen),
            "upstream": str(upstream),
            "mode": str(plan.mode),
        }
        if plan.mode is not Mode.DISABLE:
            inbound["allow"] = [str(pattern) for pattern in plan.allow]
        if plan.upstream is None:
            inbound["proxy_protocol"] = "v2-tls"  # how the built-in service learns who calls
        config = {
            "identity": {
                **self._state.identity,
                "bundles": {plan.service_id.trust_domain.name: self._state.bundle},
                "refresh_s": 1,
            },
            "inbound": [inbound],
            "timeouts": {"drain_s": DRAIN_S},
            "admin": {"listen": str(self._admin)},
            "log": {"format": "console"},
        }
        preface = (
            "# Written by `mtls-sidecar dev` at each start: copy it before you change it.\n"
            "# `mtls-sidecar run --config` takes it as it is; the certificates are renewed only while `dev` runs.\n\n"
        )
        try:
            write_atomically(file, (preface + yaml.safe_dump(config, sort_keys=False)).encode())
            read_config_file(str(file))
        except OSError as error:
            raise DevFault(f"cannot write {file}: {error.strerror}") from None
        except ConfigFaults as faults:
            raise DevFault(f"this cannot be configured:\n{faults}") from None

    async def _serve(self, upstream: UpstreamAddress, keeper: Keeper) -> int:
        self._stirred = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        sidecar = await asyncio.create_subprocess_exec(
            *package_command("proxy", "run", "--config", str(self._state.config_file)),
            stdin=asyncio.subprocess.DEVNULL,
            env=package_environment(),
            process_group=0,
        )
        keeper.note(sidecar.pid)
        status, lost = 1, None
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(self._note_end(sidecar))
            try:
                status = await self._attend(sidecar, upstream, ended)
            except OSError as error:
                lost = error  # who read our output has left; kept, since out of here it would come as a group
            finally:
                _kill(sidecar)
        if lost is not None:
            raise lost
        if self._signals:
            return status
        raise DevFault(f"the sidecar ended by itself, with status {status}; what it said is above")

    async def _attend(
        self, sidecar: asyncio.subprocess.Process, upstream: UpstreamAddress, ended: asyncio.Task[None]
    ) -> int:
        """Say how to try it, renew while it serves, and drain it. Returns: its exit status."""
        if await self._until_ready(sidecar):
            if self._plan.upstream is not None:
                await self._warn_if_silent(upstream)
            self._tell(upstream)
        while not self._signals and not ended.done():
            await self._wait_a_little()
            self._renew_when_due()
        return await self._end(sidecar)

    def _on_signal(self) -> None:
        self._signals += 1
        self._stirred.set()

    async def _note_end(self, sidecar: asyncio.subprocess.Process) -> None:
        await sidecar.wait()
        self._stirred.set()

    async def _wait_a_little(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LOOK_S, max(0.05, (self._due - datetime.now(UTC)).total_seconds()))):
                await self._stirred.wait()
        self._stirred.clear()

    async def _until_ready(self, sidecar: asyncio.subprocess.Process) -> bool:
        """Wait until the sidecar serves; False when it ended before that, or a signal came."""
        admin = (self._admin.host, self._admin.port)
        give_up_at = asyncio.get_running_loop().time() + START_PATIENCE_S
        while sidecar.returncode is None and not self._signals:
            if await asyncio.to_thread(is_ready, admin):
                return True
            if asyncio.get_running_loop().time() > give_up_at:
                _say(f"The sidecar is not ready after {START_PATIENCE_S:g} s, so it is ended.", stream=sys.stderr)
                _kill(sidecar)
                return False
            await asyncio.sleep(0.05)
        return False

    def _renew_when_due(self) -> None:
        now = datetime.now(UTC)
        if now < self._due or self._signals:
            return
        try:
            self._renew()
        except DevFault as fault:
            # The sidecar serves on with what it has, and says itself when that nears its end.
            _say(f"The SVIDs could not be renewed, and that is tried again: {fault}", stream=sys.stderr)
            self._due = datetime.fromtimestamp(now.timestamp() + _RETRY_S, UTC)

    async def _end(self, sidecar: asyncio.subprocess.Process) -> int:
        """Drain it, pass on further signals. Returns: its exit status."""
        asked = 0
        give_up_at = asyncio.get_running_loop().time() + _KILL_AFTER_S
        while sidecar.returncode is None:
            for _ in range(asked, self._signals):
                with contextlib.suppress(ProcessLookupError):
                    sidecar.terminate()
            asked = self._signals
            if asyncio.get_running_loop().time() > give_up_at:
                _kill(sidecar)
            await self._wait_a_little()
        return sidecar.returncode

    async def _warn_if_silent(self, upstream: UpstreamAddress) -> None:
        try:
            async with asyncio.timeout(_UPSTREAM_PATIENCE_S):
                if isinstance(upstream, UnixAddress):
                    _, writer = await asyncio.open_unix_connection(upstream.path)
                else:
                    _, writer = await asyncio.open_connection(upstream.host, upstream.port)
        except (OSError, TimeoutError) as error:
            # Not strerror, for which asyncio has words of its own ("Connect call failed (...)").
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no answer"
            _say(
                f"Warning: nothing listens on {upstream} yet ({why}). Callers get UPSTREAM_REFUSED until it does: "
                "start your service, or correct --upstream.",
                stream=sys.stderr,
            )
            return
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def _tell(self, upstream: UpstreamAddress) -> None:
        plan, state = self._plan, self._state
        service = "a built-in service that says who called" if plan.upstream is None else str(upstream)
        print(paint(f"mtls-sidecar dev: {plan.mode} on {self._listen} -> {service}", Colour.STRONG, sys.stdout))
        print(f"  identity       {plan.service_id}, SVIDs live {span(plan.ttl_s)} and are renewed at half of it")
        print(f"  state          {state.folder}: the CA stays there for the next start; it is private, and out of git")
        print(f"  configuration  {state.config_file}, for `mtls-sidecar run --config`")
        print(f"  admin          http://{self._admin}/")
        for one in curl_lines(
            listen=self._listen,
            mode=plan.mode,
            client_files=state.client_files,
            client_id=plan.client_id,
            allow=plan.allow,
        ):
            print(f"\n{one.says}:\n  {one.line}")
        print("\nCtrl-C drains and ends.", flush=True)


def _kill(sidecar: asyncio.subprocess.Process) -> None:
    if sidecar.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            sidecar.kill()


def _say(sentence: str, stream: TextIO | None = None) -> None:
    print(sentence, file=stream or sys.stdout, flush=True)
