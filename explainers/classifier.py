"""A classifier made of any model or function: from images to scores (N, C), as one float32 tensor."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from explainers.errors import ModelError

# Names that libraries give to the class scores: Hugging Face, torchvision.
_SCORES = ("logits", "out")


class Classifier(nn.Module):
    """A model or function as a classifier; use it where the output of a model is not one tensor (N, C).

    Explainers do this by themselves where only one output can be meant.

    Args:
        model: a module, or a function from images (N, 3, H, W).
        output: name, or position from 0, of the output to explain; None for the only one of shape (N, C).

    >>> two = nn.ModuleDict({"colour": nn.Linear(12, 3), "shape": nn.Linear(12, 2)})
    >>> model = Classifier(lambda x: {name: head(x.flatten(1)) for name, head in two.items()}, output="shape")
    >>> model(torch.rand(5, 3, 2, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, model: Callable[..., Any], output: str | int | None = None) -> None:
        super().__init__()
        if not callable(model):
            raise ModelError(
                f"a model must be a module, or a function from images to scores (N, C); "
                f"got a {type(model).__name__}"
            )
        self.output = output
        if isinstance(model, nn.Module):
            self.model = model
        else:
            self.function = model
            self.parts = nn.ModuleList(_modules_of(model))
        self.training = any(part.training for part in self.children())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores (N, C) of images (N, 3, H, W)."""
        call = self.model if "model" in self._modules else self.function
        return scores_of(call(images), len(images), self.output)


def classifier(model: Any) -> nn.Module:
    """Return what is explained: a module whose layers can be seen, the model itself if possible.

    Functions and TorchScript are wrapped; of a compiled model the original is taken, which is the same
    network.
    """
    if hasattr(model, "_orig_mod") and isinstance(model, nn.Module):  # torch.compile
        return classifier(model._orig_mod)
    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule):
        return model
    return Classifier(model)


def scores_of(output: Any, n: int, wanted: str | int | None = None) -> torch.Tensor:
    """Return the class scores (N, C) float32 in the output of a model.

    Args:
        output: a tensor, or several by name or position.
        n: number of images.
        wanted: name or position of the output to take; None for the only one that can be meant.
    Raises:
        ModelError: if there is no such output, or none or several can be meant.
    """
    if isinstance(output, torch.Tensor) and wanted is None:
        scores = _as_scores(output, n)
        if scores is None:
            raise ModelError(_REFUSAL.format(found=_described(output), n=n) + _hint(output))
        return scores
    found = _by_name(output)
    if wanted is not None:
        if wanted not in found:
            known = ", ".join(map(repr, found)) or "none"
            raise ModelError(f"the model has no output {wanted!r}; its outputs are: {known}")
        scores = _as_scores(found[wanted], n)
        if scores is None:
            raise ModelError(f"output {wanted!r} must be scores ({n}, C); it is {_described(found[wanted])}")
        return scores
    fitting = {name: _as_scores(value, n) for name, value in found.items()}
    fitting = {name: scores for name, scores in fitting.items() if scores is not None}
    plainly = {name: scores for name, scores in fitting.items() if found[name].dim() == 2} or fitting
    named = [name for name in _SCORES if name in fitting]
    chosen = named[:1] or (list(plainly) if len(plainly) == 1 else [])
    if not chosen:
        parts = ", ".join(f"{name!r}: {_described(value)}" for name, value in found.items())
        example = next(iter(plainly), next(iter(found), "name"))
        what = f"a {type(output).__name__}" + (f" of {parts}" if parts else "")
        raise ModelError(
            _REFUSAL.format(found=what, n=n)
            + (f"; choose one: explainers.Classifier(model, output={example!r})" if found else "")
        )
    scores = fitting[chosen[0]]
    assert scores is not None
    return scores


_REFUSAL = "the model must return scores (N, C) as one tensor of a floating type; it returned {found} for {n} image(s)"  # fmt: skip # noqa: E501


def _as_scores(value: Any, n: int) -> torch.Tensor | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    if value.dim() > 2 and len(value) == n and value[0].numel() == value.shape[1]:
        value = value.flatten(1)  # (N, C, 1, 1), of a fully convolutional network
    elif value.dim() < 2 and value.numel() == n:
        value = value.reshape(n, 1)  # one score per image
    elif value.dim() == 1 and n == 1:
        value = value[None]  # a squeezed batch of one
    if value.dim() != 2 or len(value) != n or not value.shape[1]:
        return None
    scores: torch.Tensor = value.float()
    return scores


def _by_name(output: Any) -> dict[Any, Any]:
    if isinstance(output, torch.Tensor):
        return {0: output}
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, list | tuple):
        return dict(enumerate(output))
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {name: getattr(output, name) for name in _SCORES if hasattr(output, name)}


def _described(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    kind = "" if value.is_floating_point() else f" {value.dtype}"
    return f"{tuple(value.shape)}{kind}"


def _hint(output: torch.Tensor) -> str:
    if not output.is_floating_point():
        return "; return the scores, not the class"
    if output.dim() > 2:
        return "; average over the positions to explain a map of scores"
    return ""


def _modules_of(function: Callable[..., Any]) -> list[nn.Module]:
    """Return the modules that a function uses, as far as its names tell, so that they can be protected."""
    function = getattr(function, "func", function)  # a partial
    values = [getattr(function, "__self__", None)]
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function)
        values += [*names.nonlocals.values(), *names.globals.values()]
    return [value for value in values if isinstance(value, nn.Module)]
