"""A fold's images as the methods that learn want them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from an8flower import An8Flower


class Images:
    """Batches of images and labels, the same ones in the same order each time it is gone through.

    Args:
        data: a split of a dataset.
        batch: images at once.
        masks: give the masks as a third, to methods that need them.
        device: where the batches go.
    """

    def __init__(
        self, data: An8Flower, batch: int = 100, *, masks: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        self._data, self._batch, self._masks, self._device = data, batch, masks, device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for part in self._data.batches(self._batch):
            given = (part.images, part.labels, part.masks) if self._masks else (part.images, part.labels)
            yield tuple(one.to(self._device) for one in given)

    def __len__(self) -> int:
        return -(-len(self._data) // self._batch)

    @property
    def digest(self) -> str:
        """A name for its content: methods that learn the same from it can share what they learnt."""
        data = self._data
        content = [data.manifest.images_digest, str(data.size_px), str(data.twin), *data.table["image_path"]]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()
