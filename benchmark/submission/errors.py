"""The error for a submission that is refused, and how foreign text is shown."""

from __future__ import annotations

from typing import Any

SHOWN = 60  # characters of foreign text in a message


class SubmissionError(ValueError):
    """A submission that is refused; the message is one line: where, what is wrong, what would be right."""


def shown(value: Any) -> str:
    """Return foreign text or data as a message may show it: short, on one line, without control characters.

    >>> shown("a\\x1b[2J\\n"), shown("x" * 100)[-5:]
    ("'a\\\\x1b[2J\\\\n'", "x...'")
    """
    if isinstance(value, str):
        return repr(value if len(value) <= SHOWN else value[:SHOWN] + "...")
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return "a huge number"
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


def printable(text: str) -> str:
    """Return text as a terminal may show it: other than line breaks and tabs, control characters are escaped.

    >>> printable("a = 1\\n\\x1b[2J").splitlines()
    ['a = 1', '\\\\x1b[2J']
    """
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode()
        for sign in text
    )
