"""Who sees the facts of connections and reloads: one fact to each renderer that shows it."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proxy.core.events import Event


class Renderer(Protocol):
    """What turns facts into something that is seen: a function for each type of fact that it shows."""

    @property
    def handlers(self) -> Mapping[type, Callable[[Any], None]]:
        """The functions by type."""
        ...


class Observers:
    """
    One fact to the renderers that show it.

    By type and not with isinstance: the facts have an ABC for a metaclass, whose "no" costs as much as a count.
    """

    def __init__(self, *renderers: Renderer) -> None:
        self._handlers: dict[type, Callable[[Any], None]] = defaultdict(lambda: _shown_by_none)
        for renderer in renderers:
            for kind, handler in renderer.handlers.items():
                before = self._handlers.get(kind)
                self._handlers[kind] = handler if before is None else _both(before, handler)

    def emit(self, event: Event) -> None:
        """Hand it to each."""
        self._handlers[type(event)](event)


def _shown_by_none(_event: Any) -> None:
    pass


def _both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    def each(event: Any) -> None:
        first(event)
        second(event)

    return each
