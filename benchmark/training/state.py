"""The state of an unfinished training after an epoch, on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from an8flower.ground.text import one_line

SCHEMA_VERSION = "2"
logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next epoch depends on, apart from its number.

    Args:
        weights: of the model after the last epoch.
        best: of the model after the epoch with the lowest validation loss.
        momenta: of SGD, by the name of the parameter.
        curve: losses and accuracies, one entry per epoch.
    """

    weights: Tensors
    best: Tensors
    momenta: Tensors
    curve: list[dict[str, float]] = field(default_factory=list)


def partial_path(path: Path) -> Path:
    """Return where the state is stored while the weights of `path` are being trained.

    >>> partial_path(Path("fold0.safetensors")).name
    'fold0.partial.safetensors'
    """
    return path.with_suffix(".partial.safetensors")


def write_state(path: Path, state: TrainingState, terms: dict[str, Any]) -> None:
    """Write a state to `path`, completely or not at all.

    Args:
        path: as `partial_path` returns it.
        state: on any device.
        terms: what the result depends on; only a training with equal terms continues from this state.
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
    about["sha256"] = _digest(tensors, about)
    files.write(path, safetensors.torch.save(tensors, metadata=about))


def read_state(path: Path, terms: dict[str, Any]) -> TrainingState | None:
    """Read the state at `path`; None, with a warning that says why, if it cannot be used."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as content:
            about = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if about.get("schema_version") != SCHEMA_VERSION:
            return _unusable(path, f"has another schema version than {SCHEMA_VERSION}")
        if about["sha256"] != _digest(tensors, about):
            return _unusable(path, "was altered after it was written")
        stored, curve = json.loads(about["terms"]), json.loads(about["curve"])
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        return _unusable(path, f"is not readable ({one_line(str(error))})")
    if stored != json.loads(json.dumps(terms)):
        differing = sorted(name for name in terms if stored.get(name) != terms[name])
        return _unusable(path, f"belongs to a training with another {' and '.join(differing)}")
    groups: dict[str, Tensors] = {"weights": {}, "best": {}, "momenta": {}}
    for name, tensor in tensors.items():
        group, _, parameter = name.partition("/")
        groups[group][parameter] = tensor
    return TrainingState(**groups, curve=curve)


def _digest(tensors: Tensors, about: dict[str, str]) -> str:
    """Return the SHA-256 of everything in the file, except of this digest."""
    sha256 = hashlib.sha256(safetensors.torch.save(tensors))
    for name in ("schema_version", "terms", "curve"):
        sha256.update(about[name].encode())
    return sha256.hexdigest()


def momenta_of(optimiser: torch.optim.SGD, model: nn.Module) -> Tensors:
    """Return SGD's momentum buffers, by the name of their parameter."""
    states = {name: optimiser.state.get(parameter, {}) for name, parameter in model.named_parameters()}
    return {
        name: state["momentum_buffer"]
        for name, state in states.items()
        if state.get("momentum_buffer") is not None
    }


def set_momenta(optimiser: torch.optim.SGD, model: nn.Module, momenta: Tensors) -> None:
    """Set SGD's momentum buffers to those of `momenta_of`, in the memory layout of its own steps."""
    for name, parameter in model.named_parameters():
        if name in momenta:
            buffer = torch.empty_like(parameter, requires_grad=False).copy_(momenta[name])
            optimiser.state[parameter]["momentum_buffer"] = buffer


def _unusable(path: Path, reason: str) -> TrainingState | None:
    logger.warning("%s %s: training starts from the beginning", path, reason)
    return None


__getattr__ = renamed(__name__, {"State": "TrainingState"})
