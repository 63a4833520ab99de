"""Export to one folder per class, as `torchvision.datasets.ImageFolder` and other tools read it."""

from __future__ import annotations

from pathlib import Path

from an8flower.export.base import KINDS, ExportSpec, Source, copy, exports, folder_name
from an8flower.ground import files

FOLDERS = {"image": "images", "mask": "masks", "parts": "parts"}


def write(source: Source, folder: Path) -> None:
    """Write `images/<class name>/`, and the same folders in `masks/` and `parts/`.

    With a fold, all three are in `train/` and in `test/`. Readers number classes alphabetically, while
    `An8Flower` has its own order: `classes.json` maps class names to the labels of `An8Flower`.

    Source: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
    """
    for split, entries in source.splits.items():
        for entry in entries:
            for kind in KINDS:
                class_folder = folder / split / FOLDERS[kind] / folder_name(entry.class_name)
                copy(source, entry, kind, class_folder / f"{entry.name}.png")
            source.advance(1)
    files.write_json(folder / "classes.json", {name: label for label, name in enumerate(source.classes)})


exports.add(
    ExportSpec(
        name="imagefolder",
        write=write,
        source="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
    )
)
