"""Matplotlib figures as inline SVG: text stays text, colours are those of the page."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

WIDTH_PX = 400  # at this width, text in a figure has the size it was drawn with
TEXT_PX = 11.5

# Colours of the figures; the page replaces them by CSS variables for its light and dark themes.
INK, MUTED, RULE, PAPER = "#000000", "#6f6f6f", "#dddddd", "#ffffff"
# Okabe and Ito 2008, distinguishable with any colour vision; their yellow is too pale for lines.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
METHOD, FLOOR, CEILING = SERIES[0], MUTED, SERIES[1]
FAINT = "#c4c4c4"  # all other methods
_VARIABLES = {
    INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--card)",
    FAINT: "var(--faint)", **{colour: f"var(--c{k})" for k, colour in enumerate(SERIES)},
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "an8flower",  # equal figures give equal bytes
    "text.parse_math": False,  # a name may contain a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": TEXT_PX,
    "axes.labelsize": TEXT_PX,
    "xtick.labelsize": TEXT_PX - 1,
    "ytick.labelsize": TEXT_PX - 1,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
}


def sized(height_px: float, width_px: float = WIDTH_PX) -> Figure:
    """Return an empty figure; one unit of its SVG is one pixel of the page."""
    return Figure(figsize=(width_px / 72, height_px / 72), layout="constrained")


def inline(draw: Callable[[], Figure], key: str, label: str, titles: Mapping[str, str]) -> Markup:
    """Draw a figure and return it as inline SVG.

    Args:
        draw: returns the figure; called with the page's style. An artist with a gid "row<k>" in `titles`
            belongs to row k of the board.
        key: prefix of the ids, so that several figures can be on one page.
        label: description for screen readers.
        titles: gid to the text of its tooltip.
    Returns:
        an <svg> element that is safe in HTML: its texts are escaped.
    """
    buffer = io.StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # Text stays text, and the browser has the signs that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = draw()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", buffer.getvalue()))
    _plain(root, key, titles)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(viewBox=box, role="img", **{"aria-label": label})
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=False))


def printable(text: Any) -> str:
    """Replace characters that XML does not allow, and shorten long texts."""
    kept = "".join(sign if sign.isprintable() else "�" for sign in str(text))
    return kept if len(kept) <= 60 else kept[:59] + "…"


def sentence(text: str) -> str:
    """Return a label of several words, with `printable` applied to each of them."""
    return " ".join(map(printable, text.split()))


def _plain(root: ET.Element, key: str, titles: Mapping[str, str]) -> None:
    """Change a Matplotlib SVG in place: no name spaces, prefixed ids, the page's colours, short numbers."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _name(child.tag) == "metadata":
                parent.remove(child)
    for element in root.iter():
        element.tag = _name(element.tag)
        attributes = {_name(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.text, element.tail = _trimmed(element.text), _trimmed(element.tail)
        for name, value in attributes.items():
            element.attrib[name] = _attribute(name, value, key)
        if attributes.get("id") in titles:
            _belongs(element, attributes["id"], titles[attributes["id"]])


def _belongs(element: ET.Element, gid: str, title: str) -> None:
    del element.attrib["id"]
    element.attrib.update({"class": "series", "data-row": gid.removeprefix("row")})
    tooltip = ET.Element("title")
    tooltip.text = title
    element.insert(0, tooltip)


def _attribute(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return value.replace("#", f"#{key}-")
    if name == "d" or name == "transform":
        return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    value = value.replace("url(#", f"url(#{key}-")
    if name == "style":
        value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
        value = re.sub(r"#[0-9a-f]{6}", lambda colour: _VARIABLES.get(colour[0], colour[0]), value)
    return value


def _trimmed(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _name(qualified: Any) -> str:
    return str(qualified).rpartition("}")[2]
