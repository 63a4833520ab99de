"""One unit of work: some explainers on the test images of one trained model, measured together."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

import explainers as methods
from an8flower.dataset import Batch
from an8flower.ground.jobs import Tell
from an8flower.ground.memo import sharing
from benchmark import store
from benchmark.measuring.cost import cost
from benchmark.measuring.identity import identity_of
from benchmark.measuring.limits import Watch
from benchmark.measuring.model_and_images import BATCH, Subject
from benchmark.measuring.scores import by_view, mean
from benchmark.metrics import Case, iou_curve, metrics
from benchmark.metrics.iou import CURVE_THRESHOLDS, invalid
from benchmark.plan import Plan, Setup
from benchmark.store import Cell, Record
from benchmark.training.loader import Images
from explainers.base import CPU_PIECE_PX
from explainers.conformance.limits import kept_gib
from explainers.layers import find_layer

PACKAGES = ("an8flower", "numpy", "torch")


class CrowdedError(RuntimeError):
    """Several methods together keep more memory than one may: each has to be measured by itself."""


@dataclass(frozen=True)
class Unit:
    """Cells of one trained model that are measured together.

    Args:
        plan: with absolute paths.
        setup: which model, and on which fold.
        references: for each explainer, by its key, how `explainers.get` reads it in another process.
        facts: for each explainer what its record says, however it goes.
        metrics: for each metric the digest of its code.
        plants: whether some explainer needs the mask of the whole plant.
        deaths: how many processes ended while they measured just this.
    """

    plan: Plan
    setup: Setup
    references: Mapping[str, str]
    facts: Mapping[str, Record]
    metrics: Mapping[str, str]
    plants: bool = False
    deaths: int = 0

    def cell(self, explainer: str) -> Cell:
        """Where one of its measurements lies."""
        return self.plan.cell(self.setup, explainer)


@dataclass
class _Measured:
    """What has been seen of one cell so far."""

    explainer: methods.Explainer
    parts: list[pd.DataFrame] = field(default_factory=list)
    curve: Any = field(default_factory=lambda: np.zeros(len(CURVE_THRESHOLDS)))
    cost: Record | None = None
    timing: dict[str, float] = field(default_factory=lambda: {"fit_s": 0.0, "score_s": 0.0})


def measure(tell: Tell, unit: Unit) -> None:
    """Measure a unit's cells and write them to the store; those measured meanwhile by others are left.

    Tells how many more heatmaps are scored, and notes which method is called while it is.

    Raises:
        CrowdedError: if it must be measured in smaller units.
        OSError: if the disk is full, or the store cannot be written.
        ResultsError, DataFolderError: if data or weights are not those the unit was planned with.
    """
    waiting = [
        name
        for name, facts in unit.facts.items()
        if not store.found(unit.cell(name), facts["key"], dict(unit.metrics), tables=unit.plan.tables)
    ]
    if not waiting:
        return
    subject = Subject.of(unit.plan, unit.setup, plants=unit.plants)
    cells, failed = _opened(unit, subject, waiting)
    watch = Watch(unit.plan.limit_s, unit.plan.limit_gib, tell)
    _fit(cells, failed, subject, watch)
    begun = kept_gib()
    for part in subject.batches(subject.together()):
        _score(cells, failed, subject, part, watch, list(unit.metrics))
        tell(len(part.images) * len(cells))
        kept = kept_gib() - begun
        if unit.plan.limit_gib is not None and kept > unit.plan.limit_gib:
            if len(cells) > 1:
                raise CrowdedError("the methods of this unit keep too much memory together")
            failed.update({name: _kept_too_much(name, kept) for name in cells})
    _price(cells, failed, subject, watch)
    factors = subject.test.manifest.factors
    for name in waiting:
        facts = {**unit.facts[name], **_circumstances(subject)}
        if name in failed:
            store.write(unit.cell(name), {**facts, "layer": None, **failure(failed[name])}, None)
            if isinstance(failed[name], methods.ExplainerError):
                tell.retire()  # what a method that broke the rules has left behind is unknown
        else:
            table, summary = _summary(cells[name], unit, factors)
            layer = _layer(cells[name].explainer, subject)
            store.write(unit.cell(name), {**facts, "layer": layer, **summary}, table)


def _opened(
    unit: Unit, subject: Subject, waiting: Sequence[str]
) -> tuple[dict[str, _Measured], dict[str, Exception]]:
    """The methods of a unit; those that this process cannot find have failed."""
    cells: dict[str, _Measured] = {}
    failed: dict[str, Exception] = {}
    for name in waiting:
        try:
            explainer = methods.get(unit.references[name])
        except Exception as error:
            failed[name] = error
            continue
        if (
            identity_of(explainer, subject.trained.record, subject.device.type)
            != unit.facts[name]["identity"]
        ):
            raise store.ResultsError(
                f"{socket.gethostname()} has another version of {name}, of the data or of the weights than "
                "the run was planned with; use the same release and the same folders on every machine"
            )
        cells[name] = _Measured(explainer)
    return cells, failed


def _fit(
    cells: Mapping[str, _Measured], failed: dict[str, Exception], subject: Subject, watch: Watch
) -> None:
    for name, one in cells.items():
        loader = Images(subject.train, BATCH, masks=one.explainer.spec.needs_masks, device=subject.device)
        begun = time.perf_counter()
        try:
            with watch.around(one.explainer, calls=len(loader)):
                one.explainer.fit(subject.trained.model, loader)
        except Exception as error:
            failed[name] = error
        one.timing["fit_s"] = time.perf_counter() - begun


def _score(
    cells: Mapping[str, _Measured],
    failed: dict[str, Exception],
    subject: Subject,
    part: Batch,
    watch: Watch,
    names: Sequence[str],
) -> None:
    model = subject.trained.model
    with torch.no_grad():
        predicted = model(part.images).argmax(1)
    going = [one.explainer for name, one in cells.items() if name not in failed]
    heatmaps = methods.explain_many(
        going, model, part.images, predicted,
        masks=part.masks, object_masks=part.plants, failed=failed, around=watch.around,
    )  # fmt: skip
    about = subject.test.table.iloc[part.rows][["class", "view", "crop", "rotation"]].reset_index(drop=True)
    about["label"], about["predicted"] = part.labels.cpu().numpy(), predicted.cpu().numpy()
    truth = part.masks.cpu().numpy()
    for name, found in heatmaps.items():
        one, begun = cells[name], time.perf_counter()
        maps = found.cpu().numpy()
        scores = about.copy()
        scores["invalid"] = invalid(maps)
        case = Case(model, _again(one.explainer, part, watch), part.images, predicted, found)
        try:
            with sharing(maps, truth):
                for metric in names:
                    spec = metrics.get(metric)
                    localised = spec.kind == "localisation"
                    scores[metric] = spec.compute(maps, truth) if localised else spec.compute(case)
                one.curve += np.nansum(iou_curve(maps, truth), axis=0)
        except Exception as error:
            failed[name] = error
            continue
        one.parts.append(scores)
        one.timing["score_s"] += time.perf_counter() - begun


def _again(explainer: methods.Explainer, part: Batch, watch: Watch) -> Any:
    """The method as a metric asks it again, with the truth that it was handed and the same limits."""

    def explain(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with watch.around(explainer):
            return explainer(model, images, targets, masks=part.masks, object_masks=part.plants)

    return explain


def _price(
    cells: Mapping[str, _Measured], failed: dict[str, Exception], subject: Subject, watch: Watch
) -> None:
    """What each method takes when it is called alone, on one piece of a batch."""
    first = next(subject.batches(max(1, CPU_PIECE_PX // subject.test[0][0][0].numel())))
    with torch.no_grad():
        predicted = subject.trained.model(first.images).argmax(1)
    for name, one in cells.items():
        if name in failed:
            continue
        try:
            with watch.around(one.explainer, calls=5):
                price = cost(
                    one.explainer, subject.trained.model, first.images, predicted,
                    masks=first.masks, object_masks=first.plants,
                )  # fmt: skip
            one.cost = asdict(price)
        except Exception as error:
            failed[name] = error


def _summary(one: _Measured, unit: Unit, factors: pd.DataFrame) -> tuple[pd.DataFrame, Record]:
    table = pd.concat(one.parts, ignore_index=True)
    wrong = int(table["invalid"].sum())
    undefined = int(table["iou_auc"].isna().sum()) if "iou_auc" in table else 0
    reason = f"{wrong} of {len(table)} maps have NaN or inf and score 0"
    table.insert(0, "explainer", one.explainer.key)
    table.insert(1, "fold", unit.setup.fold)
    table.insert(2, "seed", unit.setup.seed)
    return table, {
        "status": "invalid" if wrong else "ok",
        "cause": "nan" if wrong else None,
        "reason": reason if wrong else None,
        "images": len(table),
        "invalid": wrong,
        "undefined": undefined,
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "scores": {name: mean(table[name]) for name in unit.metrics},
        "views": by_view(table, list(unit.metrics), factors),
        "curve": (one.curve / max(1, len(table) - undefined)).tolist(),
        "cost": one.cost,
        "timing": one.timing,
    }


def failure(error: Exception) -> Record:
    """What a record says of a cell that failed."""
    if isinstance(error, methods.ExplainerError):
        cause, said = error.check, str(error)
    else:
        cause, said = "raised", f"{type(error).__name__}: {error}"
    return {"status": "failed", "cause": cause, "reason": " ".join(said.split())}


def _kept_too_much(name: str, gib: float) -> methods.ExplainerError:
    return methods.ExplainerError(name, "memory", f"it keeps what it allocates, {gib:.1f} GiB by now")


def _circumstances(subject: Subject) -> Record:
    """When and where a cell was measured."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": {
            "device": str(subject.device),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version()} | {one: version(one) for one in PACKAGES},
    }


def _layer(explainer: methods.Explainer, subject: Subject) -> str | None:
    asked = explainer.parameters.get("layer")
    if not isinstance(asked, str):
        return None
    first = next(subject.batches(1)).images
    try:
        with torch.no_grad():
            return find_layer(subject.trained.model, first, asked).name
    except ValueError:
        return None  # the method's own error tells
