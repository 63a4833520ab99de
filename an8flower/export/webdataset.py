"""Export to WebDataset: tar files that training can stream."""

from __future__ import annotations

import json
from pathlib import Path

from an8flower.export.base import KINDS, Entry, ExportSpec, Source, exports


def write(source: Source, folder: Path, *, shard_images: int = 1000) -> None:
    """Write the shards `<variant>-000000.tar` and so on; with a fold `<variant>-train-000000.tar`.

    A sample has `image.png`, `mask.png`, `parts.png` and `json`; its key is e.g. "class1_img1_p1_r1".

    Args:
        source: the dataset.
        folder: folder to write to.
        shard_images: number of samples per shard; the last shard may have fewer.
    Raises:
        ValueError: if `shard_images` is less than 1.

    Source: https://github.com/webdataset/webdataset
    """
    from webdataset import TarWriter

    if shard_images < 1:
        raise ValueError(f"shard_images must be at least 1, got {shard_images}")
    for split, unordered in source.splits.items():
        # Classes alternate: readers shuffle within a buffer, which a single class must not fill.
        entries = sorted(unordered, key=lambda entry: (entry.view, entry.crop, entry.rotation, entry.label))
        stem = "-".join(filter(None, [source.manifest.header["variant"], split]))
        for shard, start in enumerate(range(0, len(entries), shard_images)):
            # mtime=0 gives the same bytes in every run; otherwise the writer stores the current time.
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
