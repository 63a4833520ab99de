"""Checks that header and table of a manifest make sense, and are about the same files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from an8flower.protocol import CHEATS, CROPS, FRAME_SIZE_PX, PART_IDS, ROTATIONS_DEG, VIEWPOINTS

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
WHOLE = tuple(kind for kind in KINDS if "frame" in kind)  # the kinds that are not cropped
NEEDED = {"image", "mask", "parts"}  # a dataset may come without frames
KEYS = ["kind", "class", "view", "crop", "rotation"]
NUMBERS = ["class", "view", "crop", "rotation", "size_bytes", "mask_area_px"]
COLUMNS = [*KEYS, "path", "sha256", "size_bytes", "mask_area_px"]
CHEAT_CLASS = "cheat_class"  # the column with the class whose colour the cheat has, from 1
_SHA256 = re.compile("[0-9a-f]{64}")
_GL_FIELDS = {"platform", "renderer", "version"}
_CLASS_FIELDS = {"name", "part", "colours", "parts"}


def file_path(kind: str, class_id: int, view: int, crop: int = 0, rotation: int = 0) -> str:
    """Return the path of a file within its variant's folder; crop and rotation are 0 for a whole frame.

    >>> file_path("mask", class_id=2, view=11, crop=5, rotation=1)
    'masks/class2/class2_img11_p5_r1.png'
    """
    derived = f"_p{crop}_r{rotation}" if crop else ""
    return f"{KINDS[kind]}/class{class_id}/class{class_id}_img{view}{derived}.png"


def cheat_of(factors: Mapping[str, Any]) -> str | None:
    """Return the cheat that these factors set, one of `protocol.CHEATS`, or None.

    >>> cheat_of({"size": 0.6, "cheat": "pot"}), cheat_of({"cheat": "none"})
    ('pot', None)
    """
    cheat = factors.get("cheat")
    return cheat if cheat in CHEATS else None


def columns_of(factors: Mapping[str, Any]) -> list[str]:
    """Return the columns of the table of a dataset in which these factors are set."""
    return [*COLUMNS, *factors, *([CHEAT_CLASS] if cheat_of(factors) else [])]


def check_header(header: Mapping[str, Any]) -> None:
    """Check that a header has every entry, each of the type that readers expect.

    Raises:
        ValueError: with what is wrong, as the end of a sentence about the header.
    """
    missing = [name for name in _ENTRIES if name not in header]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name, is_valid in _ENTRIES.items():
        if not is_valid(header[name]):
            raise ValueError(f"its {name!r} is not valid: {header[name]!r:.80}")


def check_table(table: pd.DataFrame, header: Mapping[str, Any]) -> None:
    """Check that a table lists each file of each class and view once, under the path that belongs to it.

    Raises:
        ValueError: with what is wrong, as the end of a sentence about the table.
    """
    missing = [name for name in columns_of(header["factors"]) if name not in table]
    if missing:
        raise ValueError(f"it lacks the columns {', '.join(missing)}")
    for name in NUMBERS:
        if table[name].dtype != np.int64:
            raise ValueError(f"its column {name!r} has values that are not whole numbers")
    columns = {name: table[name].tolist() for name in (*KEYS, "path", "sha256")}  # much faster than rows
    for name in ("kind", "path", "sha256"):
        if not all(isinstance(value, str) for value in columns[name]):
            raise ValueError(f"its column {name!r} has values that are not text")
    unknown = set(columns["kind"]) - set(KINDS)
    if unknown:
        raise ValueError(f"it has the unknown kind {min(unknown)!r:.80}")
    # The path is covered by the digest of all files; so everything that it says is, too.
    for path, *key in zip(columns["path"], *(columns[name] for name in KEYS), strict=True):
        if path != file_path(*key):
            raise ValueError(f"it has the path {path!r:.80} for {dict(zip(KEYS, key, strict=True))}")
    _check_complete(table, len(header["classes"]), header["views"])
    wrong = [sha256 for sha256 in columns["sha256"] if not _SHA256.fullmatch(sha256)]
    if wrong:
        raise ValueError(f"it has {wrong[0]!r:.80}, which is not a SHA-256")
    if (table["size_bytes"] < 1).any():
        raise ValueError("it has a size below 1 byte")
    area = "mask_area_px"
    if not table[area].between(0, FRAME_SIZE_PX**2).all():
        raise ValueError("it has a mask area that no image can have")
    images = KEYS[1:]
    if len(table[[*images, area]].drop_duplicates()) != len(table[images].drop_duplicates()):
        raise ValueError("it has several mask areas for one image")
    if cheat_of(header["factors"]):
        _check_cheat(table, len(header["classes"]))


def _check_cheat(table: pd.DataFrame, classes: int) -> None:
    if table[CHEAT_CLASS].dtype != np.int64 or not table[CHEAT_CLASS].between(1, classes).all():
        raise ValueError(f"its column {CHEAT_CLASS!r} has values that are no class")
    frame = ["class", "view"]
    if len(table[[*frame, CHEAT_CLASS]].drop_duplicates()) != len(table[frame].drop_duplicates()):
        raise ValueError(f"its column {CHEAT_CLASS!r} has several classes for one frame")


def _check_complete(table: pd.DataFrame, classes: int, views: list[int]) -> None:
    counts = table["kind"].value_counts().to_dict()
    lacking = NEEDED - set(counts)
    if lacking:
        raise ValueError(f"it lists no file of kind {min(lacking)!r}")
    if table["path"].duplicated().any():
        raise ValueError(f"it lists {table['path'][table['path'].duplicated()].iloc[0]!r} twice")
    if not table["class"].between(1, classes).all() or set(table["view"]) != set(views):
        raise ValueError("it lists files of other classes or views than the header")
    whole = table["kind"].isin(WHOLE)
    crop, rotation = table["crop"], table["rotation"]
    derived = crop.between(1, len(CROPS)) & rotation.between(1, len(ROTATIONS_DEG))
    if not np.where(whole, (crop == 0) & (rotation == 0), derived).all():
        raise ValueError("it lists crops or rotations that do not exist")
    frames = len(table[["class", "view"]].drop_duplicates())
    for kind, count in counts.items():
        wanted = frames * (1 if kind in WHOLE else len(CROPS) * len(ROTATIONS_DEG))
        if count != wanted:  # together with the checks above: each file is listed once
            raise ValueError(f"it lists {count} files of kind {kind!r} instead of {wanted}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_list_of(is_valid: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(map(is_valid, value))


def _is_class(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == _CLASS_FIELDS
        and _is_text(value["name"])
        and _is_text(value["part"])
        and value["part"] in PART_IDS
        and _is_list_of(_is_text, value["parts"])
        and isinstance(value["colours"], dict)
        and all(_is_list_of(_is_whole, colour) and len(colour) == 3 for colour in value["colours"].values())
    )


def _is_views(value: Any) -> bool:
    return (
        _is_list_of(_is_whole, value)
        and len(value) > 0
        and value == sorted(set(value))
        and set(value) <= set(range(1, VIEWPOINTS + 1))
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "variant": _is_text,
    "source": lambda value: isinstance(value, str),
    "seed": _is_whole,
    "recipe_version": _is_whole,
    "classes": lambda value: _is_list_of(_is_class, value) and len(value) > 0,
    "factors": lambda value: isinstance(value, dict),
    "views": _is_views,
    "part_ids": lambda value: isinstance(value, dict) and all(map(_is_whole, value.values())),
    "renderers": lambda value: (
        _is_list_of(_is_texts, value)
        and all({"platform", "renderer", "version"} <= gl.keys() for gl in value)
    ),
    "fingerprints": lambda value: _is_list_of(_is_text, value),
    "versions": lambda value: _is_texts(value) and "an8flower" in value,
}
