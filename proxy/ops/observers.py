"""Who sees the facts of connections and reloads: one fact to each renderer that shows it."""

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
        self._handlers: dict[type, tuple[Callable[[Any], None], ...]] = {}
        for renderer in renderers:
            for kind, handler in renderer.handlers.items():
                self._handlers[kind] = (*self._handlers.get(kind, ()), handler)

    def emit(self, event: Event) -> None:
        """Hand it to each."""
        for handler in self._handlers.get(type(event), ()):
            handler(event)
