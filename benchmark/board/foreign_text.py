"""Texts of others in files that programs interpret: names and reasons must stay texts in Markdown and CSV."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from an8flower.ground.text import printable


def in_markdown(text: str) -> str:
    r"""Return a text as Markdown shows it unchanged, on one line: no HTML, links, pictures, code or cells.

    Other signs, such as the underscore, change at most the type.

    >>> in_markdown("<script> | [x](y) a_b")
    '&lt;script&gt; \\| \\[x\\](y) a_b'
    """
    text = re.sub(r"([\\`|\[\]])", r"\\\1", " ".join(printable(text).split()))
    text = re.sub(r"&(?=#|\w+;)", "&amp;", text)
    return text.replace("<", "&lt;").replace(">", "&gt;")


def as_code(text: str) -> str:
    """Return a text as code in Markdown; the fence is longer than any in the text.

    >>> as_code("grad_cam"), as_code("a`b")
    ('`grad_cam`', '``a`b``')
    """
    text = " ".join(printable(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def in_csv(value: Any) -> Any:
    """Return a value of a CSV cell; a text that a spreadsheet would compute gets an apostrophe in front.

    >>> in_csv("=1+1"), in_csv("vebi"), in_csv(-1.5)
    ("'=1+1", 'vebi', -1.5)
    """
    if not isinstance(value, str):
        return value
    text = " ".join(printable(value).split())
    # Some programs also compute what begins with a sign of full width.
    begins = unicodedata.normalize("NFKC", text[:1])
    return f"'{text}" if begins and begins in "=+-@" else text
