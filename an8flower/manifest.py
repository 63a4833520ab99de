"""The manifest of a dataset folder: a table of all files with their hashes, and a header on their origin.

The header has the SHA-256 of the table's file, and a digest of itself. So a change to either is found before
anything in it is believed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from an8flower.ground import files
from an8flower.ground.digest import check_digest, read_json, with_digest
from an8flower.ground.registry import unknown
from an8flower.ground.shown import html_table
from an8flower.manifest_checks import COLUMNS, KEYS, KINDS, check_header, check_table, columns_of, file_path
from an8flower.protocol import PART_IDS
from an8flower.repair import command

__all__ = [
    "COLUMNS", "HEADER", "KEYS", "KINDS", "SCHEMA_VERSION", "TABLE", "TWINS", "DamagedManifestError",
    "DataFolderError", "Manifest", "columns_of", "command", "damaged", "empty_split", "file_path",
    "read_header", "read_manifest", "read_table", "read_verified", "require_complete", "write_manifest",
]  # fmt: skip

# Version 1 has no digest of header and table. It can be read, and `generate` turns it into version 2.
SCHEMA_VERSION = 2
HEADER, TABLE = "manifest.json", "manifest.parquet"
TWINS = ("part_only", "all_but_part")


class DataFolderError(ValueError):
    """A dataset folder that does not match its manifest; the message names the command to run."""


class DamagedManifestError(DataFolderError):
    """A header or table that is missing, or not what was written; `generate` draws the dataset again.

    Args:
        file: the header or the table.
        what: what is wrong with it, e.g. "is missing".
        again: the command that draws the dataset again.
    """

    def __init__(self, file: Path, what: str, again: str) -> None:
        super().__init__(file, what, again)
        self.file, self.what, self.again = file, what, again

    def __str__(self) -> str:
        return f"{self.file} {self.what}; run '{self.again}' to draw the dataset again"


@dataclass(frozen=True)
class Manifest:
    """The manifest of one variant.

    Args:
        folder: `<root>/<variant>`.
        header: schema version, variant, seed, classes, part ids, package versions, renderers, the digest of
            all files, the SHA-256 of the table, and the digest of the header itself.
        table: one row per file: kind, class, view, crop and rotation (from 1; crop and rotation are 0
            for a whole frame), path within the folder, sha256, size_bytes, mask_area_px; and one
            column for each factor that was set, with its value in that view. With the factor "cheat",
            there is also cheat_class, the class whose colour the cheat has, from 1.
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

    @property
    def cheat_id(self) -> int | None:
        """The part id of the cheat, or None if the dataset has none."""
        return PART_IDS.get(self.header["factors"].get("cheat", "none"))

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Return the rows of one kind of file, sorted by class, view, crop and rotation."""
        return self.table[self.table["kind"] == kind].sort_values(KEYS).reset_index(drop=True)


def _digest(table: pd.DataFrame) -> str:
    rows = table.sort_values("path")
    lines = (rows["sha256"] + "  " + rows["path"]).str.cat(sep="\n")
    return hashlib.sha256(lines.encode()).hexdigest()


def write_manifest(manifest: Manifest) -> None:
    """Write table and header; the header is written last and so marks the folder as complete."""
    (manifest.folder / HEADER).unlink(missing_ok=True)
    buffer = io.BytesIO()
    manifest.table.sort_values(KEYS).to_parquet(buffer, index=False)
    table = buffer.getvalue()
    files.write(manifest.folder / TABLE, table)
    header = {
        **manifest.header,
        "schema_version": SCHEMA_VERSION,
        "files_digest": manifest.digest,
        "table_sha256": hashlib.sha256(table).hexdigest(),
    }
    files.write_json(manifest.folder / HEADER, with_digest(header))


def read_manifest(root: str | Path, variant: str) -> Manifest:
    """Read the manifest of a variant under `root`.

    A manifest of schema version 2 is checked against its digests. One of version 1 has a digest of paths and
    hashes only; what follows from these and from the registered variant is checked, too.

    Raises:
        DamagedManifestError: if header or table is missing, or not what was written.
        DataFolderError: if there is no dataset, or one of a newer release or of another variant.
        UnknownNameError: if there is no dataset, and no such variant is registered.
    """
    folder = Path(root) / variant
    if not (folder / HEADER).exists() and not (folder / TABLE).exists():
        _require_known(variant)
        raise DataFolderError(f"no complete dataset in {folder}; run '{command(root, variant)}'")
    header = read_header(folder)
    return Manifest(folder, header, read_table(folder, header))


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of the manifest in a variant's folder; raise as `read_manifest`."""
    path, again = folder / HEADER, command(folder.parent, folder.name)
    try:
        header = read_json(path.read_bytes())
        if not isinstance(header, dict):
            raise ValueError("it is not a JSON object")
        version = header.get("schema_version")
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        if not newer:
            if version == SCHEMA_VERSION:
                check_digest(header)
            elif version != 1 or "table_sha256" in header:
                raise ValueError(f"it has schema version {version!r:.20}")
            check_header(header)
    except OSError as error:
        raise DamagedManifestError(path, _unreadable(error), again) from None
    except ValueError as error:
        raise DamagedManifestError(path, f"is not a valid manifest header: {error}", again) from None
    if newer:
        readable = f"has schema version {version}, but this release reads 1 and {SCHEMA_VERSION}"
        raise DataFolderError(f"{path} {readable}; move {folder} away and run '{again}'")
    _require_own_variant(folder, header)
    return header


def read_table(folder: Path, header: Mapping[str, Any]) -> pd.DataFrame:
    """Read the table of the manifest in a variant's folder; raise as `read_manifest`.

    Args:
        folder: `<root>/<variant>`.
        header: of the same manifest.
    """
    path, again = folder / TABLE, command(folder.parent, folder.name, header)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedManifestError(path, _unreadable(error), again) from None
    recorded = header.get("table_sha256")
    if header["schema_version"] != 1 and hashlib.sha256(content).hexdigest() != recorded:
        raise DamagedManifestError(path, f"does not match its SHA-256 in {HEADER}", again)
    try:
        table = pd.read_parquet(io.BytesIO(content))
        check_table(table, header)
    except Exception as error:  # Arrow raises errors of many types for bytes that are not Parquet
        what = f"is not a valid manifest table: {' '.join(str(error).split())}"
        raise DamagedManifestError(path, what, again) from None
    table = table[columns_of(header["factors"])]
    digest, recorded = _digest(table), header["digest" if header["schema_version"] == 1 else "files_digest"]
    if digest != recorded:
        what = f"does not match {HEADER}: its digest is {digest[:12]}, not {str(recorded)[:12]}"
        raise DamagedManifestError(path, what, again)
    return table


def _unreadable(error: OSError) -> str:
    return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"


def _require_own_variant(folder: Path, header: Mapping[str, Any]) -> None:
    """Check that a folder with the name of a registered variant holds this variant."""
    if header["variant"] == folder.name and header["schema_version"] != 1:
        return
    from an8flower.variants import variants

    if folder.name not in variants.names():
        return
    again = f"move {folder} away and run '{command(folder.parent, folder.name)}'"
    if header["variant"] != folder.name:
        raise DataFolderError(f"{folder} holds the variant {header['variant']!r:.80}; {again}")
    # Version 1 has no digest of the classes.
    classes = [asdict(spec) for spec in variants.get(folder.name).classes]
    if header["classes"] != json.loads(json.dumps(classes)):
        raise DataFolderError(
            f"{folder / HEADER} has other classes than the variant {folder.name!r}; {again}"
        )


def require_complete(manifest: Manifest) -> dict[str, files.FileState]:
    """Check that every file exists and has the recorded size; it takes a fraction of a second.

    Returns:
        the state of each file, by its path in the table.
    Raises:
        DataFolderError: for the first file that is missing or has another size; the message names the
            command that redraws it.
    """
    # Listing each folder once is several times as fast as checking each file.
    folders: dict[str, dict[str, files.FileState]] = {}
    states: dict[str, files.FileState] = {}
    table = manifest.table
    for path, size in zip(table["path"].tolist(), table["size_bytes"].tolist(), strict=True):
        parent, _, name = path.rpartition("/")
        if parent not in folders:
            folders[parent] = files.states(manifest.folder / parent)
        state = folders[parent].get(name)
        if state is None or state.size_bytes != size:
            what = "is missing" if state is None else f"has {state.size_bytes} bytes instead of {size}"
            raise damaged(manifest, manifest.folder / path, what)
        states[path] = state
    return states


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
    again = command(manifest.folder.parent, manifest.folder.name, manifest.header)
    return DataFolderError(f"{file} {what}; run '{again}' to redraw it")


def empty_split(manifest: Manifest, fold: int | None, split: str) -> ValueError:
    """Return the error for a dataset, or a split of a fold, without images."""
    if fold is None:
        return ValueError(f"{manifest.folder} has no images")
    return ValueError(
        f"no image of {manifest.folder} is in split {split!r} of fold {fold}: it holds the views "
        f"{manifest.header['views']}; choose another fold or split, or generate more views"
    )


def _require_known(variant: str) -> None:
    from an8flower.variants import variants

    if variant not in variants.names():
        raise unknown("variant", variant, variants.names())
