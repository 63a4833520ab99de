"""Whether a dataset folder is what its manifest says, and whether drawing it again gives the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from an8flower import png
from an8flower.drawing.factors import Settings
from an8flower.drawing.generation import Drawing, DrawnFrame, Place, draw, draw_frame, fingerprint
from an8flower.drawing.gl import Platform, choose_platform
from an8flower.manifest import KINDS, Manifest, read_manifest
from an8flower.variants import ClassSpec, Variant

# Another OpenGL rounds colours otherwise, and a pixel on an edge may tip over; masks must not.
MEAN_TOLERANCE = 1.0  # of the mean absolute difference of an image, in levels of 255
SAMPLE = 5  # frames


@dataclass(frozen=True)
class Problem:
    """One file that is not as recorded: "missing", "altered", "extra", or drawn otherwise."""

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
    """Hash every file of a dataset again, and draw frames again if asked.

    Args:
        root: folder that holds the variant's folder.
        variant: e.g. "single-6c".
        regenerate: draw no frame, a few spread over classes and views, or all of them again. On the
            platform that drew them the bytes must be equal; elsewhere masks and part ids must be,
            and colours within `MEAN_TOLERANCE` on average.
        platform: off-screen GL to draw with.
    Returns:
        a problem for each missing, altered, extra or differently drawn file; empty when all is as
        recorded.
    Raises:
        DataFolderError: if the manifest itself cannot be read.
        NoGraphicsError: if frames are to be drawn and there is no off-screen GL.
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
        problems += _drawn_again(manifest, regenerate, platform)
    return problems


def _difference(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "altered"


def _drawn_again(manifest: Manifest, which: str, platform: Platform) -> list[Problem]:
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

    def compare(frame: Place, drawn: DrawnFrame) -> None:
        same = header["fingerprints"] == [fingerprint(drawn.gl)]
        for row, data in drawn.files:
            path = manifest.folder / str(row["path"])
            # What is altered or missing on disk has been told already.
            if row["sha256"] != recorded[row["path"]] and not _difference(path, recorded[row["path"]]):
                problems.extend(_compared(path, str(row["kind"]), data, same))

    draw(drawing, frames, draw_frame, compare, workers=1, title="draw again")
    return problems


def _compared(path: Path, kind: str, drawn: bytes, same_platform: bool) -> list[Problem]:
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
    told = f"drawn otherwise (largest difference {largest}, mean {mean:.3f}; allowed: {allowed})"
    return [Problem(path, told)]
