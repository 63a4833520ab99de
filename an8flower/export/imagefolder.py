"""A folder a class, as `torchvision.datasets.ImageFolder` and many others read it."""

from __future__ import annotations

from pathlib import Path

from an8flower.export.base import KINDS, ExportSpec, Source, copy, exports, folder_name
from an8flower.ground import files

FOLDERS = {"image": "images", "mask": "masks", "parts": "parts"}


def write(source: Source, folder: Path) -> None:
    """Write `images/<class name>/`, and `masks/` and `parts/` with the same names below them.

    With a fold, all three lie under `train/` and under `test/`. Readers number classes by the
    alphabet, `An8Flower` by its own order: `classes.json` gives the label of each name.

    Source: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
    """
    for split, entries in source.splits.items():
        for entry in entries:
            for kind in KINDS:
                of_class = folder / split / FOLDERS[kind] / folder_name(entry.class_name)
                copy(source, entry, kind, of_class / f"{entry.name}.png")
            source.advance(1)
    files.write_json(folder / "classes.json", {name: label for label, name in enumerate(source.classes)})


exports.add(
    ExportSpec(
        name="imagefolder",
        write=write,
        source="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
    )
)
