"""Prepare a model for captum's methods that work with rules for modules, where captum itself does not."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule
from torch import nn


def separate_inputs(model: nn.Module, inside: ExitStack) -> None:
    """Give each ReLU its own copy of its input, until `inside` is closed.

    Captum replaces the gradient with respect to that input, including the gradients from all other
    operations that use it.
    """
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            inside.enter_context(module.register_forward_pre_hook(_copied_input))


def complete(model: nn.Module, images: torch.Tensor, inside: ExitStack) -> None:
    """Add rules for modules without weights that captum's LRP does not know, e.g. preprocessing, Flatten.

    Relevance passes unchanged if the module keeps the shape. Otherwise the epsilon rule applies, which
    passes relevance unchanged through a reshaping.

    Args:
        model: in eval mode; captum removes the rules.
        images: (N, 3, H, W); the first image is enough.
        inside: holds the hooks until it is closed.
    Raises:
        ValueError: for a module with weights.
    """
    known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
    others = [leaf for leaf in model.modules() if not list(leaf.children()) and type(leaf) not in known]
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
        # Captum cannot distinguish input and output of a module that returns its input itself.
        inside.enter_context(module.register_forward_hook(_copied_output))


def _copied_input(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (given[0].clone(), *given[1:])


def _copied_output(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.clone()
