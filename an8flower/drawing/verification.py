"""Verify that a dataset folder matches its manifest, and that drawing it again gives the same images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from an8flower import png
from an8flower.drawing.factors import Settings
from an8flower.drawing.frames import Drawing, DrawnFrame, draw_frame, fingerprint
from an8flower.drawing.generation import FrameId, draw
from an8flower.drawing.gl import Platform, choose_platform
from an8flower.manifest import KINDS, Manifest, read_manifest
from an8flower.variants import ClassSpec, Variant

# Another OpenGL may round colours differently, also at edges; masks must be equal everywhere.
MEAN_TOLERANCE = 1.0  # largest mean absolute difference of an image, in levels of 255
SAMPLE = 5  # frames drawn again with regenerate="sample"


@dataclass(frozen=True)
class Problem:
    """One file that does not match the manifest.

    Args:
        path: of the file.
        what: "missing", "altered" or "extra"; or text that says how it differs when drawn again.
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
        every file is as recorded.
    Raises:
        DataFolderError: if the manifest itself cannot be read.
        NoGraphicsError: if frames are to be drawn and this machine has no off-screen OpenGL.
    """
    manifest = read_manifest(root, variant)
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
        if path.is_file() and path.relative_to(manifest.folder).as_posix() not in recorded
    ]
    if regenerate != "no":
        problems += _redraw(manifest, regenerate, platform)
    return problems


def _difference(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "altered"


def _redraw(manifest: Manifest, which: str, platform: Platform) -> list[Problem]:
    header = manifest.header
    frames = list(manifest.of_kind("frame")[["class", "view"]].itertuples(index=False, name=None))
    if which == "sample":
        frames = frames[:: max(1, len(frames) // SAMPLE)][:SAMPLE]
    classes = tuple(ClassSpec(**{**spec, "parts": tuple(spec["parts"])}) for spec in header["classes"])
    settings: Settings = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["factors"].items()
    }
    variant = Variant(header["variant"], classes, "")
    twins = bool((manifest.table["kind"] == "part_only").any())
    drawing = Drawing(manifest.folder, variant, header["seed"], choose_platform(platform), settings, twins)
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
