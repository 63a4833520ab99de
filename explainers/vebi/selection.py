"""Which internal features tell each class: selected on training images, kept, saved and loaded."""

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
import torch
from torch import nn

from explainers.base import Loader
from explainers.guard import unchanged
from explainers.layers import Layer, layers
from explainers.receptive_field import ReceptiveField
from explainers.vebi.lasso import Gram, MuLasso, solve
from explainers.vebi.response import Norm, features_of, respond

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
_TRIED = 8  # images that a model must answer alike twice
_COLUMNS: dict[str, type[np.generic]] = {
    "target": np.int64,
    "layer": np.int64,
    "channel": np.int64,
    "weight": np.float64,
    "relevance": np.float64,
}


class SelectionError(ValueError):
    """A selection that cannot be made, read, or used with this model; the message says why."""


@dataclass(frozen=True)
class Selected:
    """A feature that tells a class.

    Args:
        target: the class, from 0.
        layer: number of the layer among all, from 1.
        channel: within the layer, from 0.
        weight: W of the μ-lasso; negative if the feature speaks against the class.
        relevance: weight times the mean response over the training images of the class.
    """

    target: int
    layer: int
    channel: int
    weight: float
    relevance: float


@dataclass(frozen=True)
class Selection:
    """The features that tell each class, and how they were found.

    Args:
        features: by class, the most relevant first.
        layers: all layers of the model in forward order, those of the class scores included.
        classes: number of classes.
        mu, norm, only_conv, scores: as given to `select`.
        images: number of training images.
        gap: largest relative duality gap over the classes.
        weights_sha256: of the model's weights.
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
        """The features of one class."""
        return tuple(feature for feature in self.features if feature.target == target)

    def layer(self, feature: Selected) -> Layer:
        """The layer that a feature is in."""
        return self.layers[feature.layer - 1]

    def table(self) -> pd.DataFrame:
        """One row a feature: class, rank, layer, layer_number, kind, channel, weight, relevance."""
        import pandas as pd

        ranks: Counter[int] = Counter()
        rows: list[dict[str, Any]] = []
        for one in self.features:
            ranks[one.target] += 1
            layer = self.layer(one)
            rows.append(
                {
                    "class": one.target,
                    "rank": ranks[one.target],
                    "layer": layer.name,
                    "layer_number": layer.number,
                    "kind": layer.kind,
                    "channel": one.channel,
                    "weight": one.weight,
                    "relevance": one.relevance,
                }
            )
        columns = ["class", "rank", "layer", "layer_number", "kind", "channel", "weight", "relevance"]
        return pd.DataFrame(rows, columns=columns)

    def must_fit(self, seen: Sequence[Layer]) -> None:
        """Raise unless the layers of another forward pass, or the first of them, are the same.

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
        """Write `path` (JSON) and beside it the features as .npz, each whole or not at all."""
        path = Path(path).with_suffix(".json")
        buffer = io.BytesIO()
        arrays = {
            name: np.array([getattr(one, name) for one in self.features], dtype=kind)
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
                raise ValueError("the .npz beside it is another selection's")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                columns = [arrays[name].astype(kind).tolist() for name, kind in _COLUMNS.items()]
            found = tuple(Selected(*row) for row in zip(*columns, strict=True))
            return cls(
                features=found,
                layers=tuple(_layer(layer) for layer in about["layers"]),
                **{name: about[name] for name in _ABOUT},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SelectionError(f"{path} is no readable selection: {error}; fit it again") from error


_ABOUT = ("classes", "mu", "norm", "only_conv", "scores", "images", "gap", "weights_sha256")


def select(
    model: nn.Module,
    loader: Loader,
    *,
    mu: float = 5.0,
    norm: Norm = "squared_l2",
    only_conv: bool = False,
    scores: str | None = "auto",
    tol: float = 1e-8,
) -> Selection:
    """Find the sparse set of features whose responses tell the classes of training images.

    Args:
        model: any classifier; left unchanged.
        loader: of images (n, 3, H, W) float32 in [0, 1] and labels (n,) int64; gone through once.
        mu: bound on the L1 norm of a class's weights: 10 in the paper, 5 in its demo for an8Flower.
        norm: of a channel's map, see `responses`.
        only_conv: take features from the outputs of convolutions alone, the paper's OnlyConv.
        scores: the layer of the class scores, left out with all that follow.
        tol: relative duality gap to reach.
    Raises:
        SelectionError: if the model or the images do not allow it; the message says why.
    Source: Oramas et al. 2019, section 3.1, eq. 1. Departs: none but for the norm, see `responses`.
    """
    if not mu >= 0:
        raise SelectionError(f"mu must be 0 or more; got {mu}")
    gram, wanted = Gram(), np.zeros(0, dtype=bool)
    every: tuple[Layer, ...] = ()
    of: tuple[Layer, ...] = ()
    with unchanged(model), torch.no_grad():
        for images, labels in loader:
            if not every:
                every, classes = _inspected(model, images)
            x, of, _ = respond(model, images, norm, scores)
            if not x.isfinite().all():
                raise SelectionError("the model's layers are not finite on these images")
            if len(wanted) == 0:
                wanted = _wanted(of, only_conv)
            gram.partial_fit(x.T[wanted].cpu(), _one_hot(labels, classes, len(images)).T)
        if not every:
            raise SelectionError("the loader gave no images")
        counts = gram.squares.astype(int)
        _must_tell(counts)
        return _selection(
            solve(gram, mu=mu, tol=tol), gram, counts, every, of, wanted,
            {"mu": float(mu), "norm": norm, "only_conv": only_conv, "scores": scores,
             "weights_sha256": weights_sha256(model)},
        )  # fmt: skip


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _selection(
    solved: MuLasso, gram: Gram, counts: Any, every: tuple[Layer, ...], of: tuple[Layer, ...], wanted: Any,
    about: dict[str, Any],
) -> Selection:  # fmt: skip
    numbers = {layer.name: layer.number for layer in every}
    candidates = [one for one, taken in zip(features_of(of), wanted, strict=True) if taken]
    relevance = solved.weights * gram.cross / counts
    found = [
        Selected(
            int(j), numbers[candidates[i].layer], candidates[i].channel, solved.weights[i, j], relevance[i, j]
        )
        for i, j in np.argwhere(solved.weights != 0)
    ]
    found.sort(key=lambda one: (one.target, -one.relevance, one.layer, one.channel))
    return Selection(
        features=tuple(found),
        layers=every,
        classes=len(counts),
        images=gram.count,
        gap=float(solved.gap.max()),
        **about,
    )


def _inspected(model: nn.Module, images: torch.Tensor) -> tuple[tuple[Layer, ...], int]:
    """The layers and the number of classes of a model that can be explained."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise SelectionError(f"the model's {name!r} has NaN or infinite values")
    first, again = model(images[:_TRIED]), model(images[:_TRIED])
    if not isinstance(first, torch.Tensor) or first.dim() != 2:
        what = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise SelectionError(
            f"the model must give logits (N, C); it gave {what} for {len(images[:_TRIED])} images"
        )
    if not torch.equal(first, again):
        raise SelectionError(
            "the model gives another answer each time, in eval mode: is there a dropout that stays on?"
        )
    every = layers(model, images)
    if not any(layer.has_map for layer in every):
        raise SelectionError(
            "the model has no layer with a map larger than 1x1 (convolution, ReLU or pooling), so no heatmap"
        )
    return every, first.shape[1]


def _wanted(of: tuple[Layer, ...], only_conv: bool) -> Any:
    taken = [layer.kind == "conv" or not only_conv for layer in of for _ in range(layer.channels)]
    if not any(taken):
        raise SelectionError(
            "the model has no layer to take features from before its class scores"
            + (", with only_conv" if only_conv else "")
        )
    return np.array(taken)


def _one_hot(labels: torch.Tensor, classes: int, images: int) -> Any:
    if labels.shape != (images,) or labels.is_floating_point():
        raise SelectionError(f"labels must be ({images},) integers; got {tuple(labels.shape)} {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise SelectionError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, but the model has {classes} classes"
        )
    return np.eye(classes)[labels.cpu().numpy()]


def _must_tell(counts: Any) -> None:
    if counts.sum() < len(counts):
        raise SelectionError(
            f"{counts.sum()} training images are fewer than the model's {len(counts)} classes"
        )
    absent = [str(k) for k in np.flatnonzero(counts == 0)]
    if absent:
        raise SelectionError(f"no training image of class {', '.join(absent[:10])}: every class must occur")


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
