"""The gallery: test images with the heatmaps of all methods, and how it is stored."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from an8flower.ground import files
from an8flower.ground.digest import check_digest, read_json, with_digest
from benchmark.record import Json
from benchmark.record_checks import AMOUNT, OBJECT, TEXT, WHOLE, Rule, list_of, require_all

SCHEMA_VERSION = 2


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
        about = _read(folder / "pictures.json", _ABOUT)
        # Schema version 1 had no digest of the file; the entry of this name was that of the data.
        of_data = about["digest"] if about["schema_version"] == 1 else about["dataset_digest"]
        if of_data != digest:
            return Gallery()
        for picture in about["pictures"]:
            require_all(picture, _PICTURE)
        pictures = tuple(Picture(**picture) for picture in about["pictures"])
    except (OSError, ValueError, KeyError, TypeError):
        return Gallery()
    strips = {}
    for name, key in keys.items():
        try:
            content = _read(_file(folder, name), _STRIP)
            strip = Strip(**{entry: content[entry] for entry in _STRIP})
        except (OSError, ValueError, TypeError):
            continue
        if (strip.explainer, strip.key, len(strip.scores)) == (name, key, len(pictures)):
            strips[name] = replace(strip, scores=tuple(map(float, strip.scores)))
    return Gallery(about["size_px"], digest, pictures, strips)


def _read(path: Path, rules: Mapping[str, Rule]) -> Json:
    """Read a file of the gallery and check its content.

    Raises:
        ValueError: if it was altered, or is of another schema version.
    """
    content = read_json(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no object")
    if content.get("schema_version", 1) != 1:
        check_digest(content)
    require_all(content, rules)
    return content


def keep(results: str | Path, variant: str, model: str, gallery: Gallery, names: Sequence[str]) -> None:
    """Write the pictures and the heatmaps of some explainers; each file is written whole or not at all."""
    folder = _folder(results, variant, model)
    about = {
        "schema_version": SCHEMA_VERSION, "dataset_digest": gallery.digest, "size_px": gallery.size_px,
        "pictures": [asdict(picture) for picture in gallery.pictures],
    }  # fmt: skip
    files.write_json(folder / "pictures.json", with_digest(about))
    for name in names:
        strip = {"schema_version": SCHEMA_VERSION, **asdict(gallery.strips[name])}
        files.write_json(_file(folder, name), with_digest(strip))


def _folder(results: str | Path, variant: str, model: str) -> Path:
    return Path(results) / variant / model / "gallery"


def _file(folder: Path, explainer: str) -> Path:
    return folder / "heatmaps" / f"{quote(explainer, safe='@=,()&')}.json"


def _is_base64(text: Any) -> bool:
    """Check data that goes into the page's URLs and paths, since a results folder may be from anyone."""
    try:
        return isinstance(text, str) and base64.b64decode(text, validate=True) is not None
    except ValueError:
        return False


_WEBP: Rule = (_is_base64, "a picture")
_ABOUT: dict[str, Rule] = {
    "schema_version": (lambda value: value in (1, SCHEMA_VERSION), f"1 or {SCHEMA_VERSION}"),
    "size_px": WHOLE,
    "pictures": list_of(OBJECT),
}
_PICTURE: dict[str, Rule] = {
    **dict.fromkeys(("label", "predicted"), TEXT),
    **dict.fromkeys(("view", "crop", "rotation"), WHOLE),
    "webp": _WEBP,
    "outline": (lambda value: TEXT[0](value) and set(value) <= set("MLZ0123456789. -"), "an outline"),
    "area": AMOUNT,
}
_STRIP: dict[str, Rule] = {"explainer": TEXT, "key": TEXT, "webp": _WEBP, "scores": list_of(AMOUNT)}
