"""Verify that a dataset folder matches its manifest, and that drawing it again gives the same images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from an8flower import png
from an8flower.arrays import altered_arrays
from an8flower.drawing.factors import Settings
from an8flower.drawing.frames import Drawing, DrawnFrame, draw_frame, fingerprint
from an8flower.drawing.generation import draw
from an8flower.drawing.gl import Platform, choose_platform
from an8flower.drawing.recorded import FrameId, by_frame, follow
from an8flower.ground import files
from an8flower.manifest import KINDS, TABLE, DamagedManifestError, Manifest, read_manifest
from an8flower.variants import ClassSpec, Variant

# Another OpenGL may round colours differently, also at edges; masks must be equal everywhere.
MEAN_TOLERANCE = 1.0  # largest mean absolute difference of an image, in levels of 255
SAMPLE = 5  # frames drawn again with regenerate="sample"


@dataclass(frozen=True)
class Problem:
    """One file that does not match the manifest.

    Args:
        path: of the file.
        what: "missing", "altered" or "extra"; or text that says how it differs when drawn again, or what
            is wrong with a manifest.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.what}: {self.path}"


def verify(
    root: str | Path,
    variant: str,
    *,
    regenerate: Literal["no", "sample", "all"] = "no",
    platform: Platform = "auto",
) -> list[Problem]:
    """Compare every file of a dataset with its recorded hash and, optionally, draw frames again.

    The header and the table of the manifest are checked, too, and the resized arrays in `cache`. What
    operating systems leave in folders, e.g. ".DS_Store", is no problem.

    Args:
        root: folder that holds the variant's folder.
        variant: name of the variant, e.g. "single-6c".
        regenerate: which frames to draw again: none ("no"), 5 spread over classes and views ("sample"),
            or "all". On the platform that drew the dataset, the bytes must be equal. On another
            platform, masks and part ids must be equal, and images may differ by `MEAN_TOLERANCE` on
            average.
        platform: off-screen OpenGL to draw with.
    Returns:
        one problem per file that is missing, altered, extra, or drawn differently; an empty list if
        every file is as recorded. If the manifest was altered, it is the only problem, because nothing that
        it says can be believed.
    Raises:
        DataFolderError: if there is no dataset, or one of a newer release or of another variant.
        UnknownNameError: if there is no dataset, and no such variant is registered.
        NoGraphicsError: if frames are to be drawn and this machine has no off-screen OpenGL.
    """
    try:
        manifest = read_manifest(root, variant)
    except DamagedManifestError as error:
        return [Problem(error.file, "missing" if error.what == "is missing" else f"altered ({error.what})")]
    problems = [
        Problem(manifest.folder / path, what)
        for path, sha256 in zip(manifest.table["path"], manifest.table["sha256"], strict=True)
        if (what := _difference(manifest.folder / path, sha256))
    ]
    recorded = set(manifest.table["path"])
    problems += [
        Problem(path, "extra")
        for folder in KINDS.values()
        for path in sorted((manifest.folder / folder).rglob("*"))
        if path.is_file()
        and not files.is_litter(path)
        and path.relative_to(manifest.folder).as_posix() not in recorded
    ]
    problems += [Problem(path, "altered") for path in altered_arrays(manifest)]
    if manifest.header["schema_version"] == 1 and not problems and not _table_follows(manifest):
        problems.append(Problem(manifest.folder / TABLE, "altered"))
    if regenerate != "no":
        problems += _redraw(manifest, regenerate, platform)
    return problems


def _difference(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "altered"


def _table_follows(manifest: Manifest) -> bool:
    frames = by_frame(manifest.table).values()
    return all(follow(manifest.folder, rows, manifest.header, _settings(manifest)) for rows in frames)


def _settings(manifest: Manifest) -> Settings:
    factors = manifest.header["factors"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in factors.items()}


def _redraw(manifest: Manifest, which: str, platform: Platform) -> list[Problem]:
    header = manifest.header
    frames = list(manifest.of_kind("frame")[["class", "view"]].itertuples(index=False, name=None))
    if which == "sample":
        frames = frames[:: max(1, len(frames) // SAMPLE)][:SAMPLE]
    classes = tuple(ClassSpec(**{**spec, "parts": tuple(spec["parts"])}) for spec in header["classes"])
    variant = Variant(header["variant"], classes, "")
    twins = bool((manifest.table["kind"] == "part_only").any())
    drawing = Drawing(
        manifest.folder, variant, header["seed"], choose_platform(platform), _settings(manifest), twins
    )
    recorded = manifest.table.set_index("path")["sha256"].to_dict()
    problems: list[Problem] = []

    def compare(frame: FrameId, drawn: DrawnFrame) -> None:
        same_platform = header["fingerprints"] == [fingerprint(drawn.gl)]
        for row, data in drawn.files:
            path = manifest.folder / str(row["path"])
            # Files that are altered or missing on disk are among the problems already.
            if row["sha256"] != recorded[row["path"]] and not _difference(path, recorded[row["path"]]):
                problems.extend(_comparison(path, str(row["kind"]), data, same_platform))

    draw(drawing, frames, draw_frame, compare, workers=1, title="draw again")
    return problems


def _comparison(path: Path, kind: str, drawn: bytes, same_platform: bool) -> list[Problem]:
    difference = np.abs(png.decode(path.read_bytes()).astype(int) - png.decode(drawn).astype(int))
    largest, mean = int(difference.max()), float(difference.mean())
    exact = kind in ("mask", "parts", "frame_parts")
    if not same_platform and mean <= (0.0 if exact else MEAN_TOLERANCE):
        return []
    allowed = (
        "none on the same platform"
        if same_platform
        else "none"
        if exact
        else f"{MEAN_TOLERANCE:g} on average"
    )
    what = f"differs when drawn again (largest difference {largest}, mean {mean:.3f}; allowed: {allowed})"
    return [Problem(path, what)]
