"""List the cells of a plan and which of them are already measured."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import explainers as methods
from an8flower import An8Flower
from an8flower.folds import in_split
from an8flower.ground.deprecated import renamed
from benchmark import store
from benchmark.device import device_of
from benchmark.measuring.identity import check_fit, identity_of, metric_digests
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.record import Record
from benchmark.setups import Setup
from benchmark.store import Cell
from benchmark.training.weights import load_model
from explainers import Explainer
from explainers.names import explainers_named

CellState = Literal["done", "failed", "changed", "new"]


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a plan.

    Args:
        setup: the trained model.
        cell: where its measurement is stored.
        explainer: with its parameters.
        record: what is known before it is measured; its status is "planned".
        images: number of images to explain.
        state: "done" or "failed" under exactly this key; "changed" if there is a record of another key.
    """

    setup: Setup
    cell: Cell
    explainer: Explainer
    record: Record
    images: int
    state: CellState


def planned_cells(plan: Plan) -> list[PlannedCell]:
    """Return every cell of a plan, in the order in which `measure_all` returns their records.

    Raises:
        as `cells_of`.
    """
    by_setup = {
        setup: cells_of(plan, setup, dataset) for setup, dataset in with_datasets(plan, plan.setups())
    }
    ordered: list[PlannedCell] = []
    for board in dict.fromkeys((setup.variant, setup.model_name, setup.seed) for setup in by_setup):
        of_board = [
            {planned.explainer.name: planned for planned in cells}
            for setup, cells in by_setup.items()
            if (setup.variant, setup.model_name, setup.seed) == board
        ]
        names = dict.fromkeys(name for by_name in of_board for name in by_name)
        ordered += [by_name[name] for name in names for by_name in of_board if name in by_name]
    return ordered


def with_datasets(plan: Plan, setups: Iterable[Setup]) -> Iterator[tuple[Setup, An8Flower]]:
    """Yield each setup with its whole dataset; setups with images of one size share it."""
    datasets: dict[tuple[Path, str, int], An8Flower] = {}
    for setup in setups:
        root, size_px = plan.data_root(setup.recipe), models.get(setup.model).size_px
        shared = root, setup.variant, size_px
        if shared not in datasets:
            datasets[shared] = An8Flower(root, setup.variant, size_px=size_px)
        yield setup, datasets[shared]


def cells_of(plan: Plan, setup: Setup, dataset: An8Flower) -> list[PlannedCell]:
    """Return the cells of one trained model.

    Args:
        plan: what to measure.
        setup: which model.
        dataset: all images of the variant, at the size that the model takes.
    Raises:
        DataFolderError: if the data are missing.
        WeightsError: if the model is not trained yet.
        ResultsError: if the weights were trained on other data or folds.
    """
    trained = load_model(plan.weights_path(setup), of=setup)
    check_fit(trained.record, dataset.manifest, plan, setup.fold)
    images = int(in_split(dataset.table["view"], setup.fold, "test", plan.scheme).sum())
    names = plan.explainers or default_explainers()
    digests = metric_digests(plan.metric_names())
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    device = device_of(plan.device).type
    planned: dict[str, PlannedCell] = {}
    for explainer in explainers_named(names, trained.model, next(dataset.batches(1)).images):
        identity = identity_of(explainer, trained.record, device)
        spec = explainer.spec
        record = Record(
            variant=setup.variant,
            model=setup.model,
            recipe=setup.recipe,
            seed=setup.seed,
            fold=setup.fold,
            explainer=explainer.name,
            key=store.key(identity),
            identity=identity,
            metrics=digests,
            role=spec.role,
            source=spec.source,
            library=spec.library,
            reduction=spec.reduction,
            resize=spec.resize,
            command=command,
        )
        cell = plan.cell(setup, explainer.name)
        state = _state(cell, record, tables=plan.tables)
        planned[explainer.name] = PlannedCell(setup, cell, explainer, record, images, state)
    return list(planned.values())


def default_explainers() -> list[str]:
    """Return all registered explainers except the costly ones."""
    return [name for name in methods.names() if not methods.registry.get(name).costly]


def _state(cell: Cell, planned: Record, *, tables: bool) -> CellState:
    known = store.lookup(cell, planned.key, planned.metrics, tables=tables)
    if known is not None:
        return "failed" if known.status == "failed" else "done"
    return "changed" if cell.record_path.exists() else "new"


__getattr__ = renamed(
    __name__,
    {
        "State": "CellState",
        "Wanted": "PlannedCell",
        "survey": "cells_of",
        "survey_all": "planned_cells",
        "with_data": "with_datasets",
    },
)
