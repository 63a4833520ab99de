"""What is measured: a trained model with its fold's images, on its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from an8flower import An8Flower
from an8flower.dataset import Batch
from an8flower.protocol import Split
from benchmark.device import batch_that_fits, bytes_an_image, device_of
from benchmark.measuring.identity import must_fit
from benchmark.models import models
from benchmark.plan import Plan, Setup
from benchmark.training.weights import Trained, load_model, weights_path

BATCH = 96  # images scored together; on a GPU more, if it holds them
GPU_BATCH = 1024


@dataclass(frozen=True)
class Subject:
    """A trained model and its fold's images.

    Args:
        trained: the model, on its device, and its record.
        train, test: the fold's images.
        device: where methods run.
    """

    trained: Trained
    train: An8Flower
    test: An8Flower
    device: torch.device

    @classmethod
    def of(cls, plan: Plan, setup: Setup, *, plants: bool) -> Subject:
        """Read it.

        Raises:
            DataFolderError: if data or weights are missing or damaged.
            ResultsError: if the weights were trained on other data or folds.
        """
        device = device_of(plan.device)
        path = weights_path(plan.checkpoints, setup.variant, setup.model, setup.fold, setup.seed)
        trained = load_model(path)

        def images(split: Split) -> An8Flower:
            return An8Flower(
                plan.root, setup.variant, fold=setup.fold, split=split, folds=plan.scheme,
                target=("label", "plant") if plants else ("label",), size_px=models.get(setup.model).size_px,
            )  # fmt: skip

        test = images("test")
        must_fit(trained.record, test.manifest, plan, setup.fold)
        train = images("train")
        trained.model.to(device)
        return cls(trained, train, test, device)

    def together(self) -> int:
        """How many images to explain at once, by the memory there is."""
        image = next(self.test.batches(1)).images.to(self.device)
        most = BATCH if self.device.type == "cpu" else GPU_BATCH
        return batch_that_fits(self.device, bytes_an_image(self.trained.model, image), most=most)

    def batches(self, size: int) -> Iterator[Batch]:
        """The test images, on the device."""
        return (_moved(part, self.device) for part in self.test.batches(size))


def _moved(part: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return part
    plants = None if part.plants is None else part.plants.to(device)
    return Batch(part.images.to(device), part.labels.to(device), part.masks.to(device), part.rows, plants)
