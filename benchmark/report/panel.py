"""A picture of the report, or the reason why it is not there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """A line of a panel's legend.

    Args:
        number: of the board's row; None if it stands for several.
        colour: a CSS colour.
        label: what it stands for.
        figure: its score, as text.
        dashed: whether its line is broken.
    """

    number: int | None
    colour: str
    label: str
    figure: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture with its words.

    Args:
        key: a short name of what it shows.
        title: as a heading.
        caption: how to read it.
        svg: the picture; empty if there is none.
        legend: what its lines are.
        missing: why there is no picture.
        wide: whether it takes more than a column.
    """

    key: str
    title: str
    caption: str
    svg: str = ""
    legend: tuple[Key, ...] = ()
    missing: str = ""
    wide: bool = False
