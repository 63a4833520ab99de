"""A figure of the report, or the reason why it is missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend.

    Args:
        number: row of the board; None if the entry is for several rows.
        colour: a CSS colour.
        label: text of the entry.
        figure: the score as text.
        dashed: whether the line is dashed.
    """

    number: int | None
    colour: str
    label: str
    figure: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One figure with its texts.

    Args:
        key: short name, used as a CSS class.
        title: heading.
        caption: how to read the figure.
        svg: the figure; empty if it is missing.
        legend: entries of the legend.
        missing: why the figure is missing.
        wide: whether the figure is wider than a column of the page.
    """

    key: str
    title: str
    caption: str
    svg: str = ""
    legend: tuple[Key, ...] = ()
    missing: str = ""
    wide: bool = False
