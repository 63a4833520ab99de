"""Export a generated dataset to the formats of other tools; each format is a module of this package.

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
    """Export a generated dataset to the format of another tool.

    Every file is checked against its recorded hash when it is read. Equal datasets give equal bytes. A run
    that fails or is killed leaves no folder `out`.

    Args:
        root: folder that holds one folder per variant.
        variant: name of a generated variant.
        to: name of the format; see `names`.
        out: folder to create; it may exist if it is empty.
        fold: from 0 to 4, to write training and test images of this fold separately; None writes all
            images together.
        options: options of the format, e.g. `shard_images` of "webdataset".
    Returns:
        `out`.
    Raises:
        UnknownNameError: if there is no such format or variant.
        MissingExtraError: if the library of the format is not installed.
        DataFolderError: if a file is missing or altered; the message names the file and the command that
            repairs it.
        ValueError: for an unknown option, a fold that does not exist, has no images or is not supported
            by the format, or a folder `out` that is not empty.
        BlockingIOError: if another process is exporting to `out`.
    """
    spec = exports.get(to)
    for name in options:
        if name not in spec.options:
            raise ValueError(f"export to {to} has no option {name!r}; it has {_listed(spec.options)}")
    if fold is not None and not spec.splits:
        raise ValueError(f"export to {to} has no training and test split; call it without a fold")
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
    """Return the names of all formats, from this package and from plug-ins."""
    return exports.names()


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `out` at the end, or deleted on an error."""
    _require_free(out)
    staging = out.with_name(f".{out.name}{files.TEMPORARY}")
    with files.locked(staging):
        try:
            _require_free(out)  # another process may have finished before this one got the lock
            # A subfolder, because the staging folder itself holds the lock file.
            folder = staging / "export"
            shutil.rmtree(folder, ignore_errors=True)  # left by an export that was killed
            folder.mkdir()
            yield folder
            folder.replace(out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _require_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty; choose another folder or move it away")


def _listed(options: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in options) or "none"
