"""The interface of an export format, and the dataset as a format reads it: every file is checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from an8flower.folds import in_split
from an8flower.ground.registry import MissingExtraError, Registry
from an8flower.manifest import Manifest, empty_split, read_verified
from an8flower.protocol import Split

Kind = Literal["image", "mask", "parts"]
KINDS: tuple[Kind, ...] = ("image", "mask", "parts")


@dataclass(frozen=True)
class Entry:
    """One derivative: its properties and its files.

    Args:
        name: of its files without the suffix, e.g. "class1_img1_p1_r1".
        class_id: from 1, as in file names.
        class_name: e.g. "red petals".
        view, crop, rotation: from 1.
        mask_area_px: number of pixels of the discriminative part.
        files: path within the dataset's folder and SHA-256 of image, mask and part ids.
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
        """The class from 0, as in models and `An8Flower`."""
        return self.class_id - 1

    @property
    def facts(self) -> dict[str, str | int]:
        """The properties, for formats that store arbitrary fields with an image."""
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
    """The dataset as an export format reads it; files are read on demand and checked against their hash.

    Args:
        manifest: of the dataset.
        splits: entries by name of the split, each sorted by class, view, crop and rotation. Without a fold
            the only name is "", which adds nothing to a path; with a fold the names are "train" and
            "test".
        advance: called with the number of entries that were written.
    """

    manifest: Manifest
    splits: Mapping[str, tuple[Entry, ...]]
    advance: Callable[[int], None]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return tuple(spec["name"] for spec in self.manifest.header["classes"])

    def read(self, entry: Entry, kind: Kind) -> bytes:
        """Return the PNG bytes of one file of an entry.

        Raises:
            DataFolderError: if the file is missing or altered; the message names it.
        """
        return read_verified(self.manifest, *entry.files[kind])


@dataclass(frozen=True)
class ExportSpec:
    """An export format.

    Args:
        name: of the format in the registry.
        write: called as `write(source, folder)` to fill an empty folder; its keyword-only arguments are
            the options of the format.
        source: URL of the format's description.
        extra: the extra of this package that installs `library`; empty if none is needed.
        library: import name of the library that `write` needs.
        splits: whether the format distinguishes training and test images.
        in_place: whether `write` may also add its files to the dataset's own folder.
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
        """Names of the options of the format."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def require_library(self) -> None:
        """Import the library that `write` needs.

        Raises:
            MissingExtraError: if it is not installed; the message has the command that installs it.
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
    """Return the entries of a dataset by name of the split; see `Source.splits`.

    Raises:
        ValueError: if there is no such fold, or the dataset or one of the splits has no image.
    """
    entries = tuple(_entries(manifest))
    if not entries:
        raise empty_split(manifest, None, "all")
    if fold is None:
        return {"": entries}
    views = [entry.view for entry in entries]
    splits: dict[str, tuple[Entry, ...]] = {}
    split: Split
    for split in ("train", "test"):
        selected = in_split(views, fold, split)
        splits[split] = tuple(entry for entry, is_in in zip(entries, selected, strict=True) if is_in)
        if not splits[split]:
            raise empty_split(manifest, fold, split)
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
    """Return a class name after a check that it can be the name of a folder.

    Raises:
        ValueError: if it would be a path to another folder.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"class name {name!r} cannot be the name of a folder")
    return name


def copy(source: Source, entry: Entry, kind: Kind, to: Path) -> None:
    """Copy one file of an entry to `to`; it is not a link, so changing it does not change the dataset."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(source.read(entry, kind))
