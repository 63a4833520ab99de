"""Check images, targets and ground truth before they reach a method, and that the method left them alone."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch


def checked_images(images: torch.Tensor) -> torch.Tensor:
    """Return the images as a method receives them: the same object if possible.

    Raises:
        ValueError: if they are not (N, C, H, W) of a floating type, or not finite.
    """
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"images must be a tensor (N, 3, H, W); got a {type(images).__name__}")
    if images.is_nested or images.layout != torch.strided:
        raise ValueError(f"images must be (N, 3, H, W); got {_kind(images)} tensor: write torch.stack(list)")
    if images.dim() != 4:
        hint = "; one image is images[None]" if images.dim() == 3 else ""
        raise ValueError(f"images must be (N, 3, H, W); got {tuple(images.shape)}{hint}")
    if images.shape[3] == 3 and min(images.shape[1:3]) > 4:
        raise ValueError(
            f"images must be (N, 3, H, W); got {tuple(images.shape)}, which looks like (N, H, W, 3): write "
            "images.permute(0, 3, 1, 2)"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be float32 in [0, 1]; got {images.dtype}: write images.float() / 255")
    images = plain(images)
    if images.dtype != torch.float32:
        images = images.float()
    # A sum is several times faster than a look at each value.
    if not images.sum().isfinite() and not images.isfinite().all():
        first = int((~images.isfinite()).flatten(1).any(dim=1).nonzero()[0])
        raise ValueError(f"images must be finite; image {first} (from 0) has NaN or infinite values")
    return images


def checked_targets(
    targets: torch.Tensor | int, images: torch.Tensor, classes: int | None = None
) -> torch.Tensor:
    """Return the targets as (N,) int64; an integer stands for the same class in all images.

    Args:
        targets: (N,) integers on the device of the images, or one integer.
        images: (N, C, H, W).
        classes: number of classes; None if it is not known.
    Raises:
        ValueError: for anything else, or a class that the model does not have.
    """
    n, wanted = len(images), f"targets must be ({len(images)},) integers, one class per image, or one integer"
    if isinstance(targets, torch.Tensor) and (targets.is_nested or targets.layout != torch.strided):
        raise ValueError(f"{wanted}; got {_kind(targets)} tensor")
    if not isinstance(targets, torch.Tensor) or targets.dim() == 0:
        number = _integer(targets)
        if number is None:
            remedy = "; write torch.tensor(targets)" if hasattr(targets, "__len__") else ""
            raise ValueError(f"{wanted}; got {_described(targets)}{remedy}")
        targets = torch.full((n,), number, dtype=torch.int64, device=images.device)
    if targets.shape != (n,):
        raise ValueError(f"{wanted}; got shape {tuple(targets.shape)}")
    if targets.dtype == torch.bool or targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"{wanted}; got {targets.dtype}")
    if targets.device != images.device:
        raise ValueError(f"targets are on {targets.device}, but the images are on {images.device}")
    targets = plain(targets)
    if targets.dtype != torch.int64:
        targets = targets.long()
    if n and classes is not None:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"targets must be from 0 to {classes - 1}, the model has {classes} "
                f"class{'es' if classes > 1 else ''}; got {low if low < 0 else high}"
            )
    return targets


def checked_truths(
    truths: Mapping[str, torch.Tensor | None], images: torch.Tensor
) -> dict[str, torch.Tensor | None]:
    """Return the ground truth as a method receives it.

    Raises:
        ValueError: if it is not (N, H, W) bool on the device of the images.
    """
    expected, checked = (len(images), *images.shape[2:]), {}
    for name, truth in truths.items():
        checked[name] = truth
        if truth is None:
            continue
        if not isinstance(truth, torch.Tensor):
            raise ValueError(f"{name} must be a tensor {expected} of bool; got a {type(truth).__name__}")
        if tuple(truth.shape) != expected or truth.dtype != torch.bool or truth.device != images.device:
            raise ValueError(
                f"{name} must be {expected} bool on {images.device}; "
                f"got {tuple(truth.shape)} {truth.dtype} on {truth.device}"
            )
        checked[name] = plain(truth)
    return checked


def pieces(
    images: torch.Tensor, targets: torch.Tensor, truths: Mapping[str, torch.Tensor | None], piece_px: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor | None]]]:
    """Split a batch into pieces whose activations fit the caches of a CPU; on a GPU, yield it whole.

    Args:
        images, targets, truths: as `checked_images`, `checked_targets` and `checked_truths` return them.
        piece_px: most pixels of a piece on a CPU.
    Yields:
        images, targets and ground truth of each piece.
    """
    area = images.shape[-2] * images.shape[-1]
    size = max(1, piece_px // area) if images.device.type == "cpu" else len(images)
    if len(images) <= size:
        yield images, targets, dict(truths)
        return
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield (
            images[part],
            targets[part],
            {name: None if truth is None else truth[part] for name, truth in truths.items()},
        )


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without gradient graph, usable by autograd; the same object if possible."""
    # Autograd cannot use tensors created in inference mode, so those are copied. Other tensors are not
    # copied: methods that share passes recognise their inputs by object identity.
    if type(tensor) is not torch.Tensor:  # e.g. an image of torchvision, a parameter
        tensor = tensor.detach().as_subclass(torch.Tensor)
    if tensor.is_inference():
        with torch.inference_mode(False):
            return tensor.clone()
    return tensor.detach() if tensor.requires_grad else tensor


@contextmanager
def left_alone(inputs: Mapping[str, torch.Tensor | None]) -> Iterator[list[str]]:
    """Restore the inputs of a method after the block, however they were changed.

    Values are compared, since writing through NumPy or `.data` does not change the version of a tensor.

    Yields:
        a list that is filled at the end with the names of the inputs that were changed.
    """
    before = {name: (tensor, tensor.clone()) for name, tensor in inputs.items() if tensor is not None}
    changed: list[str] = []
    try:
        yield changed
    finally:
        with torch.inference_mode(False), torch.no_grad():
            for name, (tensor, copy) in before.items():
                if tensor.shape != copy.shape or not torch.equal(tensor, copy):
                    changed.append(name)
                    if tensor.shape != copy.shape:
                        tensor.data = copy
                        continue
                    # Each place in memory once: an expanded tensor cannot be written as a whole.
                    once = tuple(slice(0, 1) if step == 0 else slice(None) for step in tensor.stride())
                    tensor[once].copy_(copy[once])


def peeked(loader: Iterable[Any]) -> tuple[torch.Tensor, Iterable[Any]]:
    """Return the images of the first batch, and a loader that yields the same batches as before.

    Args:
        loader: batches of images and labels; it may be an iterator, which can be read once.
    Returns:
        images (n, C, H, W), n = 0 if there is no such batch; the loader.
    """
    batches = iter(loader)
    first = list(islice(batches, 1))
    images = first[0][0] if first and isinstance(first[0], list | tuple) and first[0] else None
    if not isinstance(images, torch.Tensor) or images.dim() != 4 or not images.is_floating_point():
        images = torch.empty(0)
    return images, _Peeked(loader, chain(first, batches))


class _Peeked:
    """A loader whose first batch was taken already: its first iteration goes on where that one stopped."""

    def __init__(self, loader: Iterable[Any], batches: Iterator[Any]) -> None:
        self._loader = loader
        self._batches: Iterator[Any] | None = batches

    def __iter__(self) -> Iterator[Any]:
        batches, self._batches = self._batches, None
        return batches if batches is not None else iter(self._loader)

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _integer(value: object) -> int | None:
    if isinstance(value, torch.Tensor):
        whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return int(value) if whole else None
    if isinstance(value, bool) or hasattr(value, "__len__"):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _kind(tensor: torch.Tensor) -> str:
    return "a nested" if tensor.is_nested else "a sparse"


def _described(value: object) -> str:
    kind = type(value).__name__
    return f"the {kind} {value}" if isinstance(value, float | bool | torch.Tensor) else f"a {kind}"
