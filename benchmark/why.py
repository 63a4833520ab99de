"""Explaining and interpreting a trained model of the zoo: pictures and facts for people to look at."""

from __future__ import annotations

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
from an8flower.ground.progress import progress
from an8flower.manifest import DataFolderError
from an8flower.protocol import Split
from an8flower.resizing import resize_image, resize_mask
from benchmark.device import device_holding, device_of
from benchmark.models import models
from benchmark.training.loader import Images
from benchmark.training.weights import Trained, load_model
from explainers.vebi import Explanation, Interpretation, Selection, SelectionError, Vebi, interpret
from explainers.vebi.figures import explanation_figure
from explainers.vebi.selector import weights_sha256

TOGETHER = 100  # images explained at once


@dataclass(frozen=True)
class Explained:
    """Why a model sees a class in one image, or in several.

    Args:
        paths: where the images come from.
        images: (N, 3, H, W) float32 in [0, 1], as the model sees them.
        masks: (H, W) bool of each image, or None where it is not known.
        classes: names of all classes.
        probabilities: (N, C), softmax of the logits.
        explanation: features, heatmaps, and their combination.
        layers: how many layers the model has.
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
        """One of the images."""
        k = range(len(self))[index]
        one = slice(k, k + 1)
        explanation = Explanation(
            self.explanation.targets[one],
            self.explanation.evidence[one],
            self.explanation.heatmaps[one],
            self.explanation.combined[one],
        )
        return replace(
            self,
            paths=self.paths[one],
            images=self.images[one],
            masks=self.masks[one],
            probabilities=self.probabilities[one],
            explanation=explanation,
        )

    def figure(self) -> Figure:
        """The paper's figure 6: a line an image."""
        titles = [self._title(k) for k in range(len(self))]
        return explanation_figure(self.images, self.explanation, self.layers, titles, masks=self.masks)

    def facts(self) -> list[dict[str, Any]]:
        """For each image labels, confidence and features, as written to JSON."""
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
                    "layer": one.layer.name,
                    "layer_number": one.layer.number,
                    "layers": self.layers,
                    "kind": one.layer.kind,
                    "channel": one.channel,
                    "relevance": one.relevance,
                }
                for one in evidence
            ],
        }

    def _title(self, k: int) -> str:
        facts = self._facts(k)
        said = f"{facts['predicted']}, {facts['confidence']:.1%}"
        if facts["target"] == facts["predicted"]:
            return said
        return f"predicted {said}\nwhy {facts['target']}, {facts['target_confidence']:.1%}?"


def explain(
    images: str | Path | Sequence[str | Path],
    checkpoint: str | Path,
    *,
    root: str | Path = "data",
    explainer: str = "vebi",
    target: str | int | None = None,
    top: int = 3,
    device: str = "cpu",
) -> Explained:
    """Explain a trained model's decisions about pictures through the features it uses.

    Features are selected on the model's own training fold the first time, and kept beside the weights.

    Args:
        images: paths of pictures; one that is not square is cropped to its middle.
        checkpoint: weights (.safetensors) that `train` wrote.
        root: folder that holds the dataset; needed the first time.
        explainer: "vebi" or one that shares its features: "vebi_all", "vebi_nearest", "deconv_gb",
            "upsampled_activations".
        target: class to explain, by name or number from 0; the predicted one by default.
        top: features an image.
        device: where the model runs, "cpu", "cuda", "mps" or "auto"; what is returned is on the CPU.
    Raises:
        DataFolderError: if weights, data or a picture are missing or damaged.
        ValueError: for another explainer or an unknown class.
    """
    paths = tuple(map(Path, [images] if isinstance(images, str | Path) else images))
    if not paths:
        raise ValueError("name at least one image to explain")
    place = device_of(device)
    trained = load_model(checkpoint, device=place)
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
            there = part.to(place)
            with torch.no_grad():
                probabilities.append(trained.model(there).softmax(dim=1).cpu())
            targets = probabilities[-1].argmax(1) if asked is None else torch.full((len(part),), asked)
            parts.append(method.explain(trained.model, there, targets.to(place)))
            advance(len(part))
    together = Explanation(
        torch.cat([one.targets for one in parts]).cpu(),
        tuple(evidence for one in parts for evidence in one.evidence),
        torch.cat([one.heatmaps for one in parts]).cpu(),
        torch.cat([one.combined for one in parts]).cpu(),
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
    """What the selected features of a trained model look for in its training images.

    Args:
        checkpoint, root, device: as in `explain`.
        top, of_class: as in `explainers.vebi.interpret`.
    Returns:
        the interpretations, the selection, and the names of the classes.
    Raises:
        DataFolderError: if weights or data are missing or damaged.
    """
    trained = load_model(checkpoint, device=device)
    selection = selection_of(trained, checkpoint, root)
    loader = Images(fold_of(trained, root, "train"), device=device_of(device))
    return interpret(trained.model, loader, selection, top=top, of_class=of_class), selection, tuple(
        trained.record["classes"]
    )  # fmt: skip


def selection_of(trained: Trained, checkpoint: str | Path, root: str | Path) -> Selection:
    """The features of a trained model: read from beside its weights, or selected and written there."""
    path = Path(checkpoint).with_suffix(".selection.json")
    if path.exists():
        try:
            found = Selection.load(path)
            if found.weights_sha256 == weights_sha256(trained.model):
                return found
        except SelectionError:
            pass  # made again, as one for other weights is
    method = cast(Vebi, methods.get("vebi").method)
    loader = Images(fold_of(trained, root, "train"), device=device_holding(trained.model))
    selection = method.fit(trained.model, loader).selection
    selection.save(path)
    return selection


def class_number(target: str | int, classes: Sequence[str]) -> int:
    """The number of a class given by name or number.

    >>> class_number("blue", ["red", "blue"]), class_number("0", ["red", "blue"])
    (1, 0)
    """
    if target in classes:
        return classes.index(str(target))
    if str(target).isdecimal() and int(target) < len(classes):
        return int(target)
    raise ValueError(
        f"there is no class {target!r}; there are {', '.join(classes)}, or 0 to {len(classes) - 1}"
    )


def fold_of(trained: Trained, root: str | Path, split: Split) -> An8Flower:
    """The images that a model was trained on ("train"), or never saw ("test"), at its size.

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
        folds=identity["folds"],
    )
    if data.manifest.images_digest != identity["dataset_digest"]:
        raise DataFolderError(
            f"{data.manifest.folder} is not the dataset that the model was trained on; "
            "features are selected, and methods compared, on its own images"
        )
    return data


def _selecting() -> tuple[str, ...]:
    every = {name: methods.registry.get(name) for name in methods.names()}
    return tuple(name for name, spec in every.items() if getattr(spec.build, "func", None) is Vebi)


def _read(path: Path, size_px: int) -> torch.Tensor:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        raise DataFolderError(f"there is no image {path}") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataFolderError(f"{path} is no readable image: {error}") from None
    side = min(upright.size)
    square = ImageOps.fit(upright, (side, side)) if upright.size != (side, side) else upright
    pixels = resize_image(np.asarray(square, np.uint8), size_px)
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255


def _mask(path: Path, size_px: int) -> torch.Tensor | None:
    """The mask of an image that lies in a generated dataset."""
    folders = list(path.absolute().parts)
    if len(folders) < 3 or folders[-3] != "images":
        return None
    folders[-3] = "masks"
    mask = Path(*folders)
    if not mask.is_file():
        return None
    pixels: NDArray[np.uint8] = png.decode(mask.read_bytes())
    return torch.from_numpy(resize_mask(pixels > 0, size_px))
