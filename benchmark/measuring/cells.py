"""What a plan comes to: its cells, and which of them are measured already."""

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
from benchmark import store
from benchmark.device import device_of
from benchmark.measuring.identity import identity_of, metric_digests, must_fit
from benchmark.models import models
from benchmark.plan import Plan, Setup
from benchmark.store import Cell, Record
from benchmark.training.weights import load_model, weights_path
from explainers import Explainer
from explainers.names import every

State = Literal["done", "failed", "changed", "new"]


@dataclass(frozen=True)
class Wanted:
    """A cell of a plan.

    Args:
        setup: the trained model.
        cell: where its measurement lies.
        explainer: the method with its parameters.
        facts: what its record says, however it goes.
        images: how many it explains.
        state: it is "done", or "failed", under just this key; a record of another key makes it "changed".
    """

    setup: Setup
    cell: Cell
    explainer: Explainer
    facts: Record
    images: int
    state: State


def survey_all(plan: Plan) -> list[Wanted]:
    """Every cell of a plan: a row of the board after the other, as `measure_all` returns them.

    Raises:
        as `survey`.
    """
    found = {setup: survey(plan, setup, whole) for setup, whole in with_data(plan, plan.setups())}
    ordered: list[Wanted] = []
    for place in dict.fromkeys((setup.variant, setup.model, setup.seed) for setup in found):
        mine = [cells for setup, cells in found.items() if (setup.variant, setup.model, setup.seed) == place]
        keys = dict.fromkeys(one.explainer.key for cells in mine for one in cells)
        by_key = [{one.explainer.key: one for one in cells} for cells in mine]
        ordered += [cells[key] for key in keys for cells in by_key if key in cells]
    return ordered


def with_data(plan: Plan, setups: Iterable[Setup]) -> Iterator[tuple[Setup, An8Flower]]:
    """Each setup with its whole dataset, which those of a variant and model share."""
    read: dict[tuple[str, str], An8Flower] = {}
    for setup in setups:
        place = setup.variant, setup.model
        if place not in read:
            read[place] = An8Flower(plan.root, setup.variant, size_px=models.get(setup.model).size_px)
        yield setup, read[place]


def survey(plan: Plan, setup: Setup, whole: An8Flower) -> list[Wanted]:
    """The cells of one trained model, and what is known of each.

    Args:
        plan: what is wanted.
        setup: which model.
        whole: the variant's images at the model's size.
    Raises:
        DataFolderError: if the model was not trained yet, or its data is missing.
        ResultsError: if the weights were trained on other data or folds.
    """
    path = weights_path(plan.checkpoints, setup.variant, setup.model, setup.fold, setup.seed)
    trained = load_model(path)
    must_fit(trained.record, whole.manifest, plan, setup.fold)
    images = int(in_split(whole.table["view"], setup.fold, "test", plan.scheme).sum())
    names = plan.explainers or default_explainers()
    digests = metric_digests(plan.metric_names())
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    device = device_of(plan.device).type
    found: dict[str, Wanted] = {}
    for explainer in every(names, trained.model, next(whole.batches(1)).images):
        identity = identity_of(explainer, trained.record, device)
        cell = plan.cell(setup, explainer.key)
        spec = explainer.spec
        facts: Record = {
            "variant": setup.variant,
            "model": setup.model,
            "seed": setup.seed,
            "fold": setup.fold,
            "explainer": explainer.key,
            "key": store.key(identity),
            "identity": identity,
            "metrics": digests,
            "role": spec.role,
            "source": spec.source,
            "library": spec.library,
            "reduction": spec.reduction,
            "resize": spec.resize,
            "command": command,
        }
        state = _state(cell, facts["key"], digests, tables=plan.tables)
        found[explainer.key] = Wanted(setup, cell, explainer, facts, images, state)
    return list(found.values())


def default_explainers() -> list[str]:
    """All registered methods but those that are costly."""
    return [name for name in methods.names() if not methods.registry.get(name).costly]


def _state(cell: Cell, key: str, digests: dict[str, str], *, tables: bool) -> State:
    record = store.found(cell, key, digests, tables=tables)
    if record is not None:
        return "failed" if record["status"] == "failed" else "done"
    return "changed" if cell.record_path.exists() else "new"
