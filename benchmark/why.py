"""Why a trained model decides as it does: the features it uses, as figures and as data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

import explainers as methods
from an8flower import An8Flower, png
from an8flower.ground.deprecated import renamed
from an8flower.ground.progress import progress
from an8flower.manifest import DataFolderError
from an8flower.protocol import Split
from an8flower.resizing import resize_image, resize_mask
from benchmark.device import device_holding, device_of
from benchmark.models import models
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import Trained, load_model
from explainers.vebi import Explanation, Interpretation, Selection, SelectionError, Vebi, interpret
from explainers.vebi.feature_selection import weights_sha256
from explainers.vebi.figures import explanation_figure

TOGETHER = 100  # images explained at once
SHOWN = 24  # the most images that a notebook shows


@dataclass(frozen=True)
class Explained:
    """Why a model sees a class in one image or in several.

    Args:
        paths: files of the images.
        images: (N, 3, H, W) float32 in [0, 1], as the model sees them.
        masks: (H, W) bool for each image, or None where the mask is not known.
        classes: names of all classes.
        probabilities: (N, C), softmax of the logits.
        explanation: features, heatmaps, and their combination.
        layers: number of layers of the model.
    """

    paths: tuple[Path, ...]
    images: torch.Tensor
    masks: tuple[torch.Tensor | None, ...]
    classes: tuple[str, ...]
    probabilities: torch.Tensor
    explanation: Explanation
    layers: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Explained:
        """Return one of the images with its explanation."""
        k = range(len(self))[index]
        chosen = slice(k, k + 1)
        explanation = Explanation(
            self.explanation.targets[chosen],
            self.explanation.evidence[chosen],
            self.explanation.heatmaps[chosen],
            self.explanation.combined[chosen],
        )
        return replace(
            self,
            paths=self.paths[chosen],
            images=self.images[chosen],
            masks=self.masks[chosen],
            probabilities=self.probabilities[chosen],
            explanation=explanation,
        )

    def __repr__(self) -> str:
        titles = [f"{path.name} {self._title(k)}" for k, path in enumerate(self.paths[:3])]
        more = ", ..." if len(self) > len(titles) else ""
        return f"Explained({len(self)} images: {'; '.join(titles)}{more})".replace("\n", ", ")

    def _repr_png_(self) -> bytes | None:
        """Return the figure for a notebook, unless it would be too long."""
        if len(self) > SHOWN:
            return None
        data = io.BytesIO()
        self.figure().savefig(data, format="png", bbox_inches="tight")
        return data.getvalue()

    def figure(self) -> Figure:
        """Draw the paper's figure 6: one row per image."""
        titles = [self._title(k) for k in range(len(self))]
        return explanation_figure(self.images, self.explanation, self.layers, titles, masks=self.masks)

    def facts(self) -> list[dict[str, Any]]:
        """Return labels, confidence and features of each image, as written to JSON."""
        return [self._facts(k) for k in range(len(self))]

    def _facts(self, k: int) -> dict[str, Any]:
        predicted = int(self.probabilities[k].argmax())
        target = int(self.explanation.targets[k])
        evidence = self.explanation.evidence[k]
        return {
            "image": str(self.paths[k]),
            "predicted": self.classes[predicted],
            "confidence": float(self.probabilities[k, predicted]),
            "target": self.classes[target],
            "target_confidence": float(self.probabilities[k, target]),
            "features": [
                {
                    "layer": feature.layer.name,
                    "layer_number": feature.layer.number,
                    "layers": self.layers,
                    "kind": feature.layer.kind,
                    "channel": feature.channel,
                    "relevance": feature.relevance,
                }
                for feature in evidence
            ],
        }

    def _title(self, k: int) -> str:
        facts = self._facts(k)
        said = f"{facts['predicted']}, {facts['confidence']:.1%}"
        if facts["target"] == facts["predicted"]:
            return said
        return f"predicted {said}\nwhy {facts['target']}, {facts['target_confidence']:.1%}?"


def explain_with_features(
    images: str | Path | Sequence[str | Path],
    checkpoint: str | Path,
    *,
    root: str | Path = "data",
    explainer: str = "vebi",
    target: str | int | None = None,
    top: int = 3,
    device: str = "cpu",
) -> Explained:
    """Explain the decisions of a trained model about pictures by the features that it uses.

    The first call selects the features on the model's own training fold and stores them next to the weights.

    Args:
        images: paths of pictures; one that is not square is cropped to its centre.
        checkpoint: weights (.safetensors) that `train` wrote.
        root: folder that holds the dataset; needed the first time.
        explainer: "vebi" or another one that uses selected features: "vebi_all", "vebi_nearest", "deconv_gb",
            "upsampled_activations".
        target: class to explain, by name or number from 0; the predicted one by default.
        top: number of features per image.
        device: where the model runs, "cpu", "cuda", "mps" or "auto"; the result is on the CPU.
    Raises:
        WeightsError: if the weights are missing or damaged.
        DataFolderError: if data or a picture are missing or damaged.
        ValueError: for another explainer or an unknown class.
    """
    paths = tuple(map(Path, [images] if isinstance(images, str | Path) else images))
    if not paths:
        raise ValueError("name at least one image to explain")
    on = device_of(device)
    trained = load_model(checkpoint, device=on)
    classes = tuple(trained.record["classes"])
    size_px = models.get(trained.record["identity"]["model"]).size_px
    asked = None if target is None else class_number(target, classes)
    pictures = torch.stack([_read(path, size_px) for path in paths])
    method = methods.get(explainer, top=top).method if explainer in _selecting() else None
    if not isinstance(method, Vebi):
        known = ", ".join(_selecting())
        raise ValueError(f"{explainer!r} does not explain through selected features; these do: {known}")
    method.selection = selection_of(trained, checkpoint, root)
    parts, probabilities = [], []
    with progress("explain", len(paths), "images") as advance:
        for part in torch.split(pictures, TOGETHER):
            batch = part.to(on)
            with torch.no_grad():
                probabilities.append(trained.model(batch).softmax(dim=1).cpu())
            targets = probabilities[-1].argmax(1) if asked is None else torch.full((len(part),), asked)
            parts.append(method.explain(trained.model, batch, targets.to(on)))
            advance(len(part))
    together = Explanation(
        torch.cat([part.targets for part in parts]).cpu(),
        tuple(evidence for part in parts for evidence in part.evidence),
        torch.cat([part.heatmaps for part in parts]).cpu(),
        torch.cat([part.combined for part in parts]).cpu(),
    )
    masks = tuple(_mask(path, size_px) for path in paths)
    layers = len(method.selection.layers)
    return Explained(paths, pictures, masks, classes, torch.cat(probabilities), together, layers)


def interpretation_of(
    checkpoint: str | Path,
    *,
    root: str | Path = "data",
    top: int = 100,
    of_class: bool = False,
    device: str = "cpu",
) -> tuple[tuple[Interpretation, ...], Selection, tuple[str, ...]]:
    """Find what the selected features of a trained model respond to in its training images.

    Args:
        checkpoint, root, device: as in `explain_with_features`.
        top, of_class: as in `explainers.vebi.interpret`.
    Returns:
        the interpretations, the selection, and the names of the classes.
    Raises:
        WeightsError: if the weights are missing or damaged.
        DataFolderError: if data are missing or damaged.
    """
    trained = load_model(checkpoint, device=device)
    selection = selection_of(trained, checkpoint, root)
    loader = TrainingBatches(images_of(trained, root, "train"), device=device_of(device))
    return interpret(trained.model, loader, selection, top=top, of_class=of_class), selection, tuple(
        trained.record["classes"]
    )  # fmt: skip


def selection_of(trained: Trained, checkpoint: str | Path, root: str | Path) -> Selection:
    """Read the features of a trained model from the file next to its weights, or select and write them."""
    path = Path(checkpoint).with_suffix(".selection.json")
    if path.exists():
        try:
            stored = Selection.load(path)
            if stored.weights_sha256 == weights_sha256(trained.model):
                return stored
        except SelectionError:
            pass  # selected again, like one for other weights
    method = cast(Vebi, methods.get("vebi").method)
    loader = TrainingBatches(images_of(trained, root, "train"), device=device_holding(trained.model))
    selection = method.fit(trained.model, loader).selection
    selection.save(path)
    return selection


def class_number(target: str | int, classes: Sequence[str]) -> int:
    """Return the number of a class that is given by name or number.

    >>> class_number("blue", ["red", "blue"]), class_number("0", ["red", "blue"])
    (1, 0)
    """
    if target in classes:
        return classes.index(str(target))
    if str(target).isdecimal() and int(target) < len(classes):
        return int(target)
    raise ValueError(
        f"unknown class {target!r}; known are {', '.join(classes)}, or the numbers 0 to {len(classes) - 1}"
    )


def images_of(trained: Trained, root: str | Path, split: Split) -> An8Flower:
    """Return the images that a model was trained on ("train") or never saw ("test"), at its size.

    Raises:
        DataFolderError: if the data is missing, or not what the model was trained on.
    """
    identity = trained.record["identity"]
    data = An8Flower(
        root,
        identity["variant"],
        fold=identity["fold"],
        split=split,
        size_px=models.get(identity["model"]).size_px,
        scheme=identity["folds"],
    )
    if data.manifest.images_digest != identity["dataset_digest"]:
        raise DataFolderError(
            f"{data.manifest.folder} is not the dataset that the model was trained on; "
            "draw that dataset, or train the model on this one"
        )
    return data


def _selecting() -> tuple[str, ...]:
    specs = {name: methods.registry.get(name) for name in methods.names()}
    return tuple(name for name, spec in specs.items() if getattr(spec.build, "func", None) is Vebi)


def _read(path: Path, size_px: int) -> torch.Tensor:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        raise DataFolderError(f"image {path} does not exist") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataFolderError(f"{path} is not a readable image: {error}") from None
    side = min(upright.size)
    square = ImageOps.fit(upright, (side, side)) if upright.size != (side, side) else upright
    pixels = resize_image(np.asarray(square, np.uint8), size_px)
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255


def _mask(path: Path, size_px: int) -> torch.Tensor | None:
    """Return the mask of an image in a generated dataset; None for any other image."""
    folders = list(path.absolute().parts)
    if len(folders) < 3 or folders[-3] != "images":
        return None
    folders[-3] = "masks"
    mask = Path(*folders)
    if not mask.is_file():
        return None
    pixels: NDArray[np.uint8] = png.decode(mask.read_bytes())
    return torch.from_numpy(resize_mask(pixels > 0, size_px))


__getattr__ = renamed(__name__, {"explain": "explain_with_features"})
