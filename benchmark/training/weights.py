"""Trained weights on disk: where they are stored, and the record next to them.

Weights are checked against the digest in their record, the record against its own digest, and against the
place that it should be of: the model of another fold was trained on the test images of this one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from an8flower.ground import files
from an8flower.ground.digest import AlteredError, check_digest, read_json, with_digest
from an8flower.ground.shown import html_table
from an8flower.ground.text import one_line
from an8flower.protocol import FOLDS
from benchmark.device import device_of
from benchmark.models import ModelSpec, models
from benchmark.record import Json
from benchmark.record_checks import (
    AMOUNT,
    FOLD,
    NAME,
    OBJECT,
    SHA256,
    SHARE,
    WHOLE,
    RecordError,
    Rule,
    list_of,
    require_all,
)
from benchmark.setups import PLAIN, Setup, model_name
from benchmark.store import seed_folder

SCHEMA_VERSION = 2
_SELF_CHECKED = 2  # records of weights have had a digest since this schema version


class WeightsError(ValueError):
    """Weights that are missing or damaged; the message says what to run."""


class AlteredWeightsError(WeightsError):
    """Weights that are not those that their record describes."""


@dataclass(frozen=True)
class Trained:
    """A trained model and its record, as on disk.

    Args:
        model: in eval mode.
        record: variant, fold, seed, accuracy, loss curve, versions, digests.
    """

    model: nn.Module
    record: dict[str, Any]

    def __repr__(self) -> str:
        of = self.record["identity"]
        seed = f" seed {of['seed']}" if of.get("seed") else ""
        name = model_name(of["model"], recipe_of(self.record))
        accuracy = f"test accuracy {self.record['test_accuracy']:.1%}"
        return f"Trained({name} on {of['variant']} fold {of['fold']}{seed}: {accuracy})"

    def _repr_html_(self) -> str:
        of, names = self.record["identity"], ("model", "variant", "fold", "seed")
        facts = [
            *((name, of.get(name, "")) for name in names),
            ("recipe", recipe_of(self.record)),
            ("classes", ", ".join(self.record["classes"])),
        ]
        facts += [(name, self.record.get(name, "")) for name in ("test_accuracy", "epochs", "weights_sha256")]
        return html_table(["", "trained model"], facts)


def weights_path(
    checkpoints: str | Path, variant: str, model: str, fold: int, seed: int = 0, recipe: str = PLAIN
) -> Path:
    """Return where the weights of one fold are stored; their record is next to them as .json.

    >>> weights_path("checkpoints", "part-2c", "an8net", 0).as_posix()
    'checkpoints/part-2c/an8net/fold0.safetensors'
    >>> weights_path("checkpoints", "part-2c", "an8net", 0, seed=1).as_posix()
    'checkpoints/part-2c/an8net/seed1/fold0.safetensors'
    >>> weights_path("checkpoints", "part-2c", "an8net", 0, recipe="certified").as_posix()
    'checkpoints/part-2c/an8net+certified/fold0.safetensors'
    """
    folder = Path(checkpoints) / variant / model_name(model, recipe)
    return seed_folder(folder, seed) / f"fold{fold}.safetensors"


def path_of(checkpoints: str | Path, setup: Setup) -> Path:
    """Return where the weights of a setup are stored, see `weights_path`."""
    return weights_path(checkpoints, setup.variant, setup.model, setup.fold, setup.seed, setup.recipe)


def load_model(
    path: str | Path,
    *,
    variant: str | None = None,
    fold: int | None = None,
    recipe: str = PLAIN,
    seed: int = 0,
    checkpoints: str | Path = "checkpoints",
    device: str | torch.device = "cpu",
    of: Setup | None = None,
) -> Trained:
    """Load a trained model and its record, from a file or by the names of what it was trained on.

    Args:
        path: a .safetensors file that `train` wrote; or, with `variant` and `fold`, the name of an
            architecture, e.g. "an8net".
        variant, fold, recipe, seed: which model of this architecture.
        checkpoints: folder of the weights of a model that is chosen by name.
        device: where to put the model, e.g. "auto".
        of: the model that it must be; by default, any.
    Raises:
        WeightsError: if weights or record are missing, altered, do not fit each other, or are of another
            model than `of`.
        ValueError: for a device that is not available, if only one of variant and fold is given, for a
            recipe without them, or a fold that is not a whole number from 0 to 4.
    """
    if fold is not None and (not isinstance(fold, Integral) or fold not in range(FOLDS)):
        raise ValueError(f"fold must be a whole number from 0 to {FOLDS - 1}, got {fold!r}")
    if (variant is None) != (fold is None):
        raise ValueError("to load a model by its name, pass both variant and fold; a file needs neither")
    if variant is None and recipe != PLAIN:
        raise ValueError("to load a model by its recipe, pass variant and fold; a file needs none of them")
    if variant is not None and fold is not None:
        of = of or Setup(variant, str(path), seed, int(fold), recipe)
        path = path_of(checkpoints, of)
    path, place = Path(path), device_of(device)
    record = intact_record(path, of=of)
    data = path.read_bytes()
    network = built(models.get(record["identity"]["model"]), len(record["classes"]))
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise WeightsError(
            f"{path} does not fit {record['identity']['model']}, which its record names "
            f"({one_line(str(error))}); {_again(path)}"
        ) from error
    return Trained(network.to(place).eval(), record)


def save_model(path: Path, model: nn.Module, record: dict[str, Any]) -> dict[str, Any]:
    """Write weights, then their record; without a record, weights do not count.

    Returns:
        the record, with schema version, the hash of the weights, and its own digest.
    """
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(weights)
    record = with_digest(
        {"schema_version": SCHEMA_VERSION, **record, "weights_sha256": hashlib.sha256(data).hexdigest()}
    )
    files.write(path, data)
    files.write_json(path.with_suffix(".json"), record)
    return record


def read_record(path: str | Path, *, of: Setup | None = None) -> dict[str, Any]:
    """Read the record of the weights at `path`, but not the weights.

    Args:
        path: as `weights_path` returns it.
        of: the model that it must be of; by default, any.
    Raises:
        WeightsError: if weights or record are missing, or the record is not valid, was altered, or is of
            another model than `of`.
    """
    path = Path(path)
    record = path.with_suffix(".json")
    if not path.is_file() or not record.is_file():
        raise WeightsError(f"no trained model at {path}; run 'an8flower train' first")
    try:
        content: dict[str, Any] = read_json(record.read_bytes())
        _check(content)
    except (ValueError, OSError) as error:
        known = isinstance(error, RecordError | AlteredError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise WeightsError(
            f"{record} is not a valid record of the weights next to it ({one_line(reason)}); {_again(path)}"
        ) from error
    if of is not None:
        wanted = {name: getattr(of, name) for name in (*_PLACE, "recipe")}
        found = {name: content["identity"][name] for name in _PLACE} | {"recipe": recipe_of(content)}
        if found != wanted:
            raise WeightsError(
                f"{path} has the weights of another model ({_as_text(found)}; it should be "
                f"{_as_text(wanted)}), which may have been trained on these test images; {_again(path)}"
            )
    return content


def intact_record(path: str | Path, *, of: Setup | None = None) -> dict[str, Any]:
    """Read the record of the weights at `path`, and compare the weights with their SHA-256 in it.

    Args:
        path, of: as for `read_record`.
    Raises:
        WeightsError: as `read_record`, or if the weights are not those that were written.
    """
    path = Path(path)
    record = read_record(path, of=of)
    with path.open("rb") as weights:
        sha256 = hashlib.file_digest(weights, "sha256").hexdigest()
    if sha256 != record["weights_sha256"]:
        raise AlteredWeightsError(f"{path} is not the file that its record describes; {_again(path)}")
    return record


def recipe_of(record: Json) -> str:
    """Return the name of the recipe of a record of weights; older records have none and are of "plain"."""
    return str(record["identity"]["recipe"].get("name", PLAIN))


def _again(path: Path) -> str:
    """Return what replaces weights or a record that cannot be used."""
    return f"delete {path} and {path.with_suffix('.json')} and train again"


def _as_text(place: dict[str, Any]) -> str:
    return one_line(", ".join(f"{name} {value}" for name, value in place.items()))


def _check(content: Any) -> None:
    """Check a record against its own digest, and its content.

    Raises:
        RecordError, AlteredError: for the first thing that is wrong.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise RecordError(f"it has another schema version than 1 to {SCHEMA_VERSION}")
    if version >= _SELF_CHECKED:
        check_digest(content)
    require_all(content, _FIELDS)
    require_all(content["identity"], _IDENTITY, "identity.")
    recipe = content["identity"]["recipe"]
    named = {"name": NAME} if "name" in recipe else {}
    require_all(recipe, {"enough_loss": AMOUNT, **named}, "identity.recipe.")
    for epoch in content["curve"]:
        require_all(epoch, _EPOCH, "curve: ")


_PLACE: dict[str, Rule] = {"variant": NAME, "model": NAME, "seed": WHOLE, "fold": FOLD}
_IDENTITY: dict[str, Rule] = _PLACE | {"dataset_digest": SHA256, "folds": NAME, "recipe": OBJECT}
_EPOCH: dict[str, Rule] = {
    f"{part}_{kind}": rule
    for part in ("train", "validation")
    for kind, rule in (("loss", AMOUNT), ("accuracy", SHARE))
}
_FIELDS: dict[str, Rule] = {
    "identity": OBJECT,
    "classes": list_of(NAME),
    # Empty for a model with fixed weights.
    "curve": (lambda value: value == [] or list_of(OBJECT)[0](value), "a list of objects"),
    "test_accuracy": SHARE,
    "weights_sha256": SHA256,
}


def built(spec: ModelSpec, classes: int) -> nn.Module:
    """Return an untrained model, without using PyTorch's global random generator."""
    with torch.random.fork_rng(devices=[]):
        return spec.build(classes)
