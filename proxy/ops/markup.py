"""
HTML from plain values, escaped by type: text is escaped wherever it goes, and only what `tag` made is not.

What a page of the admin endpoint shows was often chosen by a stranger (a SPIFFE ID, a server name, a detail). Nobody
can forget to escape it: the one way from text to Markup is `tag`, which escapes, and which makes controls and direction
overrides visible as the log does.
"""

import html

from proxy.ops.printable import printable

_VOID = frozenset({"meta"})


class Markup(str):
    """Text that is HTML already; made by `tag` and `page` alone."""

    __slots__ = ()


def tag(name: str, /, *children: "str | Markup | None", **attributes: str | None) -> Markup:
    """
    One element. children: text, which is escaped, or Markup; None is left out. attributes: `class_` is `class`, None is
    left out, and underscores are hyphens.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{_escape(value)}"')
    if name in _VOID:
        return Markup(f"<{' '.join(words)}>")
    inner = "".join(child if isinstance(child, Markup) else _escape(child) for child in children if child is not None)
    return Markup(
        f"<{' '.join(words)}>{inner}</{name}>\n" if name in _BLOCKS else f"<{' '.join(words)}>{inner}</{name}>"
    )


def page(title: str, style: str, *children: Markup) -> str:
    """A whole document. style: CSS of ours, which is not escaped."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Markup(f"<style>{style}</style>"),
    ]
    body = tag("main", *children)
    return f'<!doctype html>\n<html lang="en">\n{"".join(head)}\n<body>\n{body}</body>\n</html>\n'


def _escape(text: str) -> str:
    return html.escape(printable(text))


_BLOCKS = frozenset({"h1", "h2", "p", "table", "thead", "tbody", "tr", "dl", "dd", "dt", "section", "main", "ul", "li"})
