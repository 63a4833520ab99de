"""A generated dataset in the formats of other tools, one file a format.

>>> "coco" in names()
True
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from an8flower.export.base import ExportSpec, Source, exports, splits_of
from an8flower.ground import files
from an8flower.ground.progress import progress
from an8flower.ground.registry import MissingExtraError
from an8flower.manifest import read_manifest, require_complete

__all__ = ["ExportSpec", "MissingExtraError", "export", "exports", "names"]


def export(
    root: str | Path, variant: str, to: str, out: str | Path, *, fold: int | None = None, **options: Any
) -> Path:
    """Write a generated dataset in another tool's format.

    Every file is checked against its recorded hash as it is read, and equal data give equal
    bytes. A run that fails or is killed leaves nothing under the name `out`.

    Args:
        root: folder that holds a folder for each variant.
        variant: name of a generated variant.
        to: name of the format; see `names`.
        out: folder to make; it may exist if it is empty.
        fold: from 0 to 4, to write its training and test images apart; None writes all as one.
        options: the format's own, e.g. `shard_images` of "webdataset".
    Returns:
        `out`.
    Raises:
        UnknownNameError: if there is no such format or variant.
        MissingExtraError: if the format's library is not installed.
        DataFolderError: naming a missing or altered file and the command that mends it.
        ValueError: for an unknown option, a fold that the format or the data do not have, or an
            `out` that is not empty.
        BlockingIOError: if another process is exporting to `out`.
    """
    spec = exports.get(to)
    for name in options:
        if name not in spec.options:
            raise ValueError(f"export to {to} has no option {name!r}; it has {_listed(spec.options)}")
    if fold is not None and not spec.splits:
        raise ValueError(f"export to {to} has no training and test split; leave the fold out")
    manifest = read_manifest(root, variant)
    require_complete(manifest)
    splits = splits_of(manifest, fold)
    spec.require_library()
    total = sum(len(entries) for entries in splits.values())
    target = Path(out).resolve()
    if spec.in_place and target == manifest.folder.resolve():
        with progress(f"export {variant} to {to}", total, "images") as advance:
            spec.write(Source(manifest, splits, advance), target, **options)
        return Path(out)
    with _staged(target) as folder, progress(f"export {variant} to {to}", total, "images") as advance:
        spec.write(Source(manifest, splits, advance), folder, **options)
    return Path(out)


def names() -> tuple[str, ...]:
    """All formats, built in or plugged in."""
    return exports.names()


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """An empty folder that becomes `out` if all goes well, and vanishes if not."""
    _require_free(out)
    workplace = out.with_name(f".{out.name}{files.TEMPORARY}")
    with files.locked(workplace):
        try:
            _require_free(out)  # another process may have ended between the look and the lock
            # Not the workplace itself, which holds the lock.
            folder = workplace / "export"
            shutil.rmtree(folder, ignore_errors=True)  # what a killed export left behind
            folder.mkdir()
            yield folder
            folder.replace(out)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _require_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; choose another folder or move it away")


def _listed(options: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in options) or "none"
