"""How objects are shown in a console and in a notebook: short, and as tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

LENGTH = 60  # characters of one value


def brief(thing: Any) -> str:
    """Return a dataclass as text, with arrays and tables by their shape, and other values cut.

    A dataclass gets it by `__repr__ = brief`.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Pair:
    ...     name: str
    ...     values: list[int]
    ...     __repr__ = brief
    >>> Pair("a", list(range(1000)))
    Pair(name='a', values=[1000 items])
    """
    shown = (f"{one.name}={_short(getattr(thing, one.name))}" for one in fields(thing) if one.repr)
    return f"{type(thing).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and not callable(shape):
        kind = getattr(value, "dtype", type(value).__name__)
        return f"<{str(kind).removeprefix('torch.')} {tuple(shape)}>"
    text = repr(value)
    if len(text) <= LENGTH:
        return text
    if isinstance(value, list | tuple | set | frozenset | dict):
        left, right = {list: ("[", "]"), tuple: ("(", ")")}.get(type(value), ("{", "}"))
        return f"{left}{len(value)} items{right}"
    return f"{text[: LENGTH - 3]}..."


def html_table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table for a notebook; all texts are escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
