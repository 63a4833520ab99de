"""Test images with every method's heatmap: what the page's gallery shows, and what is kept of it."""

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
        label, predicted: names of its class and of the one the model sees, which is explained.
        view, crop, rotation: from 1, as in its file name.
        webp: the image, base64.
        outline: of the mask, an SVG path in pixels of the image.
        area: of the mask, percent of the image.
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
        explainer: its key.
        key: of the record that it belongs to.
        webp: grey, base64; each map scaled from its least value to its greatest.
        scores: IoU-AUC of each, percent.
    """

    explainer: str
    key: str
    webp: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Gallery:
    """What is shown of one variant and model.

    Args:
        size_px: side of a picture and of a heatmap.
        digest: of the data that the pictures are from.
        pictures: the images.
        strips: a row's heatmaps each, by explainer.
        left_out: for rows without heatmaps the reason.
        note: why there is nothing at all, for readers of the page.
        cause: the same for who makes it, with paths.
    """

    size_px: int = 0
    digest: str = ""
    pictures: tuple[Picture, ...] = ()
    strips: Mapping[str, Strip] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    cause: str = ""


def kept(results: str | Path, variant: str, model: str, digest: str, keys: Mapping[str, str]) -> Gallery:
    """What is kept of a gallery and still belongs to the records.

    Args:
        results, variant, model: where it lies, in `<results>/<variant>/<model>/gallery`.
        digest: of the data that the records were measured on.
        keys: for each explainer the key of its record.
    """
    folder = _folder(results, variant, model)
    try:
        about = json.loads((folder / "pictures.json").read_text())
        if (about["schema_version"], about["digest"]) != (SCHEMA_VERSION, digest):
            return Gallery()
        pictures = tuple(Picture(**one) for one in about["pictures"])
        size_px = int(about["size_px"])
        if not all(map(_is_whole, pictures)):
            return Gallery()
    except (OSError, ValueError, KeyError, TypeError):
        return Gallery()
    found = {}
    for name, key in keys.items():
        try:
            strip = Strip(**json.loads(_file(folder, name).read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if (strip.explainer, strip.key, len(strip.scores)) == (name, key, len(pictures)) and _is_base64(
            strip.webp
        ):
            found[name] = replace(strip, scores=tuple(map(float, strip.scores)))
    return Gallery(size_px, digest, pictures, found)


def keep(results: str | Path, variant: str, model: str, gallery: Gallery, names: Sequence[str]) -> None:
    """Write the pictures and the strips of some explainers, each file whole or not at all."""
    folder = _folder(results, variant, model)
    about = {
        "schema_version": SCHEMA_VERSION, "digest": gallery.digest, "size_px": gallery.size_px,
        "pictures": [asdict(one) for one in gallery.pictures],
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
    """What goes into the page's addresses and paths is checked, since a results folder may be anyone's."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
