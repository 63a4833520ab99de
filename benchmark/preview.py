"""Look up which parts of a plan are already done, without doing any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import pandas as pd

from an8flower.ground.shown import brief, html_table
from an8flower.protocol import VIEWPOINTS
from benchmark.certificate.certifying import known_certificate
from benchmark.measuring.cells import CellState, cells_of, default_explainers, with_datasets
from benchmark.plan import Plan
from benchmark.running import known_data, known_weights
from benchmark.setups import Setup
from benchmark.training.recipes import Recipe


@dataclass(frozen=True)
class Preview:
    """Which parts of a plan are already done.

    Args:
        drawn: for each variant, the number of views that are drawn, and of those that the plan asks for.
        trained: for each variant and model, the number of trained models (one per fold and seed), and of
            those that the plan asks for.
        certified: the same for certificates; empty if the plan does not ask for them.
        cells: one row per variant, model and explainer, with the number of cells in each
            `benchmark.measuring.cells.CellState`.
    """

    drawn: dict[str, tuple[int, int]]
    trained: dict[tuple[str, str], tuple[int, int]]
    certified: dict[tuple[str, str], tuple[int, int]]
    cells: pd.DataFrame

    __repr__ = brief

    def _repr_html_(self) -> str:
        stages = [
            (what, ", ".join(place) if isinstance(place, tuple) else place, f"{there} of {wanted}")
            for what, stage in zip(("drawn", "trained", "certified"), self.stages(), strict=True)
            for place, (there, wanted) in stage.items()
        ]
        cells = self.cells.to_numpy().tolist()
        return html_table(["stage", "of", "done"], stages) + html_table(list(self.cells), cells)

    def stages(self) -> tuple[Mapping[Any, tuple[int, int]], ...]:
        """Return what is done and what is asked for in the stages before measuring."""
        return self.drawn, self.trained, self.certified


def preview(plan: Plan, recipe: Recipe | None = None) -> Preview:
    """Look up what is done already of a plan, and change nothing.

    Args:
        plan: to look up.
        recipe: how all models are trained; by default each as its recipe says.
    """
    # Without twins: these are drawn for the certificate only, and change no model and no score.
    without_twins = replace(plan, certificate=False)
    data = {
        (variant, plan.data_root(recipe)): known_data(without_twins, variant, recipe)
        for variant, recipe in plan.datasets()
    }
    wanted = len(plan.viewpoints or range(VIEWPOINTS))
    drawn = {
        variant if root == plan.root else f"{variant} in {root}": (wanted if manifest else 0, wanted)
        for (variant, root), manifest in data.items()
    }
    ready = [
        setup
        for setup in plan.setups()
        if (manifest := data[setup.variant, plan.data_root(setup.recipe)])
        and known_weights(plan, setup, recipe, manifest)
    ]
    states: dict[tuple[str, str, str], Counter[str]] = {}
    measurable = {setup: cells_of(plan, setup, dataset) for setup, dataset in with_datasets(plan, ready)}
    for setup in plan.setups():
        if setup in measurable:
            known = [(planned.explainer.name, str(planned.state)) for planned in measurable[setup]]
        else:
            known = [(name, "new") for name in plan.explainers or default_explainers()]
        for name, state in known:
            states.setdefault((setup.variant, setup.model_name, name), Counter())[state] += 1
    rows = [
        {
            "variant": v,
            "model": m,
            "explainer": name,
            **{state: count[state] for state in get_args(CellState)},
        }
        for (v, m, name), count in states.items()
    ]
    certified = [
        setup
        for setup in (ready if plan.certificate else [])
        if known_certificate(plan, setup, data[setup.variant, plan.data_root(setup.recipe)])
    ]
    return Preview(
        drawn,
        _counted(plan, ready),
        _counted(plan, certified) if plan.certificate else {},
        pd.DataFrame(rows),
    )


def _counted(plan: Plan, done: list[Setup]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return for each variant and model how many of the plan's setups are done, and how many there are."""
    asked = Counter((setup.variant, setup.model_name) for setup in plan.setups())
    counts = Counter((setup.variant, setup.model_name) for setup in done)
    return {place: (counts[place], count) for place, count in asked.items()}
