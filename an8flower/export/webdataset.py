"""WebDataset: tar files that a training job streams."""

from __future__ import annotations

import json
from pathlib import Path

from an8flower.export.base import KINDS, Entry, ExportSpec, Source, exports


def write(source: Source, folder: Path, *, shard_images: int = 1000) -> None:
    """Write `<variant>-000000.tar` and so on; with a fold `<variant>-train-000000.tar`.

    A sample has `image.png`, `mask.png`, `parts.png` and `json`, under a key such as
    class1_img1_p1_r1.

    Args:
        shard_images: samples in a shard; the last may have fewer.
    Raises:
        ValueError: if a shard would have no sample.

    Source: https://github.com/webdataset/webdataset
    """
    from webdataset import TarWriter

    if shard_images < 1:
        raise ValueError(f"shard_images is {shard_images}, but a shard holds at least one")
    for split, unordered in source.splits.items():
        # Classes take turns: a reader shuffles within a buffer, which one class must not fill.
        entries = sorted(unordered, key=lambda entry: (entry.view, entry.crop, entry.rotation, entry.label))
        stem = "-".join(filter(None, [source.manifest.header["variant"], split]))
        for shard, start in enumerate(range(0, len(entries), shard_images)):
            # The writer's other fields are fixed; without a time of its own it takes the clock's.
            with (
                (folder / f"{stem}-{shard:06d}.tar").open("wb") as file,
                TarWriter(file, encoder=False, mtime=0) as tar,
            ):
                for entry in entries[start : start + shard_images]:
                    tar.write(_sample(source, entry))
                    source.advance(1)


def _sample(source: Source, entry: Entry) -> dict[str, str | bytes]:
    pictures = {f"{kind}.png": source.read(entry, kind) for kind in KINDS}
    return {"__key__": entry.name, **pictures, "json": json.dumps(entry.facts).encode()}


exports.add(
    ExportSpec(
        name="webdataset",
        write=write,
        source="https://github.com/webdataset/webdataset",
        extra="webdataset",
        library="webdataset",
    )
)
