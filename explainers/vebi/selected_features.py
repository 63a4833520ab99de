"""The internal features that were selected for each class, and how they are saved and loaded."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from an8flower.ground.digest import check_digest, read_json, with_digest
from an8flower.ground.text import one_line
from explainers.layers import Kind, Layer
from explainers.receptive_field import ReceptiveField
from explainers.vebi.response import Norm

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
_SELF_CHECKED = 2  # files have had a digest of themselves since this schema version
_COLUMNS: dict[str, type[np.generic]] = {
    "target": np.int64,
    "layer": np.int64,
    "channel": np.int64,
    "weight": np.float64,
    "relevance": np.float64,
}


class SelectionError(ValueError):
    """A selection that cannot be computed, read, or used with a model; the message says why."""


@dataclass(frozen=True)
class Selected:
    """A feature that was selected for a class.

    Args:
        target: the class, from 0.
        layer: number of the layer among all layers, from 1.
        channel: channel within the layer, from 0.
        weight: W of the μ-lasso; negative if the feature is evidence against the class.
        relevance: weight times the mean response over the training images of the class.
    """

    target: int
    layer: int
    channel: int
    weight: float
    relevance: float


@dataclass(frozen=True)
class Selection:
    """The features that were selected for each class, and how.

    Args:
        features: sorted by class, then the most relevant first.
        layers: all layers of the model in forward order, including those of the class scores.
        classes: number of classes.
        mu, norm, only_conv, scores: arguments of `select`.
        images: number of training images.
        gap: largest relative duality gap over the classes.
        weights_sha256: SHA-256 of the model's weights.
    """

    features: tuple[Selected, ...]
    layers: tuple[Layer, ...]
    classes: int
    mu: float
    norm: Norm
    only_conv: bool
    scores: str | None
    images: int
    gap: float
    weights_sha256: str

    def of(self, target: int) -> tuple[Selected, ...]:
        """Return the features of one class."""
        return tuple(feature for feature in self.features if feature.target == target)

    def layer(self, feature: Selected) -> Layer:
        """Return the layer of a feature."""
        return self.layers[feature.layer - 1]

    def table(self) -> pd.DataFrame:
        """Return a table with one row per feature.

        Its columns are class, rank, layer, layer_number, kind, channel, weight and relevance.
        """
        import pandas as pd

        ranks: Counter[int] = Counter()
        rows: list[dict[str, Any]] = []
        for selected in self.features:
            ranks[selected.target] += 1
            layer = self.layer(selected)
            rows.append(
                {
                    "class": selected.target,
                    "rank": ranks[selected.target],
                    "layer": layer.name,
                    "layer_number": layer.number,
                    "kind": layer.kind,
                    "channel": selected.channel,
                    "weight": selected.weight,
                    "relevance": selected.relevance,
                }
            )
        columns = ["class", "rank", "layer", "layer_number", "kind", "channel", "weight", "relevance"]
        return pd.DataFrame(rows, columns=columns)

    def must_fit(self, seen: Sequence[Layer]) -> None:
        """Raise unless the layers of a forward pass are the layers of this selection, or the first of them.

        Args:
            seen: layers of the pass in forward order.
        Raises:
            SelectionError: naming the first layer that differs.
        """
        for mine, theirs in zip(self.layers, seen, strict=False):
            if _likeness(mine) != _likeness(theirs):
                raise SelectionError(
                    f"this selection was fitted for another model: its layer {mine.number} is {mine.name} "
                    f"with {mine.channels} channels, this model's is {theirs.name} with {theirs.channels}; "
                    "call fit with this model"
                )
        if len(seen) > len(self.layers):
            raise SelectionError(
                f"this selection was fitted for another model, of {len(self.layers)} layers; "
                f"this one has at least {len(seen)}; call fit with this model"
            )

    def save(self, path: str | Path) -> None:
        """Write `path` (JSON), and the features to the .npz file next to it; both writes are atomic.

        The JSON holds the digests of both, so that `load` finds whether one of them was altered.
        """
        path = Path(path).with_suffix(".json")
        buffer = io.BytesIO()
        arrays = {
            name: np.array([getattr(selected, name) for selected in self.features], dtype=kind)
            for name, kind in _COLUMNS.items()
        }
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        about: dict[str, Any] = {name: getattr(self, name) for name in _ABOUT}
        about["layers"] = [asdict(layer) for layer in self.layers]
        features_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        about |= {"schema_version": SCHEMA_VERSION, "features_sha256": features_sha256}
        about = with_digest(about)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path.with_suffix(".npz"), buffer.getvalue())
        _write(path, json.dumps(about, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read what `save` wrote.

        Raises:
            SelectionError: if a file is missing, altered, of another schema, or holds what no selection can.
        """
        path = Path(path).with_suffix(".json")
        try:
            return cls(**_read(path))
        except Exception as error:  # NumPy and zipfile raise errors of many types for a damaged file
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise SelectionError(
                f"{path} is not a valid selection: {one_line(reason)}; fit it again"
            ) from error


def _read(path: Path) -> dict[str, Any]:
    """Return the fields of the selection in a file, once all are checked."""
    about, content = read_json(path.read_bytes()), path.with_suffix(".npz").read_bytes()
    version = about.get("schema_version") if isinstance(about, dict) else None
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"it has another schema version than 1 to {SCHEMA_VERSION}")
    if version >= _SELF_CHECKED:
        check_digest(about)
    for name, passes in _ABOUT.items():
        if name not in about or not passes(about[name]):
            raise ValueError(f"{name} is missing or wrong")
    if hashlib.sha256(content).hexdigest() != about.get("features_sha256"):
        raise ValueError("the .npz file next to it was altered, or belongs to another selection")
    layers = tuple(_layer(number, layer) for number, layer in enumerate(about["layers"], start=1))
    features = _features(content)
    for feature in features:
        known = 0 <= feature.target < about["classes"] and 1 <= feature.layer <= len(layers)
        if not known or not 0 <= feature.channel < layers[feature.layer - 1].channels:
            raise ValueError(f"{feature} does not exist in these layers and classes")
    if list(features) != sorted(features, key=lambda feature: (feature.target, -feature.relevance)):
        raise ValueError("its features are not sorted")
    return {name: about[name] for name in _ABOUT} | {"layers": layers, "features": features}


def _features(content: bytes) -> tuple[Selected, ...]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in _COLUMNS}
    for name, column in columns.items():
        if column.dtype != _COLUMNS[name] or column.ndim != 1 or not np.isfinite(column).all():
            raise ValueError(f"{name} must be a list of finite {np.dtype(_COLUMNS[name])}")
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return tuple(Selected(*row) for row in rows)


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**53


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


# What is stored of a selection besides its features, and what it must be.
_ABOUT: dict[str, Callable[[Any], bool]] = {
    "layers": lambda value: isinstance(value, list) and len(value) > 0,
    "classes": lambda value: _is_whole(value, 1),
    "mu": _is_amount,
    "norm": lambda value: value in get_args(Norm),
    "only_conv": lambda value: isinstance(value, bool),
    "scores": lambda value: value is None or isinstance(value, str),
    "images": lambda value: _is_whole(value, 1),
    "gap": _is_amount,
    "weights_sha256": lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
}


def _likeness(layer: Layer) -> tuple[str, int]:
    return layer.name, layer.channels


def _layer(number: int, about: Any) -> Layer:
    """Return a layer from JSON, once it is checked; its number must be its place."""
    try:
        name, kind, shape, field = about["name"], about["kind"], about["shape"], about["receptive_field"]
        pairs = {of: (first, second) for of, (first, second) in field.items()}
        whole = all(type(value) is int for pair in pairs.values() for value in pair)
        sizes = isinstance(shape, list) and len(shape) > 0 and all(_is_whole(size, 1) for size in shape)
        right = isinstance(name, str) and kind in get_args(Kind) and whole and sizes
        if right and about["number"] == number:
            return Layer(name, kind, tuple(shape), number, ReceptiveField(**pairs))
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise ValueError(f"layer {number} is wrong")


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
