"""Training that has not ended yet: its state after an epoch, on disk."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from an8flower.ground import files

SCHEMA_VERSION = "1"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class State:
    """All that the next epoch depends on, beside its number.

    Args:
        weights: of the model after the last epoch.
        best: of the model after the epoch with the lowest validation loss.
        momenta: of SGD, by the name of the parameter.
        curve: losses and accuracies, an entry an epoch.
    """

    weights: Tensors
    best: Tensors
    momenta: Tensors
    curve: list[dict[str, float]] = field(default_factory=list)


def partial_path(path: Path) -> Path:
    """Where the state lies while the weights of `path` are being trained.

    >>> partial_path(Path("fold0.safetensors")).name
    'fold0.partial.safetensors'
    """
    return path.with_suffix(".partial.safetensors")


def write_state(path: Path, state: State, terms: dict[str, Any]) -> None:
    """Write a state to `path`, whole or not at all.

    Args:
        path: as `partial_path` gives it.
        state: on any device.
        terms: what the outcome hangs on; only training on equal ones goes on from here.
    """
    groups = {"weights": state.weights, "best": state.best, "momenta": state.momenta}
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    about = {
        "schema_version": SCHEMA_VERSION,
        "terms": json.dumps(terms, sort_keys=True),
        "curve": json.dumps(state.curve),
    }
    files.write(path, safetensors.torch.save(tensors, metadata=about))


def read_state(path: Path, terms: dict[str, Any]) -> State | None:
    """The state at `path`; None, after a line that says why, if it is of no use."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as content:
            about = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        found, curve = json.loads(about["terms"]), json.loads(about["curve"])
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        return _begun_anew(path, f"is not readable ({error})")
    if about.get("schema_version") != SCHEMA_VERSION:
        return _begun_anew(path, f"has another schema version than {SCHEMA_VERSION}")
    if found != json.loads(json.dumps(terms)):
        differing = sorted(name for name in terms if found.get(name) != terms[name])
        return _begun_anew(path, f"was begun with another {' and '.join(differing)}")
    groups: dict[str, Tensors] = {"weights": {}, "best": {}, "momenta": {}}
    for name, tensor in tensors.items():
        group, _, parameter = name.partition("/")
        groups[group][parameter] = tensor
    return State(**groups, curve=curve)


def momenta_of(optimiser: torch.optim.SGD, model: nn.Module) -> Tensors:
    """SGD's momentum buffers, by the name of their parameter."""
    states = {name: optimiser.state.get(parameter, {}) for name, parameter in model.named_parameters()}
    return {
        name: one["momentum_buffer"] for name, one in states.items() if one.get("momentum_buffer") is not None
    }


def set_momenta(optimiser: torch.optim.SGD, model: nn.Module, momenta: Tensors) -> None:
    """Give SGD the momentum buffers of `momenta_of`, in the memory layout that its steps would give them."""
    for name, parameter in model.named_parameters():
        if name in momenta:
            buffer = torch.empty_like(parameter, requires_grad=False).copy_(momenta[name])
            optimiser.state[parameter]["momentum_buffer"] = buffer


def _begun_anew(path: Path, reason: str) -> State | None:
    print(f"{path} {reason}: training begins anew", file=sys.stderr, flush=True)  # noqa: T201
    return None
