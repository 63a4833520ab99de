"""Export a generated dataset to the formats of other tools; each format is a module of this package.

>>> "coco" in names()
True
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from an8flower.export.base import ExportSpec, Source, exports, splits_of
from an8flower.ground import files
from an8flower.ground.progress import progress
from an8flower.ground.registry import MissingExtraError
from an8flower.manifest import Manifest, read_manifest, require_complete

__all__ = ["ExportSpec", "MissingExtraError", "export", "exports", "names"]


def export(
    root: str | Path, variant: str, to: str, out: str | Path, *, fold: int | None = None, **options: Any
) -> Path:
    """Export a generated dataset to the format of another tool.

    Every file is checked against its recorded hash when it is read. Equal datasets give equal bytes. A run
    that fails or is interrupted leaves no folder `out`, and the same call starts again. If `out` has exactly
    the files that this call would write, it is left as it is.

    Args:
        root: folder that holds one folder per variant.
        variant: name of a generated variant.
        to: name of the format; see `names`.
        out: folder to create; it may exist if it is empty or has this very export.
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
            by the format, a dataset without images, or a folder `out` that has anything else.
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
    with _staging(target) as folder:
        # Perhaps a call that was interrupted at its very end has written it; this takes an export to know.
        finished = _has_as_much(target, manifest)
        if not finished:
            _require_free(target)
        title = f"export {variant} to {to}"
        with nullcontext(_silent) if finished else progress(title, total, "images") as advance:
            spec.write(Source(manifest, splits, advance), folder, **options)
        if not finished:
            _move(folder, target)
        elif not _same_files(target, folder):
            raise _occupied(target)
    return Path(out)


def names() -> tuple[str, ...]:
    """Return the names of all formats, from this package and from plug-ins."""
    return exports.names()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, which is deleted at the end; only one process at a time has it."""
    staging = out.with_name(f".{out.name}{files.TEMPORARY}")
    with files.locked(staging):
        try:
            # A subfolder, because the staging folder itself holds the lock file.
            folder = staging / "export"
            shutil.rmtree(folder, ignore_errors=True)  # left by an export that was killed
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _move(folder: Path, out: Path) -> None:
    _require_free(out)  # somebody may have used it in the meantime
    for litter in out.iterdir() if out.exists() else ():
        litter.unlink()
    folder.replace(out)


def _require_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and all(map(files.is_litter, out.iterdir()))):
        raise _occupied(out)


def _occupied(out: Path) -> ValueError:
    return ValueError(f"{out} exists and is not empty; choose another folder or move it away")


def _has_as_much(out: Path, manifest: Manifest) -> bool:
    """Return whether a folder has at least as many bytes as the images of a dataset have."""
    if not out.is_dir():
        return False
    left = int(manifest.of_kind("image")["size_bytes"].sum())
    for path in out.rglob("*"):
        left -= path.stat().st_size if path.is_file() else 0
        if left <= 0:
            return True
    return False


def _same_files(out: Path, folder: Path) -> bool:
    """Return whether both folders have the same files with the same bytes; litter does not count."""
    left = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for path in out.rglob("*"):
        if path.is_file() and not files.is_litter(path):
            name = path.relative_to(out)
            if name not in left or not filecmp.cmp(path, folder / name, shallow=False):
                return False
            left.remove(name)
    return not left


def _silent(_: int) -> None:
    pass


def _listed(options: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in options) or "none"
