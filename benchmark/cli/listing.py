"""The command that lists what is registered."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from benchmark.cli.console import notes, out, say
from benchmark.cli.options import JSON

if TYPE_CHECKING:
    from explainers import ExplainerSpec


# Left out, so that a table fits into 80 columns; --json has them.
_NOT_ON_TERMINAL = ("parameters",)


class What(StrEnum):
    explainers = "explainers"
    variants = "variants"
    factors = "factors"
    models = "models"
    recipes = "recipes"
    metrics = "metrics"
    exports = "exports"


def list_names(
    what: Annotated[What, typer.Argument(metavar="WHAT", help="What to list.")], as_json: JSON = False
) -> None:
    """List registered explainers, models, variants, ...

    A list has what is built in and what installed plug-ins add.

    Example: an8flower list explainers
    """
    rows = _LISTS[what]()
    if as_json:
        say({what.value: rows}, True, "")
        return
    shown = [heading for heading in rows[0] if heading not in _NOT_ON_TERMINAL]
    table = Table(title=what.value, title_justify="left")
    for heading in shown:
        # Names are typed in commands, so they must not be cut.
        table.add_column(
            heading, min_width=max(len(row["name"]) for row in rows) if heading == "name" else None
        )
    for row in rows:
        table.add_row(*(str(row[heading]) for heading in shown))
    out.print(table)


def _explainers() -> list[dict[str, str]]:
    from explainers.names import available

    methods = available()
    for line in (*methods.missing, *methods.broken):
        notes.print(line, markup=False, soft_wrap=True)
    return [
        {
            "name": spec.name,
            "role": spec.role,
            "needs": _needs(spec),
            "parameters": ", ".join(f"{name}={value}" for name, value in spec.parameters.items()),
            "source": spec.source + (f" (by {spec.library})" if spec.library else ""),
        }
        for spec in methods.specs
    ]


def _needs(spec: ExplainerSpec) -> str:
    needs = {"fit": spec.needs_fit, "masks": spec.needs_masks, "patience": spec.costly}
    return ", ".join(need for need, yes in needs.items() if yes)


def _variants() -> list[dict[str, str]]:
    from an8flower.variants import variants

    specs = [variants.get(name) for name in variants.names()]
    return [
        {"name": s.name, "classes": ", ".join(c.name for c in s.classes), "source": s.source} for s in specs
    ]


def _factors() -> list[dict[str, str]]:
    from an8flower.drawing.factors import FACTORS

    return [
        {"name": f.name, "default": str(f.default), "takes": f.allowed, "meaning": f.meaning}
        for f in FACTORS.values()
    ]


def _models() -> list[dict[str, str]]:
    from benchmark.models import models

    specs = [models.get(name) for name in models.names()]
    return [{"name": s.name, "input": f"{s.size_px} x {s.size_px} px", "source": s.source} for s in specs]


def _recipes() -> list[dict[str, str]]:
    from benchmark.training.recipes import recipes

    rows = []
    for recipe in map(recipes.get, recipes.names()):
        pictures = "images and pictures made of their twins" if recipe.twins else "images"
        rows.append(
            {
                "name": recipe.name,
                "trained on": ", ".join([pictures, *recipe.factors]),
                "epochs": f"at most {recipe.epochs}",
                "source": recipe.source,
            }
        )
    return rows


def _metrics() -> list[dict[str, str]]:
    from benchmark.metrics import metrics

    specs = [metrics.get(name) for name in metrics.names()]
    return [
        {
            "name": s.name,
            "kind": s.kind,
            "range": f"{s.bounds[0]:g} to {s.bounds[1]:g}",
            "better": "higher" if s.higher_is_better else "lower",
            "source": s.source,
        }
        for s in specs
    ]


def _exports() -> list[dict[str, str]]:
    from an8flower.export import exports

    specs = [exports.get(name) for name in exports.names()]
    return [
        {"name": s.name, "extra": s.extra, "options": ", ".join(s.options), "source": s.source} for s in specs
    ]


_LISTS: dict[What, Callable[[], list[dict[str, str]]]] = {
    What.explainers: _explainers,
    What.variants: _variants,
    What.factors: _factors,
    What.models: _models,
    What.recipes: _recipes,
    What.metrics: _metrics,
    What.exports: _exports,
}
