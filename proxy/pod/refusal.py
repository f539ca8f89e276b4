"""
The one way in which injection says no: every reason at once, each a sentence that says what to do.
"""

from collections.abc import Iterable


class Refused(Exception):  # noqa: N818  # the operator's fault, as ConfigFaults are
    """A Pod cannot be given a sidecar. sentences: at least one; str() joins them."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(dict.fromkeys(sentences))
        super().__init__(" ".join(self.sentences))
