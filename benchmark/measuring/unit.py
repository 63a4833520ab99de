"""One unit of work: some explainers on the test images of one trained model, measured together.

Explainers that are not this project's own run in a process of their own; see `explainers.isolation`.
"""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

import explainers as methods
from an8flower.dataset import Batch
from an8flower.ground.jobs import Tell
from an8flower.ground.memo import sharing
from an8flower.manifest import DataFolderError
from benchmark import store
from benchmark.measuring.circumstances import circumstances
from benchmark.measuring.cost import Cost, cost_as_json
from benchmark.measuring.identity import identity_of
from benchmark.measuring.limits import Limits
from benchmark.measuring.model_and_images import BATCH, ModelAndImages
from benchmark.measuring.outcome import Collected, failure, summary_of, table_of
from benchmark.metrics import Case, iou_curve, metrics
from benchmark.metrics.iou import invalid
from benchmark.plan import Plan
from benchmark.record import Record
from benchmark.setups import Setup
from benchmark.store import Cell
from benchmark.training.loader import TrainingBatches
from explainers.base import CPU_PIECE_PX
from explainers.conformance.limits import kept_gib
from explainers.examination import prepared
from explainers.isolation import ProcessEndedError, RemoteMethod, isolated
from explainers.layers import find_layer


class CrowdedError(RuntimeError):
    """Several explainers together keep more memory than one may: each must be measured separately."""


@dataclass(frozen=True)
class Unit:
    """Cells of one trained model that are measured together.

    Args:
        plan: with absolute paths.
        setup: which model, and on which fold.
        references: for each explainer, by name, the name under which `explainers.get` finds it in another
            process; or its specification and parameters, pickled.
        planned: for each explainer its planned record.
        object_masks: whether some explainer needs the mask of the whole plant.
    """

    plan: Plan
    setup: Setup
    references: Mapping[str, str | bytes]
    planned: Mapping[str, Record]
    object_masks: bool = False

    def cell(self, explainer: str) -> Cell:
        """Return where one of its measurements is stored."""
        return self.plan.cell(self.setup, explainer)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return list(self.plan.metric_names())


def measure(tell: Tell, unit: Unit) -> None:
    """Measure the cells of a unit and write them to the store, except those that others have measured since.

    Reports how many more heatmaps are scored, and notes which explainer is running.

    Raises:
        CrowdedError: if it must be measured in smaller units.
        ProcessEndedError: if the process of an isolated explainer ends.
        OSError: if the disk is full, or the store cannot be written.
        ResultsError, DataFolderError, WeightsError: if data or weights are not those of the plan.
    """
    tables = unit.plan.tables
    waiting = [
        name
        for name, record in unit.planned.items()
        if not store.lookup(unit.cell(name), record.key, record.metrics, tables=tables)
    ]
    if not waiting:
        return
    loaded = ModelAndImages.load(unit.plan, unit.setup, object_masks=unit.object_masks)
    with ExitStack() as processes:
        _measure(tell, unit, loaded, waiting, processes)


def _measure(
    tell: Tell, unit: Unit, loaded: ModelAndImages, waiting: Sequence[str], processes: ExitStack
) -> None:
    cells, failed = _open(unit, loaded, waiting, processes)
    limits = Limits(unit.plan.limit_s, unit.plan.limit_gib, tell)
    _fit(cells, failed, loaded, limits)
    at_start = kept_gib()
    for batch in loaded.batches(loaded.batch_size()):
        _score(cells, failed, loaded, batch, limits, unit.metrics)
        tell(len(batch.images) * len(cells))
        kept = kept_gib() - at_start
        if unit.plan.limit_gib is not None and kept > unit.plan.limit_gib:
            if len(cells) > 1:
                raise CrowdedError("the explainers of this unit keep too much memory together")
            failed.update({name: _kept_too_much(name, kept) for name in cells})
    _measure_cost(cells, failed, loaded, limits)
    _raise_if_ended(failed)
    _check_data(cells, failed, loaded)
    factors = loaded.test.manifest.factors
    for name in waiting:
        record = replace(unit.planned[name], **circumstances(loaded.device))
        if name in failed:
            store.write(unit.cell(name), failure(record, failed[name]), None)
            if isinstance(failed[name], methods.ExplainerError):
                tell.retire()  # an explainer that broke the rules may have left anything in this process
        else:
            table = table_of(cells[name], unit.setup)
            layer = _layer(cells[name].explainer, loaded)
            summary = summary_of(table, cells[name], unit.metrics, factors, loaded.test.classes)
            store.write(unit.cell(name), replace(record, layer=layer, **summary), table)


def _raise_if_ended(failed: Mapping[str, Exception]) -> None:
    """Raise if a process has ended: it may have been stopped by the system, so the unit is tried again."""
    for error in failed.values():
        if isinstance(error, ProcessEndedError):
            raise error


def _check_data(cells: Mapping[str, Collected], failed: dict[str, Exception], loaded: ModelAndImages) -> None:
    """Check that the images and masks did not change on disk while the unit was measured.

    Raises:
        DataFolderError: if they did, and no foreign explainer of this unit may have done it.
    """
    altered = loaded.test.altered()
    if not altered:
        return
    text = f"{altered[0]} was altered while it was read"
    if not all(cell.explainer.spec.is_foreign for cell in cells.values()):
        raise DataFolderError(f"{text}; run the same command again")
    failed.update({name: methods.ExplainerError(name, "input", text) for name in cells})


def _open(
    unit: Unit, loaded: ModelAndImages, names: Sequence[str], processes: ExitStack
) -> tuple[dict[str, Collected], dict[str, Exception]]:
    """Return the explainers of a unit, and the errors of those that this process cannot find."""
    cells: dict[str, Collected] = {}
    failed: dict[str, Exception] = {}
    for name in names:
        try:
            reference = unit.references[name]
            explainer = methods.get(reference) if isinstance(reference, str) else _unpickled(reference)
        except Exception as error:
            failed[name] = error
            continue
        # An explainer that was sent is the planned one; its source may be in no file here.
        code = None if isinstance(reference, str) else unit.planned[name].identity["code_sha256"]
        identity = identity_of(explainer, loaded.trained.record, loaded.device.type, code=code)
        if identity != unit.planned[name].identity:
            raise store.ResultsError(
                f"{socket.gethostname()} has another version of {name}, of the data or of the weights than "
                "the run was planned with; use the same release and the same folders on every machine"
            )
        if explainer.spec.is_foreign:
            sent = reference if isinstance(reference, str) else None
            explainer = processes.enter_context(
                isolated(explainer, reference=sent, limit_s=unit.plan.limit_s, limit_gib=unit.plan.limit_gib)
            )
        cells[name] = Collected(explainer)
    return cells, failed


def _unpickled(sent: bytes) -> methods.Explainer:
    spec, parameters = pickle.loads(sent)  # from the process that planned the run
    return methods.Explainer.from_spec(spec, parameters)


def _fit(
    cells: Mapping[str, Collected], failed: dict[str, Exception], loaded: ModelAndImages, limits: Limits
) -> None:
    for name, cell in cells.items():
        explainer = cell.explainer
        batches = TrainingBatches(loaded.train, BATCH, masks=explainer.spec.needs_masks, device=loaded.device)
        start = time.perf_counter()
        try:
            with limits.around(explainer, calls=len(batches)):
                explainer.fit(loaded.trained.model, batches)
        except Exception as error:
            failed[name] = error
        cell.timing["fit_s"] = time.perf_counter() - start
    _raise_if_ended(failed)


def _score(
    cells: Mapping[str, Collected],
    failed: dict[str, Exception],
    loaded: ModelAndImages,
    batch: Batch,
    limits: Limits,
    names: Sequence[str],
) -> None:
    model = loaded.trained.model
    with torch.no_grad():
        predicted = model(batch.images).argmax(1)
    working = [cell.explainer for name, cell in cells.items() if name not in failed]
    heatmaps = methods.explain_many(
        working, model, batch.images, predicted,
        masks=batch.masks, object_masks=batch.object_masks, failed=failed, around=limits.around,
    )  # fmt: skip
    _raise_if_ended(failed)
    images = loaded.test.table.iloc[batch.rows][["class", "view", "crop", "rotation"]].reset_index(drop=True)
    images["label"], images["predicted"] = batch.labels.cpu().numpy(), predicted.cpu().numpy()
    truth = batch.masks.cpu().numpy()
    for name, maps_on_device in heatmaps.items():
        cell, start = cells[name], time.perf_counter()
        maps = maps_on_device.cpu().numpy()
        scores = images.copy()
        scores["invalid"], scores["zero"] = invalid(maps), ~maps.any(axis=(1, 2))
        explain = _explain_again(cell.explainer, batch, limits)
        case = Case(model, explain, batch.images, predicted, maps_on_device)
        try:
            with sharing(maps, truth):
                for metric in names:
                    spec = metrics.get(metric)
                    localised = spec.kind == "localisation"
                    scores[metric] = spec.compute(maps, truth) if localised else spec.compute(case)
                cell.curve += np.nansum(iou_curve(maps, truth), axis=0)
        except Exception as error:
            failed[name] = error
            continue
        cell.tables.append(scores)
        cell.timing["score_s"] += time.perf_counter() - start


def _explain_again(explainer: methods.Explainer, batch: Batch, limits: Limits) -> Any:
    """Return the explainer as a metric calls it again: with the same truth and the same limits."""

    def explain(model: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with limits.around(explainer):
            return explainer(model, images, targets, masks=batch.masks, object_masks=batch.object_masks)

    return explain


def _measure_cost(
    cells: Mapping[str, Collected], failed: dict[str, Exception], loaded: ModelAndImages, limits: Limits
) -> None:
    """Measure what each explainer takes when it is called alone, on one piece of a batch."""
    first = next(loaded.batches(max(1, CPU_PIECE_PX // loaded.test[0][0][0].numel())))
    with torch.no_grad():
        predicted = loaded.trained.model(first.images).argmax(1)
    for name, cell in cells.items():
        if name in failed:
            continue
        try:
            with limits.around(cell.explainer, calls=5):
                cell.cost = _cost_of(cell.explainer, loaded.trained.model, first, predicted)
        except Exception as error:
            failed[name] = error


def _cost_of(
    explainer: methods.Explainer, model: torch.nn.Module, batch: Batch, targets: torch.Tensor
) -> dict[str, float]:
    """Return the cost of an explainer, measured in the process in which it runs."""
    every = {"masks": batch.masks, "object_masks": batch.object_masks}
    truths = {name: every[name] for name in explainer.spec.truths}
    if not isinstance(explainer.method, RemoteMethod):
        return cost_as_json(explainer, model, batch.images, targets, **truths)
    measured = explainer.method.apply(cost_as_json, model, batch.images, targets, calls=5, **truths)
    return {field.name: float(measured[field.name]) for field in fields(Cost)}


def _kept_too_much(name: str, gib: float) -> methods.ExplainerError:
    return methods.ExplainerError(name, "memory", f"it keeps what it allocates, {gib:.1f} GiB by now")


def _layer(explainer: methods.Explainer, loaded: ModelAndImages) -> str | None:
    name = explainer.parameters.get("layer")
    if not isinstance(name, str):
        return None
    first = next(loaded.batches(1)).images
    try:
        with prepared(loaded.trained.model, first), torch.no_grad():
            return find_layer(loaded.trained.model, first, name).name
    except ValueError:
        return None  # the explainer itself raises the error
