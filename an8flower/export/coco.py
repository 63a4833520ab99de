"""Export to COCO: bounding boxes and run-length masks in one JSON file, and the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from an8flower import png
from an8flower.export.base import Entry, ExportSpec, Source, copy, exports
from an8flower.ground import files


def write(source: Source, folder: Path) -> None:
    """Write `annotations/instances.json` and `images/`, with one annotation per image.

    With a fold, write `annotations/instances_train.json` with `images/train/`, and the same for "test", as
    COCO does. Part ids are not written, since the format has no field for them.

    Source: https://cocodataset.org/#format-data
    """
    header = source.manifest.header
    for split, entries in source.splits.items():
        images, annotations = [], []
        for entry in entries:
            copy(source, entry, "image", folder / "images" / split / f"{entry.name}.png")
            annotation = _annotation(entry, source.read(entry, "mask"))
            height, width = annotation["segmentation"]["size"]
            images.append(
                {"id": image_id(entry), "file_name": f"{entry.name}.png", "width": width, "height": height}
            )
            annotations.append(annotation)
            source.advance(1)
        document = {
            "info": {
                "description": f"an8Flower {header['variant']}",
                "version": header["versions"]["an8flower"],
            },
            "licenses": [],
            "categories": [
                {"id": class_id, "name": spec["name"], "supercategory": spec["part"]}
                for class_id, spec in enumerate(header["classes"], start=1)
            ],
            "images": images,
            "annotations": annotations,
        }
        name = f"instances_{split}.json" if split else "instances.json"
        files.write(folder / "annotations" / name, (json.dumps(document) + "\n").encode())


def image_id(entry: Entry) -> int:
    """Return an id with the same digits as the file name; it is the same in every fold and split.

    >>> image_id(Entry("class12_img4_p5_r1", 12, "", view=4, crop=5, rotation=1, mask_area_px=9, files={}))
    120451
    """
    return entry.class_id * 10_000 + entry.view * 100 + entry.crop * 10 + entry.rotation


def _annotation(entry: Entry, mask: bytes) -> dict[str, Any]:
    from pycocotools import mask as coco

    # COCO's run lengths are in column order.
    rle = coco.encode(np.asfortranarray(png.decode(mask) > 0, np.uint8))
    return {
        "id": image_id(entry),
        "image_id": image_id(entry),
        "category_id": entry.class_id,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "area": int(coco.area(rle)),
        "bbox": coco.toBbox(rle).tolist(),
        # COCO's own files use run lengths for crowds only. But evaluation ignores crowds, and this is one
        # object to detect. Readers recognise the encoding by its type.
        "iscrowd": 0,
    }


exports.add(
    ExportSpec(
        name="coco",
        write=write,
        source="https://cocodataset.org/#format-data",
        extra="coco",
        library="pycocotools",
    )
)
