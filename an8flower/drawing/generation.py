"""Generate a dataset: draw the frames of a variant in parallel, and resume or repair earlier runs."""

from __future__ import annotations

import hashlib
import json
import operator
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from an8flower.arrays import remove_altered
from an8flower.drawing.cheat import check_cheat
from an8flower.drawing.factors import FACTORS, Settings, checked
from an8flower.drawing.frames import GL, Drawing, DrawnFrame, Row, draw_frame, fingerprint
from an8flower.drawing.gl import NoGraphicsError, Platform, choose_platform
from an8flower.drawing.recorded import JOURNAL, PLAN, FrameId, Frames, recorded
from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from an8flower.ground.digest import with_digest
from an8flower.ground.jobs import ATTEMPTS, Event, Job, Tell, WorkerDiedError, run_all
from an8flower.ground.progress import progress
from an8flower.ground.versions import versions
from an8flower.manifest import SCHEMA_VERSION, TWINS, Manifest, columns_of, read_manifest, write_manifest
from an8flower.protocol import PART_IDS, VIEWPOINTS
from an8flower.variants import Variant, variants

# Increase it whenever the same variant and seed no longer give the same images.
RECIPE_VERSION = 1
PACKAGES = ("an8flower", "numpy", "opencv-python-headless", "pyrender-maintained", "trimesh")

__getattr__ = renamed(
    __name__, {"Place": "FrameId", "MIN_MASK_AREA": "an8flower.drawing.masks.MIN_MASK_AREA"}
)


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
    """Generate a dataset in `<root>/<variant>`, or complete or repair the dataset in that folder.

    Files that exist and match their recorded hash are kept; all others are drawn. So are all frames of a
    folder whose manifest is missing or was altered. The call may be interrupted at any time; calling it
    again continues with the next frame.

    Args:
        root: folder that holds one folder per variant; created if missing.
        variant: the name of a registered variant, or a `Variant`.
        viewpoints: the views to draw, from 1 to 40; all by default. Other views in the folder are kept.
        workers: number of rendering processes.
        seed: of the plant's shape, of textures, and of factors that are set to a range.
        platform: off-screen OpenGL: "auto", "egl" or "osmesa".
        twins: draw two more images for each image: one with the discriminative part only, and one with
            all but this part.
        factors: what varies in addition to the class, e.g. {"size": 0.6, "elevation": (10, 40)}; see
            `factors.FACTORS`. By default nothing else varies, as in the paper. With the factor "cheat",
            the manifest has for each frame the class whose colour the cheat has.
        scheduler: address of a Dask scheduler. Its workers draw instead; they must see the folder under
            the same path.
    Returns:
        the manifest of the complete folder.
    Raises:
        UnknownNameError: if no such variant is registered.
        ValueError: for a view outside 1 to 40, fewer than one worker, or a factor that is not possible.
        DataFolderError: if the folder holds a dataset of this variant with another seed, other classes or
            other factors.
        NoGraphicsError: if this machine has no off-screen OpenGL.
        BlockingIOError: if another process is writing to the folder.
    """
    spec = variants.get(variant) if isinstance(variant, str) else variant
    views, seed = _checked_views(viewpoints), operator.index(seed)
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    settings = checked(factors or {})
    check_cheat(settings, spec.classes)
    folder = Path(root) / spec.name
    with files.locked(folder):
        files.remove_temporaries(folder)
        plan = _plan(spec, seed, settings)
        found = recorded(folder, plan, settings)
        # If some frames have twins, all must: frames without them are drawn again. If no frame is listed,
        # files of twins tell that there were some.
        listed = any(row["kind"] in TWINS for rows in found.frames.values() for row in rows)
        twins = twins or listed or (not found.frames and any((folder / "twins").glob("*/*/*/*.png")))
        done = {frame: rows for frame, rows in found.frames.items() if _intact(folder, rows, twins)}
        wanted = {(c, view) for c in range(1, len(spec.classes) + 1) for view in views}
        to_draw = sorted((wanted | set(found.frames) | found.unlisted) - set(done))
        up_to_date = found.header is not None and found.header["schema_version"] == SCHEMA_VERSION
        if to_draw or not up_to_date or (folder / JOURNAL).exists():
            renderers = list(found.renderers)
            if not found.journal:
                shutil.rmtree(folder / JOURNAL, ignore_errors=True)
            sealed_plan = with_digest({**plan, "renderers": renderers})
            files.write_json(folder / JOURNAL / PLAN, sealed_plan)

            def keep(frame: FrameId, drawn: DrawnFrame) -> None:
                done[frame] = [row for row, _ in drawn.files]
                renderers.append(drawn.gl)

            if to_draw:
                # On a cluster, each machine chooses its own platform.
                chosen_platform = choose_platform(platform) if scheduler is None else platform
                drawing = Drawing(folder.absolute(), spec, seed, chosen_platform, settings, twins)
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
                    files.remove_temporaries(folder)  # of interrupted frames
            header = found.header
            if header is None or to_draw or found.journal:
                header = _header(spec, plan, renderers, done)
            table = pd.DataFrame(
                [row for rows in done.values() for row in rows], columns=columns_of(settings)
            )
            write_manifest(Manifest(folder, header, table))
            shutil.rmtree(folder / JOURNAL)
        manifest = read_manifest(root, spec.name)
        remove_altered(manifest)
    return manifest


def _checked_views(viewpoints: Iterable[int] | None) -> list[int]:
    # Python's int, also for NumPy's: JSON has no others.
    views = sorted(set(map(operator.index, range(1, VIEWPOINTS + 1) if viewpoints is None else viewpoints)))
    if not views or not set(views) <= set(range(1, VIEWPOINTS + 1)):
        raise ValueError(f"viewpoints are numbered from 1 to {VIEWPOINTS}, got {views}")
    return views


def _plan(variant: Variant, seed: int, settings: Settings) -> dict[str, Any]:
    # What all frames of a dataset must have in common, with the types that reading JSON returns.
    plan = {
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
        # Usually one; several if a folder was completed on another machine.
        "renderers": [dict(pairs) for pairs in sorted({tuple(sorted(gl.items())) for gl in renderers})],
        "fingerprints": sorted({fingerprint(gl) for gl in renderers}),
        "versions": versions(PACKAGES),
    }


def _intact(folder: Path, rows: list[Row], twins: bool) -> bool:
    if twins and not {*TWINS} <= {row["kind"] for row in rows}:
        return False
    for row in rows:
        path = folder / str(row["path"])
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            return False
    return True


def draw(
    drawing: Drawing,
    frames: Sequence[FrameId],
    task: Callable[[Tell, Drawing, int, int], DrawnFrame],
    drawn: Callable[[FrameId, DrawnFrame], None],
    *,
    workers: int,
    scheduler: str | None = None,
    title: str,
) -> None:
    """Run `task` for each frame in worker processes.

    A process can have one OpenGL context only, so even a single worker runs in a separate process.

    Args:
        drawing: settings of the dataset.
        frames: class and view of each frame.
        task: draws one frame; called as `task(tell, drawing, class_id, view)`.
        drawn: called in this process with each frame as soon as it is drawn.
        workers: number of processes.
        scheduler: address of a Dask scheduler whose workers draw instead.
        title: what the progress shows, e.g. "generate".
    Raises:
        NoGraphicsError: if processes end unexpectedly on the same frame.
    """
    with progress(f"{title} {drawing.variant.name}", len(frames), "frames") as advance:

        def heard(job: Job, event: Event) -> None:
            if event.kind == "done":
                advance(1)
                drawn((job.arguments["class_id"], job.arguments["view"]), event.value)

        jobs = [
            Job(task, {"drawing": drawing, "class_id": c, "view": view}, attempts=ATTEMPTS)
            for c, view in frames
        ]
        try:
            run_all(jobs, heard, workers=workers, scheduler=scheduler)
        except WorkerDiedError as error:
            raise NoGraphicsError(
                f"a rendering process ended unexpectedly: {error} (platform {drawing.platform}); "
                "finished frames are kept; run the command again, or try another --platform"
            ) from None


def _write_frame(tell: Tell, drawing: Drawing, class_id: int, view: int) -> DrawnFrame:
    drawn = draw_frame(tell, drawing, class_id, view)
    for row, data in drawn.files:
        files.write(drawing.folder / str(row["path"]), data)
    rows = [row for row, _ in drawn.files]
    record = {"class": class_id, "view": view, "rows": rows, "renderer": drawn.gl}
    files.write_json(drawing.folder / JOURNAL / f"class{class_id}_img{view}.json", with_digest(record))
    return DrawnFrame([(row, b"") for row in rows], drawn.gl)  # the bytes are on disk
