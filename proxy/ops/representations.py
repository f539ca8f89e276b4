"""
How the admin endpoint shows values: JSON, or text for people where Accept asks for text/plain before JSON.

Values are what msgspec can write: dicts, lists, dataclasses, structs, enums, numbers, text. As text a list of objects
is a table and everything else is YAML. Peers' words (server names, details) are escaped in both, so that a page of the
endpoint cannot move the cursor of the terminal that shows it.
"""

from collections.abc import Mapping

import msgspec
import yaml
from tabulate import tabulate

from proxy.ops.http import Response
from proxy.ops.printable import printable, printable_json

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


def show(accept: str, data: object, *, text: str | None = None, status: int = 200) -> Response:
    """Answer with `data` as JSON, or as text (`text`, where it is given) if `accept` prefers that."""
    if prefers_text(accept):
        return Response(status, TEXT, (text if text is not None else as_text(data)).encode("utf-8", "backslashreplace"))
    return Response(status, JSON, msgspec.json.format(_as_json(data), indent=2) + b"\n")


def _as_json(data: object) -> bytes:
    try:
        return printable_json(msgspec.json.encode(data, enc_hook=str))
    except UnicodeEncodeError:
        # A lone surrogate (an odd byte in a path) is no JSON; an escape shows it as well.
        return msgspec.json.encode(_printable_inside(_plain(data)))


def prefers_text(accept: str) -> bool:
    """Whether the first choice of an Accept header, among what there is, is text/plain (RFC 9110 12.5.1)."""
    best, chosen = 0.0, False
    for part in accept.split(","):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = _quality(parameters)
        if quality > best and media_type in {"*/*", JSON, "application/*", "text/plain", "text/*"}:
            best, chosen = quality, media_type.startswith("text/")
    return chosen


def accepts_html(accept: str) -> bool:
    """Whether an Accept header names HTML, as only browsers do."""
    return any(part.partition(";")[0].strip().lower() == "text/html" for part in accept.split(","))


def as_text(data: object) -> str:
    """Write a value for a person."""
    plain = _printable_inside(_plain(data))
    if isinstance(plain, list) and all(isinstance(row, dict) for row in plain):
        return table(plain)
    text: str = yaml.safe_dump(plain, sort_keys=False, width=120)
    return text


def table(rows: list[dict[str, object]]) -> str:
    """Write objects as a table, one a line, an object inside flattened to `outer.inner`; "none" for no rows."""
    if not rows:
        return "none\n"
    flat = [_flatten(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    cells = [[row.get(name, "-") for name in columns] for row in flat]
    return tabulate(cells, headers=columns, tablefmt="plain", disable_numparse=True) + "\n"


def _flatten(row: Mapping[str, object]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": part for inner, part in _flatten(value).items()}
        else:
            flat[name] = "-" if value is None else printable(str(value))
    return flat


def _plain(data: object) -> object:
    plain: object = msgspec.to_builtins(data, str_keys=True, enc_hook=str)
    return plain


def _printable_inside(value: object) -> object:
    """Make every text in a plain value printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _printable_inside(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable_inside(inner) for inner in value]
    return value


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
