"""The gate: does a method's heatmap move when a model cheats?

A model that goes by a coloured patch, instead of the part, must be explained by the patch. A method whose
heatmap stays on the part shows the part whatever the model does, and its score on an honest model says
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from an8flower import An8Flower
from an8flower.dataset import Batch
from an8flower.ground.text import error_line, one_line
from benchmark.certificate.pictures import partner_rows, swap
from benchmark.gates.rows import Gate, GateRow
from benchmark.measuring.groups import sent
from benchmark.metrics import metrics
from benchmark.training.loader import TrainingBatches
from explainers import Explainer
from explainers.isolation import ForeignError, isolated

IMAGES = 300  # that are explained, spread over the test images
BATCH = 50


def gate(
    honest: nn.Module,
    cheating: nn.Module,
    test: An8Flower,
    learn: tuple[An8Flower, An8Flower],
    explainers: Sequence[Explainer],
    *,
    images: int = IMAGES,
    limit_s: float | None = None,
    limit_gib: float | None = None,
    done: Callable[[int], None] | None = None,
) -> Gate:
    """Explain an honest and a cheating model on the same images, which show part and cheat.

    Args:
        honest, cheating: classifiers in eval mode.
        test: the images, with the targets "plant" and "cheat". Images on which the cheat tells another class
            are left out, and those into which their partner's cheat would bring nothing new.
        learn: the training images of the two models, for methods that learn.
        explainers: the methods.
        images: largest number of images that are explained.
        limit_s, limit_gib: of one call of a foreign method, which runs in a process of its own.
        done: called after each method.
    """
    partners = partner_rows(test)
    own, told = (test.table[name].to_numpy() for name in ("class", "cheat_class"))
    tells = np.flatnonzero((told == own) & (told[partners] != own))
    rows = tells[np.unique(np.linspace(0, len(tells) - 1, min(images, len(tells))).round().astype(int))]
    follow = {
        name: _follows(model, test, rows, partners)
        for name, model in (("honest", honest), ("cheating", cheating))
    }
    shown = rows[follow["cheating"]]
    found = []
    for explainer in explainers:
        try:
            shares = []
            for model, its_rows, training in ((honest, rows, learn[0]), (cheating, shown, learn[1])):
                with _apart(explainer, limit_s, limit_gib) as method:
                    shares.append(_share(method, model, test, its_rows, training))
            found.append(GateRow(explainer.name, honest=shares[0], cheating=shares[1]))
        except Exception as error:  # one faulty method must not end the others
            reason = one_line(str(error)) if isinstance(error, ForeignError) else error_line(error)
            found.append(GateRow(explainer.name, float("nan"), float("nan"), reason))
        if done is not None:
            done(1)
    return Gate(len(rows), float(follow["cheating"].mean()), float(follow["honest"].mean()), tuple(found))


def _follows(
    model: nn.Module, test: An8Flower, rows: NDArray[np.int64], partners: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return for each image whether the answer becomes the class of the cheat of its partner."""
    answers = []
    for some in _pieces(rows):
        batch, donors = _batch(test, some), _batch(test, partners[some])
        assert batch.cheat_masks is not None and donors.cheat_masks is not None
        changed = swap(batch.images, batch.cheat_masks, donors.images, donors.cheat_masks)
        with torch.no_grad():
            predicted = model(changed).argmax(1).numpy()
        answers.append(predicted == test.table["cheat_class"].to_numpy()[partners[some]] - 1)
    return np.concatenate(answers)


@contextmanager
def _apart(explainer: Explainer, limit_s: float | None, limit_gib: float | None) -> Iterator[Explainer]:
    """Give a foreign method in a process of its own, so that it cannot change models, images or scores."""
    if explainer.spec.is_foreign:
        found = sent(explainer)
        reference = found if isinstance(found, str) else None
        with isolated(explainer, reference=reference, limit_s=limit_s, limit_gib=limit_gib) as remote:
            yield remote
    else:
        yield explainer


def _share(
    explainer: Explainer, model: nn.Module, test: An8Flower, rows: NDArray[np.int64], learn: An8Flower
) -> float:
    """Return the mean share of a method's relevance that is on the cheat."""
    explainer.fit(model, TrainingBatches(learn, masks=explainer.spec.needs_masks))
    mass = metrics.get("relevance_mass").compute
    shares = []
    for some in _pieces(rows):
        batch = _batch(test, some)
        with torch.no_grad():
            predicted = model(batch.images).argmax(1)
        truths = {"masks": batch.masks, "object_masks": batch.object_masks}
        known = {truth: truths[truth] for truth in explainer.spec.truths}
        heatmaps = explainer(model, batch.images, predicted, **known).numpy()
        assert batch.cheat_masks is not None
        on_cheat, on_part = (
            np.asarray(mass(heatmaps, masks.numpy())) for masks in (batch.cheat_masks, batch.masks)
        )
        both = on_cheat + on_part
        # A map without relevance on either says as much of one as of the other.
        shares.append(np.divide(on_cheat, both, out=np.full_like(both, 0.5), where=both > 0))
    return float(np.concatenate(shares).mean()) if shares else float("nan")


def _pieces(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _batch(data: An8Flower, rows: NDArray[np.int64]) -> Batch:
    """Return some images as one batch, in the order of `rows`."""
    chosen, order = np.unique(rows, return_inverse=True)
    batch = next(data.where(np.isin(np.arange(len(data)), chosen)).batches(len(chosen)))
    optional = (None if masks is None else masks[order] for masks in (batch.object_masks, batch.cheat_masks))
    return Batch(batch.images[order], batch.labels[order], batch.masks[order], rows, *optional)
