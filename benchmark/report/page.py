"""Build the page: one HTML file that contains everything it shows and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from an8flower.ground import files
from an8flower.ground.text import printable
from benchmark.board.model_set import board_records
from benchmark.board.recipes import compared_with_plain
from benchmark.board.rows import boards_in, leaderboard
from benchmark.board.text import left_out
from benchmark.record import Record
from benchmark.report.class_panels import class_panel, recipe_panels
from benchmark.report.content import BoardContent, content_of
from benchmark.report.factor_panel import factor_panel
from benchmark.report.gallery import Gallery
from benchmark.report.heatmaps import gallery_of
from benchmark.report.layer_panel import layer_panel
from benchmark.report.order_panels import paper_panel, ranks_panel
from benchmark.report.panel import Panel
from benchmark.report.score_panels import cost_panel, curves_panel
from benchmark.setups import parse_model_name
from benchmark.store import ResultsError
from explainers.vebi.figures import HEATMAP_COLOURS

_STEPS = 16  # entries of the colour map; the browser interpolates between them


@dataclass(frozen=True)
class Shown:
    """One variant and model on the page: its content, figures and gallery."""

    content: BoardContent
    panels: tuple[Panel, ...]
    gallery: Gallery


@dataclass(frozen=True)
class Report:
    """The page that was written.

    Args:
        path: the page.
        boards: variants and models on the page.
        bytes: size of the page.
        notes: what is missing on the page, and why.
    """

    path: Path
    boards: tuple[tuple[str, str], ...]
    bytes: int
    notes: tuple[str, ...]


def write_report(
    results: str | Path,
    path: str | Path | None = None,
    *,
    variants: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    root: str | Path = "data",
    checkpoints: str | Path = "checkpoints",
    size: str | Path | None = None,
    gallery: bool = True,
) -> Report:
    """Write the page of a results folder.

    Args:
        results: folder with the records.
        path: the page; by default report.html in the results folder.
        variants, models, recipes: names of those to show; all by default.
        root, checkpoints: data and weights, for heatmaps that are not stored yet.
        size: results folder for plants of several sizes; `<results>/size` by default.
        gallery: whether to show heatmaps.
    Raises:
        ResultsError: if there are no records to show.
    """
    path = Path(path or Path(results) / "report.html")
    wanted = [
        (variant, model)
        for variant, model in sorted(boards_in(results), key=_place)
        if all(
            not chosen or name in chosen
            for chosen, name in zip(
                (variants, models, recipes), (variant, *parse_model_name(model)), strict=True
            )
        )
    ]
    if not wanted:
        named = " ".join([*(variants or ()), *(models or ()), *(recipes or ())])
        raise ResultsError(
            f"no records {f'of {named} ' if named else ''}in {results}; run 'an8flower evaluate' first"
        )
    shown, notes = [], []
    for k, (variant, model) in enumerate(wanted):
        try:
            board = leaderboard(results, variant, model)
        except ResultsError as error:  # an error in one board must not affect the others
            notes.append(f"{variant}, {model}: left out: {error}")
            continue
        records = board.source.records
        content = content_of(board, records, f"b{k}")
        where = Path(size or Path(results) / "size")
        panels = (
            curves_panel(board, records, content.key),
            cost_panel(board, content.key),
            layer_panel(board, content.key),
            factor_panel(_records(where, variant, model), content.key),
            paper_panel(board, content.key),
            ranks_panel(board, content.key),
            class_panel(board, content.key),
            *recipe_panels(board, compared_with_plain(board, results), content.key),
        )
        pictures = Gallery(note="Left out of this page (--no-gallery).")
        if gallery:
            pictures = gallery_of(results, variant, model, records, root=root, checkpoints=checkpoints)
        notes += [f"{variant}, {model}: {note}" for note in (*left_out(board), *_notes(panels, pictures))]
        shown.append(Shown(content, panels, pictures))
    if not shown:
        raise ResultsError("; ".join(notes))
    data = render(shown).encode()
    files.write(path, data)
    return Report(
        path, tuple((board.content.variant, board.content.model) for board in shown), len(data), tuple(notes)
    )


def render(shown: Sequence[Shown]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("benchmark.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = _own("page.js")
    environment.filters["breakable"] = breakable
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("page.html.j2").render(
        shown=shown,
        variants=list(dict.fromkeys(board.content.variant for board in shown)),
        models=list(dict.fromkeys(board.content.model for board in shown)),
        style=_own("page.css"),
        script=script,
        script_digest=digest,
        ramp=_ramp(),
        details={
            board.content.key: [_shown(asdict(detail)) for detail in board.content.details] for board in shown
        },
        version=version("an8flower"),
    )
    return printable(page)


def _shown(value: Any) -> Any:
    """Return data with texts that are safe to show."""
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _notes(panels: Sequence[Panel], gallery: Gallery) -> list[str]:
    """Return what is missing on the page, and why."""
    notes = [f"no figure '{panel.title}': {panel.missing}" for panel in panels if panel.missing]
    if gallery.note:
        notes.append(f"no heatmaps: {gallery.note}" + (f" ({gallery.cause})" if gallery.cause else ""))
    by_reason: dict[str, list[str]] = {}
    for name, why in gallery.left_out.items():
        by_reason.setdefault(why, []).append(name)
    return notes + [f"no heatmaps of {', '.join(names)}: {why}" for why, names in by_reason.items()]


def _place(board: tuple[str, str]) -> tuple[int, str, int, str, int, str]:
    """Sort key: the paper's variants, the default model and its certified recipe come first."""
    (variant, model), known = board, ("single-6c", "double-12c", "part-2c")
    first = known.index(variant) if variant in known else len(known)
    architecture, recipe = parse_model_name(model)
    return (first, variant, int(architecture != "an8net"), architecture, int(recipe != "certified"), recipe)


def breakable(name: str) -> Markup:
    """Return a name, escaped, in which a line may break after punctuation.

    >>> breakable("grad_cam@<b>")
    Markup('grad_<wbr>cam@<wbr>&lt;b&gt;')
    """
    return Markup("<wbr>").join(part for part in re.split(r"(?<=[_@:?&=./])", name) if part)


def _records(results: Path, variant: str, model: str) -> list[Record] | None:
    try:
        return board_records(results, variant, model).records
    except ResultsError:
        return None


def _own(name: str) -> Markup:
    """Read a file of this package, which needs no escaping."""
    return Markup(resources("benchmark.report").joinpath("templates", name).read_text("utf-8"))


def _ramp() -> dict[str, str]:
    """Return the colour map as the tables of an SVG filter, one per channel."""
    colours = colormaps[HEATMAP_COLOURS]([k / (_STEPS - 1) for k in range(_STEPS)])
    return {name: " ".join(f"{colour[c]:.3f}" for colour in colours) for c, name in enumerate("RGB")}
