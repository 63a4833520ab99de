"""Several methods on the same images, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from an8flower.ground.memo import Memory, sharing
from explainers.base import Explainer, pieces, plain
from explainers.names import get


def explain_many(
    explainers: Iterable[Explainer | str],
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    masks: torch.Tensor | None = None,
    object_masks: torch.Tensor | None = None,
    failed: dict[str, Exception] | None = None,
    around: Callable[[Explainer], AbstractContextManager[object]] = nullcontext,
) -> dict[str, torch.Tensor]:
    """The heatmaps of several methods: equal to theirs alone, with forward and backward passes shared.

    Args:
        explainers: methods or their names; those that learn must have been fitted.
        model, images, targets, masks, object_masks: as `Explainer.__call__` takes them.
        failed: takes the errors of methods that raise, by key, so that the others go on; without it the
            first one is raised.
        around: what each call of a method happens in, e.g. its limits.
    Returns:
        heatmaps (N, H, W) float32 by key, in the order given.
    Raises:
        ExplainerError, ValueError: as `Explainer.__call__`.

    >>> import explainers
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    >>> images, targets = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    >>> list(explainers.explain_many(["grad_cam", "guided_grad_cam"], model, images, targets))
    ['grad_cam', 'guided_grad_cam']
    """
    every = [get(one) if isinstance(one, str) else one for one in explainers]
    maps: dict[str, list[torch.Tensor]] = {one.key: [] for one in every}
    truths = {"masks": masks, "object_masks": object_masks}
    for piece, labels, more in pieces(plain(images), plain(targets), truths):
        memory = _fresh(model, piece, labels)
        for one in every:
            if failed and one.key in failed:
                continue
            _, pixels, classes = memory.objects
            try:
                with around(one), sharing(memory=memory):
                    maps[one.key].append(one(model, pixels, classes, **more))
            except Exception as error:
                if failed is None:
                    raise
                failed[one.key] = error
                # It may have written into what is shared.
                memory = _fresh(model, piece, labels)
    return {key: torch.cat(parts) for key, parts in maps.items() if not failed or key not in failed}


def _fresh(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Memory:
    # Copies, one object each, by which the methods know that they are given the same.
    return Memory((model, images.clone(), targets.clone()))
