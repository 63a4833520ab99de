"""What is measured: a trained model and the images of its fold, on one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch

from an8flower import An8Flower
from an8flower.dataset import Batch
from an8flower.ground.deprecated import renamed
from an8flower.protocol import Split
from benchmark.device import batch_that_fits, bytes_an_image, device_of
from benchmark.measuring.identity import check_fit
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.setups import Setup
from benchmark.training.weights import Trained, load_model

BATCH = 96  # images scored together; more on a GPU, if its memory allows
GPU_BATCH = 1024


@dataclass(frozen=True)
class ModelAndImages:
    """A trained model and the images of its fold.

    Args:
        trained: the model, on its device, and its record.
        train, test: the images of the fold.
        device: where explainers run.
    """

    trained: Trained
    train: An8Flower
    test: An8Flower
    device: torch.device

    @classmethod
    def load(cls, plan: Plan, setup: Setup, *, object_masks: bool) -> Self:
        """Read the model and the images of a setup.

        Args:
            plan: where data and weights are.
            setup: which model.
            object_masks: whether batches have the masks of the whole plant.
        Raises:
            DataFolderError: if data are missing or damaged.
            WeightsError: if weights are missing or damaged.
            ResultsError: if the weights were trained on other data or folds.
        """
        device = device_of(plan.device)
        trained = load_model(plan.weights_path(setup), of=setup)

        def images(split: Split) -> An8Flower:
            return An8Flower(
                plan.data_root(setup.recipe), setup.variant, fold=setup.fold, split=split, scheme=plan.scheme,
                target=("label", "plant") if object_masks else ("label",),
                size_px=models.get(setup.model).size_px,
            )  # fmt: skip

        test = images("test")
        check_fit(trained.record, test.manifest, plan, setup.fold)
        train = images("train")
        trained.model.to(device)
        return cls(trained, train, test, device)

    def batch_size(self) -> int:
        """Return how many images to explain at once, from the memory that is free."""
        image = next(self.test.batches(1)).images.to(self.device)
        most = BATCH if self.device.type == "cpu" else GPU_BATCH
        return batch_that_fits(self.device, bytes_an_image(self.trained.model, image), most=most)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the test images, on the device."""
        return (_on(batch, self.device) for batch in self.test.batches(size))


def _on(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    object_masks, cheat_masks = (
        None if masks is None else masks.to(device) for masks in (batch.object_masks, batch.cheat_masks)
    )
    return Batch(
        batch.images.to(device), batch.labels.to(device), batch.masks.to(device), batch.rows, object_masks,
        cheat_masks,
    )  # fmt: skip


__getattr__ = renamed(__name__, {"Subject": "ModelAndImages"})
