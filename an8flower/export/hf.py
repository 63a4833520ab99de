"""Export to a Hugging Face dataset: images with `metadata.jsonl`, as its `imagefolder` loader reads them."""

from __future__ import annotations

import json
from pathlib import Path

from an8flower.export.base import KINDS, Entry, ExportSpec, Source, copy, exports
from an8flower.ground import files

# The loader reads each column whose name ends in "file_name" as an image; "file_name" becomes "image".
COLUMNS = {"image": "file_name", "mask": "mask_file_name", "parts": "parts_file_name"}
FOLDERS = {"image": "images", "mask": "masks", "parts": "parts"}


def write(source: Source, folder: Path) -> None:
    """Write `metadata.jsonl` with `images/`, `masks/` and `parts/`, and a `README.md`.

    With a fold, these are in `train/` and `test/`, which the loader reads as splits.
    `load_dataset("imagefolder", data_dir=folder)` returns labels as numbers; `load_dataset(folder)` reads
    the header of the README first, and so has the names of the labels, too.

    Source: https://huggingface.co/docs/datasets/image_dataset#imagefolder
    """
    for split, entries in source.splits.items():
        lines = []
        for entry in entries:
            for kind in KINDS:
                copy(source, entry, kind, folder / split / _file_name(entry, kind))
            names = {COLUMNS[kind]: _file_name(entry, kind) for kind in KINDS}
            lines.append(json.dumps({**names, **entry.facts}) + "\n")
            source.advance(1)
        files.write(folder / split / "metadata.jsonl", "".join(lines).encode())
    files.write(folder / "README.md", _card(source).encode())


def _file_name(entry: Entry, kind: str) -> str:
    return f"{FOLDERS[kind]}/{entry.name}.png"


def _card(source: Source) -> str:
    """Return the dataset card; its YAML header has the names of the labels, which JSON lines cannot hold."""
    variant = source.manifest.header["variant"]
    facts = next(entry for entries in source.splits.values() for entry in entries).facts
    types = dict.fromkeys(KINDS, "image") | {
        name: "string" if isinstance(value, str) else "int64" for name, value in facts.items()
    }
    features = []
    for name, type_ in types.items():
        features.append(f"  - name: {name}")
        if name != "label":
            features.append(f"    dtype: {type_}")
            continue
        features += ["    dtype:", "      class_label:", "        names:"]
        # A JSON string is a valid YAML string.
        features += [f"          '{label}': {json.dumps(text)}" for label, text in enumerate(source.classes)]
    header = ["---", "configs:", "- config_name: default", "  features:", *features, "---"]
    text = [
        f"# an8Flower {variant}",
        "",
        "Rendered plants with the exact pixels that decide the class: `mask` is 255 there, and",
        "`parts` numbers every part of the plant.",
        "",
    ]
    return "\n".join(header + text)


exports.add(
    ExportSpec(
        name="hf",
        write=write,
        source="https://huggingface.co/docs/datasets/image_dataset#imagefolder",
    )
)
