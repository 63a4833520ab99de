"""What of a plan is done already, without doing any of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import pandas as pd

from an8flower.protocol import VIEWPOINTS
from benchmark.certificate.certifying import known_certificate
from benchmark.measuring.cells import State, default_explainers, survey, with_data
from benchmark.plan import Plan, Setup
from benchmark.running import known_data, known_weights
from benchmark.training.recipes import Recipe


@dataclass(frozen=True)
class Preview:
    """What of a plan is done already.

    Args:
        drawn: for each variant how many of its views are there, and how many are wanted.
        trained: for each variant and model how many folds and seeds are trained, of how many.
        certified: how many of these have a certificate, of how many; empty if the plan asks for none.
        cells: a row a variant, model and explainer: how many cells are in each state of `harness.State`.
    """

    drawn: dict[str, tuple[int, int]]
    trained: dict[tuple[str, str], tuple[int, int]]
    certified: dict[tuple[str, str], tuple[int, int]]
    cells: pd.DataFrame

    def stages(self) -> tuple[Mapping[Any, tuple[int, int]], ...]:
        """What is there and what is wanted before cells are measured."""
        return self.drawn, self.trained, self.certified


def preview(plan: Plan, recipe: Recipe | None = None) -> Preview:
    """Look what there is, and do nothing."""
    recipe = recipe or Recipe()
    # Twins do not count here: they are drawn for the certificate, and change no model and no score.
    untwinned = replace(plan, certificate=False)
    data = {variant: known_data(untwinned, variant) for variant in plan.variants}
    wanted = len(plan.viewpoints or range(VIEWPOINTS))
    drawn = {variant: (wanted if there else 0, wanted) for variant, there in data.items()}
    ready = [
        setup
        for setup in plan.setups()
        if (there := data[setup.variant]) and known_weights(plan, setup, recipe, there)
    ]
    states: dict[tuple[str, str, str], Counter[str]] = {}
    surveyed = {setup: survey(plan, setup, whole) for setup, whole in with_data(plan, ready)}
    for setup in plan.setups():
        if setup in surveyed:
            known = [(one.explainer.key, str(one.state)) for one in surveyed[setup]]
        else:
            known = [(name, "new") for name in plan.explainers or default_explainers()]
        for name, state in known:
            states.setdefault((setup.variant, setup.model, name), Counter())[state] += 1
    rows = [
        {"variant": v, "model": m, "explainer": name, **{state: count[state] for state in get_args(State)}}
        for (v, m, name), count in states.items()
    ]
    certified = [
        setup
        for setup in (ready if plan.certificate else [])
        if known_certificate(plan, setup, data[setup.variant])
    ]
    return Preview(
        drawn,
        _counted(plan, ready),
        _counted(plan, certified) if plan.certificate else {},
        pd.DataFrame(rows),
    )


def _counted(plan: Plan, there: list[Setup]) -> dict[tuple[str, str], tuple[int, int]]:
    """For each variant and model how many of its models are among some, of how many."""
    every = Counter((setup.variant, setup.model) for setup in plan.setups())
    some = Counter((setup.variant, setup.model) for setup in there)
    return {place: (some[place], count) for place, count in every.items()}
