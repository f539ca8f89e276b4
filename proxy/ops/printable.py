"""
Text that a peer chose, made safe for a terminal.

A server name, a detail or a path may hold newlines (a forged log line), escape sequences (a forged screen) or
direction overrides (a name that reads as another). Everything that is not printable becomes its Python escape; what is
printable stays as it is, so that an ordinary value costs one look.
"""


def printable(text: str) -> str:
    """Give `text` as one line without controls: a newline becomes the two characters `\\` and `n`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
