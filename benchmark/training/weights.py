"""Trained weights on disk: where they are stored, and the record next to them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from an8flower.ground import files
from benchmark.device import device_of
from benchmark.models import ModelSpec, models
from benchmark.store import seed_folder

SCHEMA_VERSION = 1


class WeightsError(ValueError):
    """Weights that are missing or damaged; the message says what to run."""


@dataclass(frozen=True)
class Trained:
    """A trained model and its record, as on disk.

    Args:
        model: in eval mode.
        record: variant, fold, seed, accuracy, loss curve, versions, digests.
    """

    model: nn.Module
    record: dict[str, Any]


def weights_path(checkpoints: str | Path, variant: str, model: str, fold: int, seed: int = 0) -> Path:
    """Return where the weights of one fold are stored; their record is next to them as .json.

    >>> weights_path("checkpoints", "part-2c", "an8net", 0).as_posix()
    'checkpoints/part-2c/an8net/fold0.safetensors'
    >>> weights_path("checkpoints", "part-2c", "an8net", 0, seed=1).as_posix()
    'checkpoints/part-2c/an8net/seed1/fold0.safetensors'
    """
    folder = Path(checkpoints) / variant / model
    return seed_folder(folder, seed) / f"fold{fold}.safetensors"


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> Trained:
    """Load the model whose weights are at `path` (a .safetensors file) and its record.

    Args:
        path: as `weights_path` returns it.
        device: where to put the model, e.g. "auto".
    Raises:
        WeightsError: if weights or record are missing, altered, or do not fit each other.
        ValueError: for a device that is not available.
    """
    path, place = Path(path), device_of(device)
    record = read_record(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
        raise WeightsError(f"{path} is not the file that its record describes; delete it and train again")
    network = built(models.get(record["identity"]["model"]), len(record["classes"]))
    network.load_state_dict(safetensors.torch.load(data))
    return Trained(network.to(place).eval(), record)


def save_model(path: Path, model: nn.Module, record: dict[str, Any]) -> dict[str, Any]:
    """Write weights, then their record; without a record, weights do not count.

    Returns:
        the record, with schema version and the hash of the weights.
    """
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(weights)
    record = {
        "schema_version": SCHEMA_VERSION,
        **record,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    files.write(path, data)
    files.write_json(path.with_suffix(".json"), record)
    return record


def read_record(path: str | Path) -> dict[str, Any]:
    """Read the record of the weights at `path`, but not the weights.

    Raises:
        WeightsError: if weights or record are missing, or the record is not readable.
    """
    path = Path(path)
    record = path.with_suffix(".json")
    if not path.is_file() or not record.is_file():
        raise WeightsError(f"no trained model at {path}; run 'an8flower train' first")
    try:
        content: dict[str, Any] = json.loads(record.read_text())
    except ValueError as error:
        raise WeightsError(f"{record} is not readable ({error}); delete it and train again") from error
    if content.get("schema_version") != SCHEMA_VERSION:
        raise WeightsError(
            f"{record} has another schema version than {SCHEMA_VERSION}; delete it and train again"
        )
    return content


def built(spec: ModelSpec, classes: int) -> nn.Module:
    """Return an untrained model, without using PyTorch's global random generator."""
    with torch.random.fork_rng(devices=[]):
        return spec.build(classes)
