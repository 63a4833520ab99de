"""Text from code of others, e.g. of an error, as one line that is safe to show and to store."""

from __future__ import annotations

import re
import unicodedata

LIMIT = 300  # characters of a reason; a board has one line for it


def one_line(text: str, limit: int = LIMIT) -> str:
    r"""Return a text as one line of at most `limit` characters.

    Runs of white space become one space. Control characters, lone surrogates and characters that change the
    direction of text are written as escapes, so that they cannot change what a terminal or a page shows.

    >>> one_line("out of\nideas \x1b[31m")
    'out of ideas \\x1b[31m'
    """
    start = text[: 16 * limit]  # the text may be huge
    line = "".join(map(_visible, " ".join(start.split())))
    return line if len(line) <= limit and len(start) == len(text) else f"{line[: limit - 3]}..."


def error_line(error: BaseException, limit: int = LIMIT) -> str:
    """Return type and text of an error as one line, also if its text cannot be made.

    >>> error_line(KeyError("a"))
    "KeyError: 'a'"
    """
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as inner:
        text = f"(its text cannot be shown: {type(inner).__name__})"
    return one_line(f"{name}: {text}" if text else name, limit)


def printable(text: str) -> str:
    r"""Return a text of any number of lines, with the signs that `one_line` escapes written as escapes too.

    >>> printable("a = 1\n\x1b[2J").splitlines()
    ['a = 1', '\\x1b[2J']
    """
    return re.sub(r"[^\n\t -~]", lambda sign: _visible(sign[0]), text)


def _visible(character: str) -> str:
    # Cc: control, Cf: format (direction, zero width), Cs: surrogate, Co/Cn: private and unassigned,
    # Zl and Zp: line and paragraph separators.
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
