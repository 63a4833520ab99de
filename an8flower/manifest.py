"""The manifest of a dataset folder: a table of all files with their hashes, and a header on their origin."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from an8flower.ground import files
from an8flower.ground.registry import unknown
from an8flower.ground.shown import html_table

SCHEMA_VERSION = 1
HEADER, TABLE = "manifest.json", "manifest.parquet"
KEYS = ["kind", "class", "view", "crop", "rotation"]
COLUMNS = [*KEYS, "path", "sha256", "size_bytes", "mask_area_px"]
# Kinds of file and their folders.
KINDS: dict[str, str] = {
    "frame": "frames",
    "frame_parts": "frame_parts",
    "image": "images",
    "mask": "masks",
    "parts": "parts",
    "part_only_frame": "twins/part_only/frames",
    "part_only": "twins/part_only/images",
    "all_but_part_frame": "twins/all_but_part/frames",
    "all_but_part": "twins/all_but_part/images",
}
_HEADER_KEYS = ("variant", "seed", "classes", "factors", "views", "part_ids", "fingerprints", "digest")
TWINS = ("part_only", "all_but_part")


class DataFolderError(ValueError):
    """A dataset folder that does not match its manifest; the message names the command to run."""


@dataclass(frozen=True)
class Manifest:
    """The manifest of one variant.

    Args:
        folder: `<root>/<variant>`.
        header: schema version, variant, seed, classes, part ids, package versions, renderers.
        table: one row per file: kind, class, view, crop and rotation (from 1; crop and rotation are 0
            for a whole frame), path within the folder, sha256, size_bytes, mask_area_px; and one
            column for each factor that was set, with its value in that view.
    """

    folder: Path
    header: Mapping[str, Any]
    table: pd.DataFrame

    def __repr__(self) -> str:
        classes, views = len(self.header["classes"]), len(self.header["views"])
        return f"Manifest({self.folder}: {classes} classes, {views} views, {len(self.table)} files)"

    def _repr_html_(self) -> str:
        counts = self.table["kind"].value_counts(sort=False)
        sizes = self.table.groupby("kind")["size_bytes"].sum() / 2**20
        rows = [(kind, count, f"{sizes[kind]:.1f} MiB") for kind, count in counts.items()]
        return html_table(["kind", "files", "size"], rows, repr(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the paths and hashes of all files; datasets with equal files have equal digests."""
        return _digest(self.table)

    @cached_property
    def images_digest(self) -> str:
        """SHA-256 as `digest`, without the twins; models and their scores depend on these files only."""
        twins = [kind for kind, folder in KINDS.items() if folder.startswith("twins/")]
        return _digest(self.table[~self.table["kind"].isin(twins)])

    @property
    def factors(self) -> pd.DataFrame:
        """The values of the factors that were set: one row per view (the index), one column per factor."""
        names = list(self.header["factors"])
        return self.table.drop_duplicates("view").set_index("view")[names].sort_index()

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Return the rows of one kind of file, sorted by class, view, crop and rotation."""
        return self.table[self.table["kind"] == kind].sort_values(KEYS).reset_index(drop=True)


def _digest(table: pd.DataFrame) -> str:
    rows = table.sort_values("path")
    lines = (rows["sha256"] + "  " + rows["path"]).str.cat(sep="\n")
    return hashlib.sha256(lines.encode()).hexdigest()


def file_path(kind: str, class_id: int, view: int, crop: int = 0, rotation: int = 0) -> str:
    """Return the path of a file within its variant's folder; crop and rotation are 0 for a whole frame.

    >>> file_path("mask", class_id=2, view=11, crop=5, rotation=1)
    'masks/class2/class2_img11_p5_r1.png'
    """
    derived = f"_p{crop}_r{rotation}" if crop else ""
    return f"{KINDS[kind]}/class{class_id}/class{class_id}_img{view}{derived}.png"


def write_manifest(manifest: Manifest) -> None:
    """Write table and header; the header is written last and so marks the folder as complete."""
    table = manifest.table.sort_values(KEYS)
    (manifest.folder / HEADER).unlink(missing_ok=True)
    files.write_with(manifest.folder / TABLE, lambda path: table.to_parquet(path, index=False))
    files.write_json(manifest.folder / HEADER, {**manifest.header, "digest": manifest.digest})


def read_manifest(root: str | Path, variant: str) -> Manifest:
    """Read the manifest of a variant under `root`.

    Raises:
        DataFolderError: if it is missing, has another schema version, was altered, or names a path
            outside its folder.
        UnknownNameError: if it is missing and no such variant is registered.
    """
    folder = Path(root) / variant
    header_path, table_path = folder / HEADER, folder / TABLE
    if not header_path.is_file() or not table_path.is_file():
        _require_known(variant)
        raise DataFolderError(f"no complete dataset in {folder}; run '{command(root, variant)}'")
    try:
        header = json.loads(header_path.read_text())
        version = header["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(f"{header_path} is not a valid manifest header: {error!r}") from error
    if version != SCHEMA_VERSION:
        raise DataFolderError(
            f"{header_path} has schema version {version!r}, but this release reads {SCHEMA_VERSION}; "
            f"move {folder} away and run '{command(root, variant)}'"
        )
    missing = [name for name in _HEADER_KEYS if name not in header]
    if missing:
        raise DataFolderError(f"{header_path} is not a valid manifest header: it lacks {', '.join(missing)}")
    try:
        table = pd.read_parquet(table_path)
        manifest = Manifest(folder, header, table[[*COLUMNS, *header["factors"]]])
        digest = manifest.digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFolderError(f"{table_path} is not a valid manifest table: {error}") from error
    for path in table["path"]:
        if path.startswith("/") or ".." in path.split("/"):
            raise DataFolderError(f"{table_path} names a path outside its folder: {path}")
    if digest != header.get("digest"):
        raise DataFolderError(
            f"{table_path} does not match {HEADER}: its digest is {digest[:12]}, "
            f"not {str(header.get('digest'))[:12]}; move {folder} away and run '{command(root, variant)}'"
        )
    return manifest


def require_complete(manifest: Manifest) -> None:
    """Check that every file exists and has the recorded size; it takes a fraction of a second.

    Raises:
        DataFolderError: for the first file that is missing or has another size; the message names the
            command that redraws it.
    """
    # Listing each folder once is several times as fast as checking each file.
    folders: dict[str, dict[str, int]] = {}
    for path, size in zip(manifest.table["path"], manifest.table["size_bytes"], strict=True):
        parent, _, name = path.rpartition("/")
        if parent not in folders:
            folders[parent] = _sizes(manifest.folder / parent)
        size_on_disk = folders[parent].get(name)
        if size_on_disk != size:
            what = "is missing" if size_on_disk is None else f"has {size_on_disk} bytes instead of {size}"
            raise damaged(manifest, manifest.folder / path, what)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder, links to files included."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def read_verified(manifest: Manifest, path: str, sha256: str) -> bytes:
    """Return the bytes of one file after a check against its recorded hash.

    Raises:
        DataFolderError: if the file is missing or altered; the message names the command that redraws it.
    """
    file = manifest.folder / path
    if not file.is_file():
        raise damaged(manifest, file, "is missing")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(manifest, file, "does not match its recorded SHA-256")
    return data


def damaged(manifest: Manifest, file: Path, what: str) -> DataFolderError:
    """Return the error for a damaged file, with the command that repairs it."""
    again = command(manifest.folder.parent, manifest.folder.name)
    return DataFolderError(f"{file} {what}; run '{again}' to redraw it")


def empty_split(manifest: Manifest, fold: int | None, split: str) -> ValueError:
    """Return the error for a split of a fold without images."""
    return ValueError(
        f"no image of {manifest.folder} is in split {split!r} of fold {fold}: it holds the views "
        f"{manifest.header['views']}; choose another fold or split, or generate more views"
    )


def command(root: str | Path, variant: str) -> str:
    """Return the command that generates, completes or repairs a dataset folder."""
    return f"an8flower generate --variant {variant} --root {root}"


def _require_known(variant: str) -> None:
    from an8flower.variants import variants

    if variant not in variants.names():
        raise unknown("variant", variant, variants.names())
