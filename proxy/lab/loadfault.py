"""What ends a measurement before there is a figure: a finding about the target or this machine, in a sentence."""

from proxy.core.reasons import Reason


class LoadFault(Exception):  # noqa: N818  # a finding about the target or this machine, not a bug
    """
    No figure can be had; str() is a sentence that says why, and what to do.

    reason: where the target, or what is presented to it, is the cause
    """

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.reason = reason
