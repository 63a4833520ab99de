"""The images of a fold in the form in which explainers learn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from an8flower import An8Flower
from an8flower.ground.deprecated import renamed


class TrainingBatches:
    """Batches of images and labels; each iteration yields the same ones in the same order.

    Args:
        data: a split of a dataset.
        batch: number of images per batch.
        masks: yield the masks as a third item, for explainers that need them.
        device: where the batches are put.
    """

    def __init__(
        self, data: An8Flower, batch: int = 100, *, masks: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        self._data, self._batch, self._masks, self._device = data, batch, masks, device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for batch in self._data.batches(self._batch):
            items = (batch.images, batch.labels, batch.masks) if self._masks else (batch.images, batch.labels)
            yield tuple(item.to(self._device) for item in items)

    def __len__(self) -> int:
        return -(-len(self._data) // self._batch)

    @property
    def digest(self) -> str:
        """A name for the content: explainers that learn the same from it can share what they learn."""
        data = self._data
        content = [data.manifest.images_digest, str(data.size_px), str(data.twin), *data.table["image_path"]]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()


__getattr__ = renamed(__name__, {"Images": "TrainingBatches"})
