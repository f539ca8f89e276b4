"""
What failed at the last attempt to reload, since when and why: remembered until a later attempt does better.
"""

from collections.abc import Callable

import msgspec

from proxy.core.clockwords import rfc3339
from proxy.core.reasons import EXPLANATIONS, Reason, Rejected

IDENTITY, CONFIGURATION = "identity", "configuration"


class Failure(msgspec.Struct, frozen=True):
    """Why the last attempt failed. since: epoch seconds of the first attempt that failed for this reason."""

    reason: Reason
    detail: str
    since: float


class Failures:
    """The failures that stand, by what failed: IDENTITY or CONFIGURATION."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._standing: dict[str, Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._standing)

    def get(self, what: str) -> Failure | None:
        """Why this failed; None when it did not."""
        return self._standing.get(what)

    def remember(self, what: str, rejected: Rejected) -> bool:
        """Note a failed attempt. Returns: whether this reason is a new one; its age starts then."""
        known = self._standing.get(what)
        is_new = known is None or known.reason is not rejected.reason
        since = self._clock() if known is None or is_new else known.since
        self._standing[what] = Failure(rejected.reason, rejected.detail, since)
        return is_new

    def forget(self, what: str) -> bool:
        """It went well. Returns: whether it had failed before."""
        return self._standing.pop(what, None) is not None

    def describe(self) -> dict[str, object]:
        """For the admin endpoint: `identity_failure` and `configuration_failure`, where there are any."""
        return {
            f"{what}_failure": {
                "reason": failure.reason,
                "detail": failure.detail,
                "advice": EXPLANATIONS[failure.reason].advice,
                "since": rfc3339(failure.since, milliseconds=True),
            }
            for what, failure in self._standing.items()
        }


def mended(what: str) -> str:
    """What the log says when the files are put back as they were: else the failure would be its last word."""
    return f"the {what} is good again, and the same as the one that stayed in force"
