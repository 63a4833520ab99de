"""The internal features that were selected for each class, and how they are saved and loaded."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainers.layers import Layer
from explainers.receptive_field import ReceptiveField
from explainers.vebi.response import Norm

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
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
        """Write `path` (JSON), and the features to the .npz file next to it; both writes are atomic."""
        path = Path(path).with_suffix(".json")
        buffer = io.BytesIO()
        arrays = {
            name: np.array([getattr(selected, name) for selected in self.features], dtype=kind)
            for name, kind in _COLUMNS.items()
        }
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        about = {name: getattr(self, name) for name in _ABOUT}
        about["layers"] = [asdict(layer) for layer in self.layers]
        features_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        about |= {"schema_version": SCHEMA_VERSION, "features_sha256": features_sha256}
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path.with_suffix(".npz"), buffer.getvalue())
        _write(path, json.dumps(about, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read what `save` wrote.

        Raises:
            SelectionError: if a file is missing, damaged, or of another schema.
        """
        path = Path(path).with_suffix(".json")
        try:
            about = json.loads(path.read_bytes())
            content = path.with_suffix(".npz").read_bytes()
            if about["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {about['schema_version']}, expected {SCHEMA_VERSION}")
            if hashlib.sha256(content).hexdigest() != about["features_sha256"]:
                raise ValueError("the .npz file next to it belongs to another selection")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                columns = [arrays[name].astype(kind).tolist() for name, kind in _COLUMNS.items()]
            features = tuple(Selected(*row) for row in zip(*columns, strict=True))
            return cls(
                features=features,
                layers=tuple(_layer(layer) for layer in about["layers"]),
                **{name: about[name] for name in _ABOUT},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SelectionError(f"{path} is not a valid selection: {error}; fit it again") from error


_ABOUT = ("classes", "mu", "norm", "only_conv", "scores", "images", "gap", "weights_sha256")


def _likeness(layer: Layer) -> tuple[str, int]:
    return layer.name, layer.channels


def _layer(about: dict[str, Any]) -> Layer:
    field = {name: (int(a), int(b)) for name, (a, b) in about["receptive_field"].items()}
    shape = tuple(int(n) for n in about["shape"])
    return Layer(about["name"], about["kind"], shape, int(about["number"]), ReceptiveField(**field))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
