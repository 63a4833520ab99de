"""The gate: does a method's heatmap move when a model cheats?

A model that uses a coloured patch, instead of the part, must be explained by the patch. A method whose
heatmap stays on the part shows the part whatever the model does, and its score on an honest model says
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from an8flower import An8Flower
from an8flower.dataset import Batch
from an8flower.ground.text import error_line, one_line
from benchmark.certificate.pictures import partner_rows, swap
from benchmark.gates.rows import Gate, GateRow
from benchmark.measuring.code_digest import code_digest
from benchmark.measuring.groups import sent
from benchmark.metrics import metrics
from benchmark.training.loader import TrainingBatches
from explainers import Explainer
from explainers.isolation import ForeignError, isolated

IMAGES = 300  # on which the models are asked, spread over the test images
BATCH = 50


@dataclass(frozen=True)
class Pair:
    """An honest model, one that cheats, and their images.

    Args:
        honest, cheating: classifiers in eval mode.
        test: images that show part and cheat, with the targets "plant" and "cheat".
        honest_training, cheating_training: the training images of the models, for methods that learn.
    """

    honest: nn.Module
    cheating: nn.Module
    test: An8Flower
    honest_training: An8Flower
    cheating_training: An8Flower


def opened(pair: Pair, *, images: int = IMAGES) -> tuple[Gate, NDArray[np.int64]]:
    """Ask two models how often they follow the cheat.

    Images on which the cheat is of another class are left out, and those into which the cheat of their
    partner would bring nothing new.

    Args:
        pair: the models and their images.
        images: largest number of images on which they are asked.
    Returns:
        a gate without methods, and the rows of the images to explain: those for which the cheating model
        follows the cheat and the honest one does not.
    Raises:
        ValueError: if there is no image to ask on.
    """
    test = pair.test
    partners = partner_rows(test)
    own, cheat = (test.table[name].to_numpy() for name in ("class", "cheat_class"))
    fit = np.flatnonzero((cheat == own) & (cheat[partners] != own))
    if not len(fit):
        raise ValueError(
            f"{test.manifest.folder} has no test image whose cheat is of its class while that of its partner "
            "is of another; draw it with a larger cheat_share"
        )
    asked = fit[np.unique(np.linspace(0, len(fit) - 1, min(images, len(fit))).round().astype(int))]
    honest, cheating = (
        _follows(model, test, asked, partners) for model in (pair.honest, pair.cheating)
    )  # fmt: skip
    rows = asked[cheating & ~honest]
    return Gate(len(asked), float(cheating.mean()), float(honest.mean()), len(rows), ()), rows


def measured(
    explainer: Explainer,
    pair: Pair,
    rows: NDArray[np.int64],
    *,
    limit_s: float | None = None,
    limit_gib: float | None = None,
) -> GateRow:
    """Explain both models on the same images.

    Args:
        explainer: the method; a foreign one runs in a process of its own.
        pair: the models and their images.
        rows: of the images to explain, as `opened` returns them.
        limit_s, limit_gib: of one call of a foreign method.
    """
    code = code_digest(explainer.spec.build)
    shares = []
    try:
        for model, training in (
            (pair.honest, pair.honest_training), (pair.cheating, pair.cheating_training)
        ):  # fmt: skip
            with _apart(explainer, limit_s, limit_gib) as method:
                shares.append(_share(method, model, pair.test, rows, training))
    except Exception as error:  # one faulty method must not end the others
        reason = one_line(str(error)) if isinstance(error, ForeignError) else error_line(error)
        return GateRow(explainer.name, float("nan"), float("nan"), code, reason)
    return GateRow(explainer.name, shares[0], shares[1], code)


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
    """Return the mean share of the cheat: its relevance per pixel, divided by that of cheat and part.

    Per pixel, because a pot has more pixels than petals: a map that is equal everywhere has the share 1/2.
    """
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
            np.asarray(mass(heatmaps, masks.numpy())) / masks.sum((1, 2)).clamp(min=1).numpy()
            for masks in (batch.cheat_masks, batch.masks)
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
