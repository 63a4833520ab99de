"""What captum's methods that work by rules for modules need of a model, beyond what captum does itself."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule
from torch import nn


def separate_inputs(model: nn.Module, inside: ExitStack) -> None:
    """Let nothing but the ReLU itself use its input, as long as `inside` is open.

    Captum replaces the gradient by that input, and with it what comes back from all its other users.
    """
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            inside.enter_context(module.register_forward_pre_hook(_copied_input))


def complete(model: nn.Module, images: torch.Tensor, inside: ExitStack) -> None:
    """Rules for modules without weights that captum's LRP has none for, e.g. preprocessing and Flatten.

    Relevance passes unchanged where the shape stays; else epsilon, which is the same for a reshaping.

    Args:
        model: in eval mode; captum removes the rules.
        images: (N, 3, H, W), the first one is enough.
        inside: holds hooks until it is closed.
    Raises:
        ValueError: for a module with weights.
    """
    known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
    others = [one for one in model.modules() if not list(one.children()) and type(one) not in known]
    keeps_shape: dict[nn.Module, bool] = {}

    def look(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        keeps_shape[module] = given[0].shape == output.shape

    with ExitStack() as hooks, torch.no_grad():
        for module in others:
            if next(module.parameters(), None) is not None:
                raise ValueError(f"captum's LRP has no rule for {type(module).__name__} modules")
            hooks.enter_context(module.register_forward_hook(look))
        model(images[:1].clone())
    for module in others:
        module.rule = IdentityRule() if keeps_shape.get(module, True) else EpsilonRule()
        # Captum cannot tell the output of a module that gives its input from that input.
        inside.enter_context(module.register_forward_hook(_copied_output))


def _copied_input(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (given[0].clone(), *given[1:])


def _copied_output(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.clone()
