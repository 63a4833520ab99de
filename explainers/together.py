"""Run several explainers on the same images and share the passes they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from an8flower.ground.memo import Memory, sharing
from explainers.base import CPU_PIECE_PX, Explainer
from explainers.classifier import classifier
from explainers.examination import examine
from explainers.inputs import checked_images, checked_targets, checked_truths, pieces
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
    """Return the heatmaps of several explainers, computed with shared forward and backward passes.

    The heatmaps equal those of separate calls.

    Args:
        explainers: explainers or their names; those that learn must be fitted.
        model, images, targets, masks, object_masks: as for `Explainer.__call__`.
        failed: filled with the errors of explainers that raise, by name, and the others continue; without
            it the first error is raised.
        around: returns a context manager that encloses each call of an explainer, e.g. its limits.
    Returns:
        (N, H, W) float32 heatmaps by name, in the order of `explainers`.
    Raises:
        ExplainerError, ValueError: as `Explainer.__call__`.

    >>> import explainers
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    >>> images, targets = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    >>> list(explainers.explain_many(["grad_cam", "guided_grad_cam"], model, images, targets))
    ['grad_cam', 'guided_grad_cam']
    """
    chosen = [get(explainer) if isinstance(explainer, str) else explainer for explainer in explainers]
    maps: dict[str, list[torch.Tensor]] = {explainer.name: [] for explainer in chosen}
    model, images = classifier(model), checked_images(images)
    targets = checked_targets(targets, images, examine(model, images).classes)
    truths = checked_truths({"masks": masks, "object_masks": object_masks}, images)
    for piece, labels, more in pieces(images, targets, truths, CPU_PIECE_PX):
        memory = _fresh(model, piece, labels)
        for explainer in chosen:
            name = explainer.name
            if failed and name in failed:
                continue
            _, pixels, classes = memory.objects
            try:
                with around(explainer), sharing(memory=memory):
                    maps[name].append(explainer(model, pixels, classes, **more))
            except Exception as error:
                if failed is None:
                    raise
                failed[name] = error
                # The explainer may have overwritten shared tensors.
                memory = _fresh(model, piece, labels)
    return {name: torch.cat(parts) for name, parts in maps.items() if not failed or name not in failed}


def _fresh(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Memory:
    # Methods recognise shared inputs by object identity, so each piece is copied into one object.
    return Memory((model, images.clone(), targets.clone()))
