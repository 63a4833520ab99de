"""What a dataset folder already has: the frames that manifest and journal list, if these can be believed.

A manifest or a journal that is not what was written tells nothing; its frames are drawn again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from an8flower import png
from an8flower.drawing.cheat import cheat_class
from an8flower.drawing.factors import Settings, values_of
from an8flower.drawing.frames import GL, Row
from an8flower.drawing.masks import mask_of
from an8flower.ground.digest import check_digest, read_json
from an8flower.manifest import HEADER, TABLE, DamagedManifestError, DataFolderError, read_header, read_table
from an8flower.manifest_checks import CHEAT_CLASS, KEYS, KINDS, WHOLE, cheat_of, file_path
from an8flower.protocol import CROPS, ROTATIONS_DEG, VIEWPOINTS

JOURNAL, PLAN = ".journal", "plan.json"

FrameId = tuple[int, int]  # class and view, both from 1
Frames = dict[FrameId, list[Row]]  # rows of all files of each frame
_FRAME_FILE = re.compile(r"class([1-9]\d*)_img([1-9]\d*)\.png")


@dataclass(frozen=True)
class Recorded:
    """What a dataset folder already has.

    Args:
        frames: rows of the manifest's table by frame; whether the files match their hashes is not checked.
        unlisted: frames that have a file, but no rows that can be believed.
        renderers: the OpenGL that drew `frames`.
        header: of the manifest, if it can be believed.
        journal: whether the folder has the journal of an interrupted run that can be believed.
    """

    frames: Frames = field(default_factory=dict)
    unlisted: frozenset[FrameId] = frozenset()
    renderers: list[GL] = field(default_factory=list)
    header: Mapping[str, Any] | None = None
    journal: bool = False


def recorded(folder: Path, plan: Mapping[str, Any], settings: Settings) -> Recorded:
    """Return what a dataset folder already has.

    Args:
        folder: `<root>/<variant>`.
        plan: what all frames must have in common: recipe, seed, classes and factors.
        settings: the factors that are set.
    Raises:
        DataFolderError: if the folder has a dataset that was drawn with another plan.
    """
    header = None
    with suppress(DamagedManifestError):
        header = read_header(folder)
    journal = _sealed(folder / JOURNAL / PLAN)
    for source in (header, journal):
        if source is not None:
            _require_same(folder, plan, source)
    frames: Frames = {}
    renderers: list[GL] = []
    if header is not None:
        with suppress(DamagedManifestError):
            frames = by_frame(read_table(folder, header))
        renderers += header["renderers"] if frames else []
    elif journal is not None and not (folder / HEADER).exists():
        # A run was killed after it wrote the table and before it wrote the header.
        frames = by_frame(_table_without_header(folder / TABLE))
        renderers += journal["renderers"]
    if header is None or header["schema_version"] == 1:  # no digest covers all of the table
        frames = {frame: rows for frame, rows in frames.items() if follow(folder, rows, plan, settings)}
    if journal is not None:
        for entry in sorted((folder / JOURNAL).glob("class*.json")):
            record = _sealed(entry)
            if record is not None:
                frames[record["class"], record["view"]] = record["rows"]
                renderers.append(record["renderer"])
    unlisted = _frames_on_disk(folder, len(plan["classes"])) - set(frames)
    return Recorded(frames, frozenset(unlisted), renderers, header, journal is not None)


def _require_same(folder: Path, plan: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    for name, value in plan.items():
        if recorded.get(name) != value:
            difference = "other classes" if name == "classes" else f"{name} {recorded.get(name)}, not {value}"
            raise DataFolderError(
                f"{folder} was drawn with {difference}; choose another root or move the folder away"
            )


def _sealed(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, or None if it is missing or not what was written."""
    try:
        content = read_json(path.read_bytes())
        if isinstance(content, dict):
            check_digest(content)
            return content
    except (OSError, ValueError):
        pass
    return None


def by_frame(table: pd.DataFrame) -> Frames:
    """Return the rows of a manifest's table by class and view."""
    frames: Frames = {}
    for row in table.to_dict("records"):
        frames.setdefault((row["class"], row["view"]), []).append({str(k): v for k, v in row.items()})
    return frames


def _table_without_header(path: Path) -> pd.DataFrame:
    empty = pd.DataFrame(columns=KEYS)
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
    except Exception:  # Arrow raises errors of many types for bytes that are not Parquet
        return empty
    return table if set(KEYS) <= set(table) else empty


def follow(folder: Path, rows: list[Row], plan: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether all that the table says about the files of a frame follows from plan and files.

    This takes the place of the digest that a table of schema version 1 does not have. Whether the files match
    their hashes is not checked.

    Args:
        folder: of the dataset.
        rows: of the table, all of the same class and view.
        plan: with the classes and the seed, e.g. a header.
        settings: the factors that are set.
    """
    try:
        class_id, view = int(rows[0]["class"]), int(rows[0]["view"])
        values = values_of(settings, seed=plan["seed"], view=view)
        more = list(settings)
        if cheat_of(settings):
            more.append(CHEAT_CLASS)
            values[CHEAT_CLASS] = cheat_class(
                values, seed=plan["seed"], view=view, class_id=class_id, classes=len(plan["classes"])
            )
        part = plan["classes"][class_id - 1]["part"]
        parts = png.decode((folder / file_path("frame_parts", class_id, view)).read_bytes())
        areas = {(0, 0): np.count_nonzero(mask_of(part, parts))}
        for crop in range(1, len(CROPS) + 1):
            for rotation in range(1, len(ROTATIONS_DEG) + 1):
                mask = (folder / file_path("mask", class_id, view, crop, rotation)).read_bytes()
                areas[crop, rotation] = np.count_nonzero(png.decode(mask))
        kinds = {row["kind"] for row in rows}
        wanted = {
            (kind, class_id, view, crop, rotation)
            for kind in kinds
            for crop, rotation in areas
            if (crop == 0) == (kind in WHOLE)
        }
        return (
            kinds in (set(list(KINDS)[:5]), set(KINDS))
            and len(rows) == len(wanted)
            and {tuple(row[key] for key in KEYS) for row in rows} == wanted
            and all(row["path"] == file_path(*(row[key] for key in KEYS)) for row in rows)  # type: ignore[arg-type]
            and all(row["mask_area_px"] == areas[row["crop"], row["rotation"]] for row in rows)  # type: ignore[index]
            and all(row["size_bytes"] == (folder / str(row["path"])).stat().st_size for row in rows)
            and all(row[name] == values[name] for row in rows for name in more)
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _frames_on_disk(folder: Path, classes: int) -> set[FrameId]:
    found = (_FRAME_FILE.fullmatch(path.name) for path in (folder / KINDS["frame"]).glob("class*/*.png"))
    frames = {(int(match[1]), int(match[2])) for match in found if match}
    return {(class_id, view) for class_id, view in frames if class_id <= classes and view <= VIEWPOINTS}
