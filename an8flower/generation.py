"""The one loop that draws a dataset: variant to files and manifest, parallel and resumable."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform as host
import shutil
import signal
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower import files, png
from an8flower.augment import CROP_SIZE_PX, derivatives
from an8flower.manifest import (
    COLUMNS,
    HEADER,
    SCHEMA_VERSION,
    TABLE,
    DataFolderError,
    Manifest,
    file_path,
    read_manifest,
    write_manifest,
)
from an8flower.plant import PART_IDS
from an8flower.progress import progress
from an8flower.renderer import VIEWPOINTS, NoGraphicsError, Platform, Renderer, choose_platform
from an8flower.variants import Variant, variants

# To be raised whenever the same variant and seed no longer give the same pictures.
RECIPE_VERSION = 1
MIN_MASK_AREA = 0.003  # of a derivative: below it the discriminative part is barely visible
JOURNAL, PLAN = ".journal", "plan.json"
PACKAGES = ("an8flower", "numpy", "opencv-python-headless", "pyrender-maintained", "trimesh")

Row = dict[str, str | int]
Frames = dict[tuple[int, int], list[Row]]  # (class, view), both from 1
GL = dict[str, str]


def generate(
    root: str | Path,
    variant: str | Variant,
    *,
    viewpoints: Sequence[int] | None = None,
    workers: int = 2,
    seed: int = 0,
    platform: Platform = "auto",
) -> Manifest:
    """Draw a dataset under `<root>/<variant>`, or complete or mend the one that is there.

    Files that are there and have the recorded hash are kept; everything else is drawn. It may
    be interrupted at any moment and called again.

    Args:
        root: folder that holds a folder for each variant; made if missing.
        variant: a registered name, or a variant.
        viewpoints: which of the 40 views to draw; all by default. Views already there stay.
        workers: rendering processes.
        seed: of the plant's shape.
        platform: off-screen GL, "auto", "egl" or "osmesa".
    Returns:
        the manifest of the complete folder.
    Raises:
        UnknownNameError: if no such variant is registered.
        ValueError: for a view outside 1 to 40 or fewer than one worker.
        DataFolderError: if the folder holds the same variant made in another way.
        NoGraphicsError: if there is no off-screen GL.
        BlockingIOError: if another process is generating there.
    """
    spec = variants.get(variant) if isinstance(variant, str) else variant
    views = _checked_views(viewpoints)
    if workers < 1:
        raise ValueError(f"workers is {workers}, but at least one must draw")
    folder = Path(root) / spec.name
    with files.locked(folder):
        files.remove_temporaries(folder)
        plan = _plan(spec, seed)
        recorded, renderers = _recorded(folder, plan)
        done = {frame: rows for frame, rows in recorded.items() if _intact(folder, rows)}
        wanted = {(c, view) for c in range(1, len(spec.classes) + 1) for view in views}
        to_draw = sorted((wanted | set(recorded)) - set(done))
        if not to_draw and not (folder / JOURNAL).exists():
            return read_manifest(root, spec.name)
        files.write_json(folder / JOURNAL / PLAN, plan)
        if to_draw:
            drawn = _draw(folder, spec, seed, choose_platform(platform), workers, to_draw)
            for frame, rows, renderer in drawn:
                done[frame] = rows
                renderers.append(renderer)
        table = pd.DataFrame([row for rows in done.values() for row in rows], columns=COLUMNS)
        write_manifest(Manifest(folder, _header(spec, plan, renderers, done), table))
        shutil.rmtree(folder / JOURNAL)
    return read_manifest(root, spec.name)


def _checked_views(viewpoints: Iterable[int] | None) -> list[int]:
    views = sorted(set(range(1, VIEWPOINTS + 1) if viewpoints is None else viewpoints))
    if not views or not set(views) <= set(range(1, VIEWPOINTS + 1)):
        raise ValueError(f"viewpoints are numbered from 1 to {VIEWPOINTS}, got {views}")
    return views


def _plan(variant: Variant, seed: int) -> dict[str, Any]:
    # What must be equal for two frames to belong to one dataset.
    spec = json.loads(json.dumps([asdict(spec) for spec in variant.classes]))
    return {"schema_version": SCHEMA_VERSION, "recipe_version": RECIPE_VERSION, "seed": seed, "classes": spec}


def _header(variant: Variant, plan: dict[str, Any], renderers: list[GL], done: Frames) -> dict[str, Any]:
    return {
        **plan,
        "variant": variant.name,
        "source": variant.source,
        "views": sorted({view for _, view in done}),
        "part_ids": PART_IDS,
        # Usually one; several where a folder was completed on another machine.
        "renderers": [dict(pairs) for pairs in sorted({tuple(sorted(gl.items())) for gl in renderers})],
        "versions": {"python": host.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _recorded(folder: Path, plan: dict[str, Any]) -> tuple[Frames, list[GL]]:
    """The frames that manifest and journal tell of, and the renderers that drew them."""
    renderers: list[GL] = []
    if (folder / HEADER).exists():
        header = dict(read_manifest(folder.parent, folder.name).header)
        _must_match(folder, plan, header)
        renderers += header["renderers"]
    elif (folder / JOURNAL / PLAN).exists():
        _must_match(folder, plan, json.loads((folder / JOURNAL / PLAN).read_text()))
    frames: Frames = {}
    # A table without a header is from a run killed between the two; the hashes decide.
    if (folder / TABLE).exists():
        for row in pd.read_parquet(folder / TABLE).to_dict("records"):
            frames.setdefault((int(row["class"]), int(row["view"])), []).append(row)
    for entry in sorted((folder / JOURNAL).glob("class*.json")):
        record = json.loads(entry.read_text())
        frames[record["class"], record["view"]] = record["rows"]
        renderers.append(record["renderer"])
    return frames, renderers


def _must_match(folder: Path, plan: dict[str, Any], found: dict[str, Any]) -> None:
    for key, value in plan.items():
        if found.get(key) != value:
            shown = "other classes" if key == "classes" else f"{key} {found.get(key)}, not {value}"
            raise DataFolderError(f"{folder} was drawn with {shown}; choose another root or move it away")


def _intact(folder: Path, rows: list[Row]) -> bool:
    for row in rows:
        path = folder / str(row["path"])
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            return False
    return True


def _draw(
    folder: Path, variant: Variant, seed: int, platform: Platform, workers: int, frames: list[tuple[int, int]]
) -> Iterable[tuple[tuple[int, int], list[Row], GL]]:
    pool = ProcessPoolExecutor(
        min(workers, len(frames)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(variant, seed, platform),
    )
    try:
        with progress(f"generate {variant.name}", len(frames), "frames") as advance:
            futures = {pool.submit(_draw_frame, folder, *frame): frame for frame in frames}
            for future in as_completed(futures):
                rows, gl = future.result()
                advance(1)
                yield futures[future], rows, gl
    except BrokenProcessPool as error:
        raise NoGraphicsError(
            f"a rendering process ended unexpectedly (platform {platform}); what is drawn is kept, "
            "run it again, or try another --platform"
        ) from error
    finally:
        # Frames under way are finished, so that an interrupted run loses nothing.
        pool.shutdown(cancel_futures=True)


_renderer: Renderer


def _start_worker(variant: Variant, seed: int, platform: Platform) -> None:
    import cv2

    global _renderer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # One core a worker: llvmpipe and OpenCV would otherwise each start a thread a core.
    os.environ["LP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    _renderer = Renderer(variant, seed=seed, platform=platform)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _draw_frame(folder: Path, class_id: int, view: int) -> tuple[list[Row], GL]:
    spec = _renderer.variant.classes[class_id - 1]
    part_id = PART_IDS[spec.part]
    frame = _renderer.render(class_id - 1, view)
    rows: list[Row] = []
    save = partial(_save, rows, folder, class_id, view)

    whole = int(np.count_nonzero(frame.part_ids == part_id))
    save("frame", frame.image, whole)
    save("frame_parts", frame.part_ids, whole)
    for derivative in derivatives(frame):
        mask = derivative.part_ids == part_id
        area = int(np.count_nonzero(mask))
        if area < MIN_MASK_AREA * CROP_SIZE_PX**2:
            raise ValueError(
                f"{_renderer.variant.name}: the {spec.part} of class {class_id} ({spec.name}) cover "
                f"{area} px in view {view}, crop {derivative.crop}, rotation {derivative.rotation}; "
                f"at least {MIN_MASK_AREA:.1%} of the image must show them"
            )
        at = {"crop": derivative.crop, "rotation": derivative.rotation}
        save("image", derivative.image, area, **at)
        save("mask", mask.astype(np.uint8) * 255, area, **at)
        save("parts", derivative.part_ids, area, **at)
    record = {"class": class_id, "view": view, "rows": rows, "renderer": _renderer.gl}
    files.write_json(folder / JOURNAL / f"class{class_id}_img{view}.json", record)
    return rows, _renderer.gl


def _save(
    rows: list[Row], folder: Path, class_id: int, view: int, kind: str, image: NDArray[np.uint8], area: int,
    crop: int = 0, rotation: int = 0,
) -> None:  # fmt: skip
    path = file_path(kind, class_id, view, crop, rotation)
    data = png.encode(image)
    files.write(folder / path, data)
    values = (kind, class_id, view, crop, rotation, path, hashlib.sha256(data).hexdigest(), len(data), area)
    rows.append(dict(zip(COLUMNS, values, strict=True)))
