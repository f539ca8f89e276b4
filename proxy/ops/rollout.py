"""
A new configuration for several workers: whole or not at all.

The supervisor has read it, opened what it lacks, and now asks. One worker goes first: it reads the identity that the
configuration names and proves it, as a sidecar alone would, and what it refuses no other gets to see. If one of the
others refuses all the same (a file changed in between), those that had taken it get the old one back. So there are two
ends: all have the new one, or all have the old one and the fault is reported with the worker's number.

A worker that does not answer has no veto, or one that hangs could keep a narrower policy from all others. It is
reported, and given the configuration again until it confirms it.
"""

from collections.abc import Mapping, Sequence

from proxy.core.reasons import Reason, Rejected
from proxy.ops.configsource import Source
from proxy.ops.workerfleet import Fleet
from proxy.ops.workerhandle import Addresses, WorkerHandle, read_outcome
from proxy.ops.workerlink import Reload

RELOAD_S = 10.0  # reading files until they stand still takes 2 s at most


class Rollout:
    """
    Carries configurations to the workers of a fleet.

    confirmed: what a worker is known to have is its handle's `source`
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def publish(self, source: Source, sockets: Addresses, old: Source, old_sockets: Addresses) -> None:
        """
        Put a configuration in force in all workers.

        sockets: an open socket for each of its listeners; likewise for the old one, which comes back if one refuses
        Raises:  Rejected with the worker's number; all that answer then have the old one
        """
        handles = self._fleet.handles
        first = next((handle for handle in handles if handle.why_not_ready is None), handles[0] if handles else None)
        taken: list[WorkerHandle] = []
        for batch in ([first] if first else [], [handle for handle in handles if handle is not first]):
            refused: Rejected | None = None
            for handle, outcome in await self._give(source, sockets, batch):
                if outcome is None:
                    continue
                failure = outcome.get("configuration_failure")
                if isinstance(failure, Mapping):
                    refused = Rejected(Reason(failure["reason"]), f"worker {handle.number}: {failure['detail']}")
                else:
                    taken.append(handle)
            if refused is not None:
                await self.restore(old, old_sockets, taken)
                raise refused

    async def restore(self, old: Source, sockets: Addresses, of: Sequence[WorkerHandle] | None = None) -> None:
        """Give the old configuration back to those that took the new one (by default: all)."""
        await self._give(old, sockets, self._fleet.handles if of is None else of)

    def lagging(self, source: Source) -> list[WorkerHandle]:
        """Those that have not confirmed this configuration."""
        return [handle for handle in self._fleet.handles if handle.source is not source]

    async def catch_up(self, source: Source, sockets: Addresses) -> None:
        """Give it to those that lag: they did not answer before, or were started meanwhile with the old one."""
        if lagging := self.lagging(source):
            await self._give(source, sockets, lagging)

    async def _give(
        self, source: Source, sockets: Addresses, handles: Sequence[WorkerHandle]
    ) -> list[tuple[WorkerHandle, dict[str, object] | None]]:
        """Returns: for each its outcome, None where it does not answer."""
        if not handles:
            return []
        for handle in handles:
            handle.source = None
            handle.hand(sockets)
        outcomes: list[tuple[WorkerHandle, dict[str, object] | None]] = []
        for handle, answer in await self._fleet.ask_all(Reload(source), within_s=RELOAD_S, of=handles):
            outcome = read_outcome(answer) if isinstance(answer, bytes) else None
            if outcome is not None and "configuration_failure" not in outcome:
                handle.source = source
                self._fleet.learn_generation(outcome.get("generation"))
            outcomes.append((handle, outcome))
        return outcomes


async def reload_identity(fleet: Fleet) -> list[dict[str, object]]:
    """Let all look at the identity now. Returns: a row for each worker, with its outcome or why there is none."""
    rows: list[dict[str, object]] = []
    for handle, answer in await fleet.ask_all(Reload(), within_s=RELOAD_S):
        outcome = read_outcome(answer) if isinstance(answer, bytes) else {"result": "failed", "detail": answer}
        rows.append({"worker": handle.number, **outcome})
    return rows
