"""The one loop that draws a dataset: variant to files and manifest, parallel and resumable."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform as host
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower import png
from an8flower.drawing.augment import derivatives
from an8flower.drawing.factors import FACTORS, Settings, checked, values_of
from an8flower.drawing.gl import NoGraphicsError, Platform, choose_platform
from an8flower.drawing.renderer import Frame, Renderer
from an8flower.ground import files
from an8flower.ground.jobs import Event, Job, Tell, run
from an8flower.ground.progress import progress
from an8flower.manifest import (
    COLUMNS,
    HEADER,
    SCHEMA_VERSION,
    TABLE,
    TWINS,
    DataFolderError,
    Manifest,
    file_path,
    read_manifest,
    write_manifest,
)
from an8flower.protocol import CROP_SIZE_PX, PART_IDS, VIEWPOINTS
from an8flower.variants import Variant, variants

# To be raised whenever the same variant and seed no longer give the same pictures.
RECIPE_VERSION = 1
MIN_MASK_AREA = 0.003  # of a derivative: below it the discriminative part is barely visible
DEATHS = 3  # of processes on the same frame, before drawing is given up
JOURNAL, PLAN = ".journal", "plan.json"
PACKAGES = ("an8flower", "numpy", "opencv-python-headless", "pyrender-maintained", "trimesh")

Row = dict[str, str | int | float]
Frames = dict[tuple[int, int], list[Row]]  # by class and view
GL = dict[str, str]


def generate(
    root: str | Path,
    variant: str | Variant,
    *,
    viewpoints: Sequence[int] | None = None,
    workers: int = 2,
    seed: int = 0,
    platform: Platform = "auto",
    twins: bool = False,
    factors: Settings | None = None,
    scheduler: str | None = None,
) -> Manifest:
    """Draw a dataset under `<root>/<variant>`, or complete or mend the one that is there.

    Files that are there and have the recorded hash are kept; everything else is drawn. It may
    be interrupted at any moment and called again.

    Args:
        root: folder that holds a folder for each variant; made if missing.
        variant: a registered name, or a variant.
        viewpoints: which of the 40 views to draw; all by default. Views already there stay.
        workers: rendering processes.
        seed: of the plant's shape, of textures, and of factors that are set to a range.
        platform: off-screen GL, "auto", "egl" or "osmesa".
        twins: draw for every image the same with its part alone, and without it.
        factors: what varies beside the class, e.g. {"size": 0.6, "elevation": (10, 40)}; see
            `factors.FACTORS`. None of them by default: the paper's dataset.
        scheduler: address of a Dask scheduler whose workers, which must see the folder under the same
            path, draw instead.
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
    settings = checked(factors or {})
    folder = Path(root) / spec.name
    with files.locked(folder):
        files.remove_temporaries(folder)
        plan = _plan(spec, seed, settings)
        recorded, renderers = _recorded(folder, plan)
        # Twins once drawn are kept up: a frame has them all or is drawn again.
        twins = twins or any(row["kind"] in TWINS for rows in recorded.values() for row in rows)
        done = {frame: rows for frame, rows in recorded.items() if _intact(folder, rows, twins)}
        wanted = {(c, view) for c in range(1, len(spec.classes) + 1) for view in views}
        to_draw = sorted((wanted | set(recorded)) - set(done))
        if not to_draw and not (folder / JOURNAL).exists():
            return read_manifest(root, spec.name)
        files.write_json(folder / JOURNAL / PLAN, plan)
        if to_draw:

            def keep(frame: Place, drawn: DrawnFrame) -> None:
                done[frame] = [row for row, _ in drawn.files]
                renderers.append(drawn.gl)

            # A cluster's machines each choose their own.
            here = choose_platform(platform) if scheduler is None else platform
            drawing = Drawing(folder.absolute(), spec, seed, here, settings, twins)
            try:
                draw(
                    drawing,
                    to_draw,
                    _write_frame,
                    keep,
                    workers=workers,
                    scheduler=scheduler,
                    title="generate",
                )
            finally:
                files.remove_temporaries(folder)  # of frames that were interrupted
        columns = [*COLUMNS, *settings]
        table = pd.DataFrame([row for rows in done.values() for row in rows], columns=columns)
        write_manifest(Manifest(folder, _header(spec, plan, renderers, done), table))
        shutil.rmtree(folder / JOURNAL)
    return read_manifest(root, spec.name)


def _checked_views(viewpoints: Iterable[int] | None) -> list[int]:
    views = sorted(set(range(1, VIEWPOINTS + 1) if viewpoints is None else viewpoints))
    if not views or not set(views) <= set(range(1, VIEWPOINTS + 1)):
        raise ValueError(f"viewpoints are numbered from 1 to {VIEWPOINTS}, got {views}")
    return views


def _plan(variant: Variant, seed: int, settings: Settings) -> dict[str, Any]:
    # What must be equal for two frames to belong to one dataset, as JSON gives it back.
    plan = {
        "schema_version": SCHEMA_VERSION,
        "recipe_version": RECIPE_VERSION,
        "seed": seed,
        "classes": [asdict(spec) for spec in variant.classes],
        "factors": {name: settings[name] for name in FACTORS if name in settings},
    }
    return dict(json.loads(json.dumps(plan)))


def _header(variant: Variant, plan: dict[str, Any], renderers: list[GL], done: Frames) -> dict[str, Any]:
    return {
        **plan,
        "variant": variant.name,
        "source": variant.source,
        "views": sorted({view for _, view in done}),
        "part_ids": PART_IDS,
        # Usually one; several where a folder was completed on another machine.
        "renderers": [dict(pairs) for pairs in sorted({tuple(sorted(gl.items())) for gl in renderers})],
        "fingerprints": sorted({fingerprint(gl) for gl in renderers}),
        "versions": {"python": host.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def fingerprint(gl: GL) -> str:
    """What decides the bytes of a picture beside variant and seed: OpenGL and the PNG encoder.

    llvmpipe names its vector width, which stands for the processor; EGL and OSMesa give it the same
    name but antialias otherwise.
    """
    opencv = importlib.metadata.version("opencv-python-headless")
    return f"{gl['platform']} {gl['renderer']}, OpenGL {gl['version']}, OpenCV {opencv}, {host.machine()}"


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


def _intact(folder: Path, rows: list[Row], twins: bool) -> bool:
    if twins and not {*TWINS} <= {row["kind"] for row in rows}:
        return False
    for row in rows:
        path = folder / str(row["path"])
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            return False
    return True


@dataclass(frozen=True)
class Drawing:
    """What has to be known to draw any frame.

    Args:
        folder: of the variant's files.
        variant: what to draw.
        seed: of the plant's shape, of textures, and of factors that are set to a range.
        platform: off-screen GL.
        settings: the factors that are set.
        twins: whether to draw them too.
    """

    folder: Path
    variant: Variant
    seed: int
    platform: Platform
    settings: Settings
    twins: bool


Place = tuple[int, int]  # class and view, both from 1


def draw(
    drawing: Drawing,
    frames: Sequence[Place],
    task: Callable[[Tell, Drawing, int, int], DrawnFrame],
    drawn: Callable[[Place, DrawnFrame], None],
    *,
    workers: int,
    scheduler: str | None = None,
    title: str,
) -> None:
    """Run `task` for each frame on the engine, and hand its result to `drawn` as it is ready.

    Worker processes also for one worker: a process can have one GL context only.

    Raises:
        NoGraphicsError: if processes end unexpectedly on the same frame.
    """
    deaths: Counter[Place] = Counter()
    with progress(f"{title} {drawing.variant.name}", len(frames), "frames") as advance:

        def heard(job: Job, event: Event) -> tuple[Job, ...]:
            if event.kind == "raised":
                raise event.value
            if event.kind in ("died", "overdue"):
                place = job.arguments["class_id"], job.arguments["view"]
                deaths[place] += 1
                if deaths[place] < DEATHS:  # killed from outside, perhaps
                    return (job,)
                raise NoGraphicsError(
                    f"a rendering process ended unexpectedly: {event.value} (platform {drawing.platform}); "
                    "what is drawn is kept, run it again, or try another --platform"
                )
            if event.kind == "done":
                advance(1)
                drawn((job.arguments["class_id"], job.arguments["view"]), event.value)
            return ()

        jobs = [Job(task, {"drawing": drawing, "class_id": c, "view": view}) for c, view in frames]
        run(jobs, heard, workers=workers, scheduler=scheduler)


# A process draws one dataset at a time, with one renderer.
_renderer: tuple[Drawing, Renderer] | None = None


def _renderer_of(drawing: Drawing) -> Renderer:
    global _renderer
    if _renderer is None or _renderer[0] != drawing:
        if _renderer is not None:
            _renderer[1].close()
        _renderer = drawing, Renderer(drawing.variant, seed=drawing.seed, platform=drawing.platform)
    return _renderer[1]


@dataclass(frozen=True)
class DrawnFrame:
    """Every file of one frame, and who drew it.

    Args:
        files: for each file its row of the manifest and its bytes.
        gl: the OpenGL strings of the process.
    """

    files: list[tuple[Row, bytes]]
    gl: GL


def draw_frame(tell: Tell, drawing: Drawing, class_id: int, view: int) -> DrawnFrame:
    """A task for `draw`: every file of a frame as bytes, written nowhere."""
    renderer = _renderer_of(drawing)
    made = _files_of(renderer, drawing.settings, class_id, view, seed=drawing.seed, twins=drawing.twins)
    return DrawnFrame(made, renderer.gl)


def _write_frame(tell: Tell, drawing: Drawing, class_id: int, view: int) -> DrawnFrame:
    drawn = draw_frame(tell, drawing, class_id, view)
    for row, data in drawn.files:
        files.write(drawing.folder / str(row["path"]), data)
    rows = [row for row, _ in drawn.files]
    record = {"class": class_id, "view": view, "rows": rows, "renderer": drawn.gl}
    files.write_json(drawing.folder / JOURNAL / f"class{class_id}_img{view}.json", record)
    return DrawnFrame([(row, b"") for row in rows], drawn.gl)  # the bytes are on disk


def _files_of(
    renderer: Renderer, settings: Settings, class_id: int, view: int, *, seed: int, twins: bool
) -> list[tuple[Row, bytes]]:
    spec = renderer.variant.classes[class_id - 1]
    part_id = PART_IDS[spec.part]
    values = values_of(settings, seed=seed, view=view)
    frame = renderer.render(class_id - 1, view, values)
    made: list[tuple[Row, bytes]] = []
    varied = {name: values[name] for name in settings}

    def add(kind: str, image: NDArray[np.uint8], area: int, crop: int = 0, rotation: int = 0) -> None:
        path, data = file_path(kind, class_id, view, crop, rotation), png.encode(image)
        sha256 = hashlib.sha256(data).hexdigest()
        columns = (kind, class_id, view, crop, rotation, path, sha256, len(data), area)
        made.append(({**dict(zip(COLUMNS, columns, strict=True)), **varied}, data))

    whole = int(np.count_nonzero(frame.part_ids == part_id))
    add("frame", frame.image, whole)
    add("frame_parts", frame.part_ids, whole)
    areas = {}
    for one in derivatives(frame):
        mask = one.part_ids == part_id
        area = areas[one.crop, one.rotation] = int(np.count_nonzero(mask))
        # Factors may make the part as small as they like, but never hide it.
        if area < (1 if settings else MIN_MASK_AREA * CROP_SIZE_PX**2):
            why = "a factor hides them" if settings else f"it must be {MIN_MASK_AREA:.1%} of the image"
            raise ValueError(
                f"{renderer.variant.name}: the {spec.part} of class {class_id} ({spec.name}) cover "
                f"{area} px in view {view}, crop {one.crop}, rotation {one.rotation}: {why}"
            )
        add("image", one.image, area, one.crop, one.rotation)
        add("mask", mask.astype(np.uint8) * 255, area, one.crop, one.rotation)
        add("parts", one.part_ids, area, one.crop, one.rotation)
    if twins:
        drawn = renderer.render_twins(class_id - 1, view, values)
        for kind, image in (("part_only", drawn.part_only), ("all_but_part", drawn.all_but_part)):
            add(f"{kind}_frame", image, whole)
            for one in derivatives(Frame(image, frame.part_ids)):
                add(kind, one.image, areas[one.crop, one.rotation], one.crop, one.rotation)
    return made
