"""Reference rows: floors, which do not use the model, and ceilings, which use the ground truth."""

from __future__ import annotations

import zlib
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from explainers.base import Loader, explainer
from explainers.layers import find_layer
from explainers.maps import upsampled

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@explainer(source="floor: chance", role="floor", class_agnostic=True)
def random(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """Draw uniform noise from the seed and the image, so that equal images get equal maps."""
    noise = [
        np.random.default_rng([seed, zlib.crc32(image.numpy().tobytes())]).random(image.shape[1:])
        for image in images.cpu().contiguous()
    ]
    return torch.from_numpy(np.stack(noise)).to(images)


@explainer(source="floor: photographers' habit", role="floor", class_agnostic=True)
def centre(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, sigma: float = 0.25
) -> torch.Tensor:
    """Return a Gaussian in the centre of the image; `sigma` is a fraction of the side."""
    height, width = images.shape[-2:]
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    bump = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))
    return bump.to(images).expand(len(images), -1, -1).clone()


@explainer(source="floor: Sobel and Feldman 1968", role="floor", class_agnostic=True)
def sobel(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the gradient magnitude of the image's luma, which is high at edges."""
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    edges = functional.conv2d(functional.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    return edges.square().sum(dim=1).sqrt()


@explainer(
    source="floor that cheats: the training masks alone", role="floor", needs_masks=True, class_agnostic=True
)
class train_mean_mask:  # noqa: N801 (the name in the registry is the name of the class)
    """The mean mask of the training images: the score of a guess that knows where the part usually is."""

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Average the masks, the third item of each batch.

        Raises:
            ValueError: if the batches have no masks.
        """
        total, count = torch.zeros(()), 0
        for batch in loader:
            if len(batch) < 3:
                raise ValueError(
                    "train_mean_mask learns from masks: the loader must yield images, labels, masks"
                )
            total = total + batch[2].sum(dim=0, dtype=torch.float64)
            count += len(batch[2])
        self._mean = total / count
        return self

    def __call__(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean mask (N, H, W), the same for every image."""
        return self._mean.to(images).expand(len(images), -1, -1).clone()


@explainer(source="ceiling: the whole object", role="ceiling", needs_masks=True, class_agnostic=True)
def plant_mask(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, object_masks: torch.Tensor
) -> torch.Tensor:
    """Return the mask of the whole plant: a perfect segmentation, without the discriminative part."""
    return object_masks.to(images)


@explainer(source="ceiling: the ground truth", role="ceiling", needs_masks=True)
def oracle(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, masks: torch.Tensor
) -> torch.Tensor:
    """Return the ground-truth mask."""
    return masks.to(images)


@explainer(
    source="ceiling: the ground truth at a CAM's resolution",
    role="ceiling",
    needs_masks=True,
    resize="bilinear, half-pixel centres",
)
def oracle_lowres(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    masks: torch.Tensor,
    layer: str = "last_conv",
) -> torch.Tensor:
    """Average the ground-truth mask over the cells of a layer's map and upsample: the best possible CAM.

    Args:
        model, images, targets, layer: as for `cam.grad_cam`.
        masks: (N, H, W) bool.
    Returns:
        (N, H, W) float32 in [0, 1].
    Raises:
        ValueError: if the layer has no map.
    """
    with torch.no_grad():
        shape = find_layer(model, images, layer).shape
    if len(shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    cells = functional.adaptive_avg_pool2d(masks.to(images)[:, None], shape[1:])
    return upsampled(cells[:, 0], images)
