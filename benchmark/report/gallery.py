"""The gallery: test images with the heatmaps of all methods, and how it is stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from an8flower.ground import files

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Picture:
    """One image.

    Args:
        label, predicted: names of the true class and of the predicted one, which is explained.
        view, crop, rotation: from 1, as in the file name.
        webp: the image as WebP, base64.
        outline: outline of the mask, an SVG path in pixels of the image.
        area: area of the mask, percent of the image.
    """

    label: str
    predicted: str
    view: int
    crop: int
    rotation: int
    webp: str
    outline: str
    area: float


@dataclass(frozen=True)
class Strip:
    """One method's heatmaps of all pictures, one below the other.

    Args:
        explainer: its name.
        key: key of its record.
        webp: grey WebP, base64; each map is scaled to its own range.
        scores: IoU-AUC of each heatmap, percent.
    """

    explainer: str
    key: str
    webp: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures and heatmaps of one variant and model.

    Args:
        size_px: side of a picture and of a heatmap.
        digest: digest of the data that the pictures are from.
        pictures: the images.
        strips: explainer to its heatmaps.
        left_out: explainer without heatmaps to the reason.
        note: why the gallery is empty, for readers of the page.
        cause: the same with paths, for the user who creates the page.
    """

    size_px: int = 0
    digest: str = ""
    pictures: tuple[Picture, ...] = ()
    strips: Mapping[str, Strip] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    cause: str = ""


def kept(results: str | Path, variant: str, model: str, digest: str, keys: Mapping[str, str]) -> Gallery:
    """Read the stored pictures and heatmaps that belong to the records.

    Args:
        results, variant, model: the gallery is in `<results>/<variant>/<model>/gallery`.
        digest: digest of the data that the records were measured on.
        keys: explainer to the key of its record.
    """
    folder = _folder(results, variant, model)
    try:
        about = json.loads((folder / "pictures.json").read_text())
        if (about["schema_version"], about["digest"]) != (SCHEMA_VERSION, digest):
            return Gallery()
        pictures = tuple(Picture(**picture) for picture in about["pictures"])
        size_px = int(about["size_px"])
        if not all(map(_is_whole, pictures)):
            return Gallery()
    except (OSError, ValueError, KeyError, TypeError):
        return Gallery()
    strips = {}
    for name, key in keys.items():
        try:
            strip = Strip(**json.loads(_file(folder, name).read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if (strip.explainer, strip.key, len(strip.scores)) == (name, key, len(pictures)) and _is_base64(
            strip.webp
        ):
            strips[name] = replace(strip, scores=tuple(map(float, strip.scores)))
    return Gallery(size_px, digest, pictures, strips)


def keep(results: str | Path, variant: str, model: str, gallery: Gallery, names: Sequence[str]) -> None:
    """Write the pictures and the heatmaps of some explainers; each file is written whole or not at all."""
    folder = _folder(results, variant, model)
    about = {
        "schema_version": SCHEMA_VERSION, "digest": gallery.digest, "size_px": gallery.size_px,
        "pictures": [asdict(picture) for picture in gallery.pictures],
    }  # fmt: skip
    files.write_json(folder / "pictures.json", about)
    for name in names:
        files.write_json(_file(folder, name), asdict(gallery.strips[name]))


def _folder(results: str | Path, variant: str, model: str) -> Path:
    return Path(results) / variant / model / "gallery"


def _file(folder: Path, explainer: str) -> Path:
    return folder / "heatmaps" / f"{quote(explainer, safe='@=,()&')}.json"


def _is_whole(picture: Picture) -> bool:
    return _is_base64(picture.webp) and set(picture.outline) <= set("MLZ0123456789. -")


def _is_base64(text: str) -> bool:
    """Check data that goes into the page's URLs and paths, since a results folder may be from anyone."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
