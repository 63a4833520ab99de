"""What an export format is, and the checked view of a dataset that it writes from."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from an8flower.folds import in_split
from an8flower.ground.registry import MissingExtraError, Registry
from an8flower.manifest import Manifest, read_verified
from an8flower.protocol import Split

Kind = Literal["image", "mask", "parts"]
KINDS: tuple[Kind, ...] = ("image", "mask", "parts")


@dataclass(frozen=True)
class Entry:
    """One derivative: what is known of it, and where its files are.

    Args:
        name: of its files without the ending, e.g. "class1_img1_p1_r1".
        class_id: from 1, as in file names.
        class_name: e.g. "red petals".
        view: from 1, like crop and rotation.
        mask_area_px: pixels of the discriminative part.
        files: path within the dataset's folder and SHA-256 of its image, mask and part ids.
    """

    name: str
    class_id: int
    class_name: str
    view: int
    crop: int
    rotation: int
    mask_area_px: int
    files: Mapping[Kind, tuple[str, str]]

    @property
    def label(self) -> int:
        """The class from 0, as models and `An8Flower` count."""
        return self.class_id - 1

    @property
    def facts(self) -> dict[str, str | int]:
        """What a format without fields of its own says beside the image."""
        return {
            "class": self.class_id,
            "class_name": self.class_name,
            "label": self.label,
            "view": self.view,
            "crop": self.crop,
            "rotation": self.rotation,
            "mask_area_px": self.mask_area_px,
        }


@dataclass(frozen=True)
class Source:
    """The dataset as an exporter sees it: entries now, bytes when asked for and only if intact.

    Args:
        manifest: of the dataset.
        splits: the entries by class, view, crop and rotation: all under the empty name, which
            leaves no trace in a path, or those of a fold under "train" and "test".
        advance: to be told of each entry that is written.
    """

    manifest: Manifest
    splits: Mapping[str, tuple[Entry, ...]]
    advance: Callable[[int], None]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position here."""
        return tuple(spec["name"] for spec in self.manifest.header["classes"])

    def read(self, entry: Entry, kind: Kind) -> bytes:
        """The PNG bytes of one file of an entry.

        Raises:
            DataFolderError: naming the file, if it is missing or altered.
        """
        return read_verified(self.manifest, *entry.files[kind])


@dataclass(frozen=True)
class ExportSpec:
    """A format that a dataset can be written in.

    Args:
        name: registry key.
        write: called as `write(source, folder)` to fill an empty folder; keyword-only arguments
            are the format's own options.
        source: where the format is described.
        extra: the extra of this package that brings `library`; empty if none is needed.
        library: import name of what `write` imports.
        splits: whether the format can tell training from test images.
        in_place: whether `write` may also be given the dataset's own folder, to add to it.
    """

    name: str
    write: Callable[..., None]
    source: str
    extra: str = ""
    library: str = ""
    splits: bool = True
    in_place: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the format's own options."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def require_library(self) -> None:
        """Import what `write` will need.

        Raises:
            MissingExtraError: naming the command that installs it.
        """
        if not self.library:
            return
        try:
            importlib.import_module(self.library)
        except ImportError as error:
            raise MissingExtraError(
                f"export to {self.name} needs {self.library}: pip install 'an8flower[{self.extra}]'"
            ) from error


exports: Registry[ExportSpec] = Registry(
    "export format", package="an8flower.export", group="an8flower.exports"
)


def splits_of(manifest: Manifest, fold: int | None) -> dict[str, tuple[Entry, ...]]:
    """All entries of a dataset under the empty name, or those of a fold by split.

    Raises:
        ValueError: if there is no such fold, or one of its splits has no image.
    """
    entries = tuple(_entries(manifest))
    if fold is None:
        return {"": entries}
    views = [entry.view for entry in entries]
    splits: dict[str, tuple[Entry, ...]] = {}
    split: Split
    for split in ("train", "test"):
        chosen = in_split(views, fold, split)
        splits[split] = tuple(entry for entry, yes in zip(entries, chosen, strict=True) if yes)
        if not splits[split]:
            raise ValueError(
                f"no image of {manifest.folder} is in split {split!r} of fold {fold}: "
                f"it holds the views {manifest.header['views']}"
            )
    return splits


def _entries(manifest: Manifest) -> Iterator[Entry]:
    tables: list[list[dict[str, Any]]] = [manifest.of_kind(kind).to_dict("records") for kind in KINDS]
    for rows in zip(*tables, strict=True):
        image = rows[0]
        yield Entry(
            name=PurePosixPath(image["path"]).stem,
            class_id=int(image["class"]),
            class_name=manifest.header["classes"][int(image["class"]) - 1]["name"],
            view=int(image["view"]),
            crop=int(image["crop"]),
            rotation=int(image["rotation"]),
            mask_area_px=int(image["mask_area_px"]),
            files={kind: (row["path"], row["sha256"]) for kind, row in zip(KINDS, rows, strict=True)},
        )


def folder_name(name: str) -> str:
    """A class name that is about to become a folder.

    Raises:
        ValueError: if it would lead elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"class name {name!r} cannot be the name of a folder")
    return name


def copy(source: Source, entry: Entry, kind: Kind, to: Path) -> None:
    """Write one file of an entry to `to`: a copy, so that changing it leaves the dataset alone."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(source.read(entry, kind))
