"""The error for a submission that is refused, and how foreign text is shown."""

from __future__ import annotations

from typing import Any

from an8flower.ground.text import printable as printable

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
