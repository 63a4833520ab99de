"""Sort the cells of a plan into units of work, and prepare what these need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cloudpickle

from an8flower import An8Flower
from an8flower.ground.text import error_line
from benchmark import store
from benchmark.measuring.cells import PlannedCell
from benchmark.measuring.outcome import failure
from benchmark.measuring.unit import Unit
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.setups import Setup
from explainers import Explainer
from explainers.isolation import ForeignError
from explainers.names import reference_of
from explainers.scripts import file_of

UNIT = 6  # explainers per unit: enough to share their passes, few enough to spread over workers


def write_arrays(plan: Plan, to_do: Sequence[PlannedCell]) -> None:
    """Write the arrays that several workers are about to read, once."""
    sizes = {
        (
            plan.data_root(planned.setup.recipe),
            planned.setup.variant,
            models.get(planned.setup.model).size_px,
        )
        for planned in to_do
        if "object_masks" in planned.explainer.spec.truths
    }
    for root, variant, size_px in sorted(sizes):
        An8Flower(root, variant, size_px=size_px, target=("label", "plant"))


def units_of(plan: Plan, to_do: Sequence[PlannedCell]) -> Iterator[Unit]:
    """Yield the cells of each trained model in small groups, explainers of one family together.

    Explainers that are not this project's own are measured one by one.
    """
    by_setup: dict[Setup, list[PlannedCell]] = {}
    for planned in to_do:
        by_setup.setdefault(planned.setup, []).append(planned)
    for setup, cells in by_setup.items():
        foreign = [planned for planned in cells if planned.explainer.spec.is_foreign]
        ours = [planned for planned in cells if not planned.explainer.spec.is_foreign]
        ours.sort(key=lambda planned: _family(planned.explainer))
        count = -(-len(ours) // UNIT)
        groups = [ours[len(ours) * k // count : len(ours) * (k + 1) // count] for k in range(count)]
        for group in [*groups, *([planned] for planned in foreign)]:
            yield Unit(
                plan,
                setup,
                {planned.explainer.name: sent(planned.explainer) for planned in group},
                {planned.explainer.name: planned.record for planned in group},
                any("object_masks" in planned.explainer.spec.truths for planned in group),
            )


def sendable(to_do: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Return the cells whose explainer can be sent to another process; the others are written as failed."""
    kept = []
    for planned in to_do:
        try:
            sent(planned.explainer)
        except Exception as error:
            reason = ForeignError(f"it cannot be sent to a process of its own: {error_line(error)}")
            store.write(planned.cell, failure(planned.record, reason), None)
        else:
            kept.append(planned)
    return kept


def sent(explainer: Explainer) -> str | bytes:
    """Return what another process needs to find or make the explainer: its name, or its code."""
    spec = explainer.spec
    if not spec.is_foreign or spec.library or file_of(spec) is not None:
        return reference_of(explainer)
    return bytes(cloudpickle.dumps((spec, dict(explainer.parameters))))


def _family(explainer: Explainer) -> tuple[str, str]:
    build = explainer.spec.build
    return getattr(build, "func", build).__module__, explainer.spec.name
