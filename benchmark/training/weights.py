"""Trained weights on disk: where they lie, and the record beside them."""

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
from an8flower.manifest import DataFolderError
from benchmark.device import device_of
from benchmark.models import ModelSpec, models

SCHEMA_VERSION = 1


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
    """Where the weights of one fold lie; their record is beside them as .json.

    >>> weights_path("checkpoints", "part-2c", "an8net", 0).as_posix()
    'checkpoints/part-2c/an8net/fold0.safetensors'
    >>> weights_path("checkpoints", "part-2c", "an8net", 0, seed=1).as_posix()
    'checkpoints/part-2c/an8net/seed1/fold0.safetensors'
    """
    folder = Path(checkpoints) / variant / model
    return (folder / f"seed{seed}" if seed else folder) / f"fold{fold}.safetensors"


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> Trained:
    """The model whose weights are at `path` (a .safetensors file) with its record.

    Args:
        path: as `weights_path` gives it.
        device: where to put it, e.g. "auto".
    Raises:
        DataFolderError: if weights or record are missing, altered, or do not fit each other.
        ValueError: for a device that is not there.
    """
    path, place = Path(path), device_of(device)
    record = read_record(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
        raise DataFolderError(f"{path} is not the file that its record describes; delete it and train again")
    network = built(models.get(record["identity"]["model"]), len(record["classes"]))
    network.load_state_dict(safetensors.torch.load(data))
    return Trained(network.to(place).eval(), record)


def save_model(path: Path, model: nn.Module, record: dict[str, Any]) -> dict[str, Any]:
    """Write weights, then their record, which makes them valid.

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
    """The record of the weights at `path`, which are not read.

    Raises:
        DataFolderError: if weights or record are missing, or the record is not readable.
    """
    path = Path(path)
    record = path.with_suffix(".json")
    if not path.is_file() or not record.is_file():
        raise DataFolderError(f"no trained model at {path}; run 'an8flower train' first")
    try:
        found: dict[str, Any] = json.loads(record.read_text())
    except ValueError as error:
        raise DataFolderError(f"{record} is not readable ({error}); delete it and train again") from error
    if found.get("schema_version") != SCHEMA_VERSION:
        raise DataFolderError(
            f"{record} has another schema version than {SCHEMA_VERSION}; delete it and train again"
        )
    return found


def built(spec: ModelSpec, classes: int) -> nn.Module:
    """An untrained model, with nothing drawn from PyTorch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return spec.build(classes)
