"""Measure how fast datasets are drawn, and the time of each step: `make bench-data`.

This needs an otherwise idle machine with two cores.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from an8flower import generate, png
from an8flower.drawing.augment import derivatives
from an8flower.ground import files
from an8flower.protocol import VIEWPOINTS
from an8flower.variants import variants
from benchmark.experiments.speed.links import medians

NAMES = ("single-6c", "double-12c", "part-2c")


def main() -> None:
    """Draw all three variants completely, then measure scaling and the steps of a frame."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        console.print(_whole(Path(folder)))
        console.print(_scaling(Path(folder)))
    console.print(_breakdown())


def _whole(folder: Path) -> Table:
    table = Table(title="all three variants, 2 workers", title_justify="left")
    for heading in ("variant", "frames", "derivatives", "seconds", "frames/s", "MiB on disk"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    total = [0.0] * 4
    for name in NAMES:
        begun = time.perf_counter()
        counts = generate(folder, name, workers=2).table["kind"].value_counts()
        seconds = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in (folder / name).rglob("*.png")) / 2**20
        row = [int(counts["frame"]), int(counts["image"]), seconds, size]
        total = [a + b for a, b in zip(total, row, strict=True)]
        table.add_row(name, *_cells(row))
    table.add_section()
    table.add_row("together", *_cells(total))
    # The largest of all finished child processes.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    table.caption = f"peak memory of a worker: {peak:.0f} MiB"
    return table


def _cells(row: list[float]) -> list[str]:
    frames, images, seconds, size = row
    return [f"{frames:.0f}", f"{images:.0f}", f"{seconds:.1f}", f"{frames / seconds:.2f}", f"{size:.0f}"]


def _scaling(folder: Path) -> Table:
    """Measure frames per second with one and with two workers, without the start of the processes."""
    table = Table(title="scaling on single-6c, start-up left out", title_justify="left")
    for heading in ("workers", "frames/s", "ratio"):
        table.add_column(heading, justify="right")
    rates = []
    for workers in (1, 2):
        # The difference between two sizes of the same run does not include the start-up.
        seconds = []
        for views in ([1], range(1, 12)):
            begun = time.perf_counter()
            generate(folder / f"{workers}_{len(views)}", "single-6c", viewpoints=views, workers=workers)
            seconds.append(time.perf_counter() - begun)
        rates.append(60 / (seconds[1] - seconds[0]))
        table.add_row(str(workers), f"{rates[-1]:.2f}", f"{rates[-1] / rates[0]:.2f}x")
    return table


def _breakdown() -> Table:
    """Measure the milliseconds of each step of a frame with its 25 derivatives, on one core."""
    import cv2

    os.environ["LP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    from an8flower.drawing.renderer import Renderer, downsample

    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        spent[step] += 1000 * (time.perf_counter() - begun)

    views = range(1, VIEWPOINTS + 1, 5)
    with Renderer(variants.get("single-6c")) as renderer, tempfile.TemporaryDirectory() as folder:
        renderer.render(0, 1)
        for view in views:
            with timed("render colours and part ids"):
                frame = renderer.render(0, view)
            with timed("warp image and part ids"):
                warped = list(derivatives(frame))
            images = [frame.image, frame.part_ids]
            for derivative in warped:
                mask = (derivative.part_ids == 6).astype(np.uint8) * 255
                images += [derivative.image, derivative.part_ids, mask]
            with timed("encode PNG"):
                encoded = [png.encode(image) for image in images]
            with timed("write files"):
                for k, data in enumerate(encoded):
                    files.write(Path(folder) / f"{k}.png", data)
        wide = np.zeros((600, 600, 3), np.uint8)
        shrink, _ = medians(lambda: downsample(wide), lambda: None, 9)
        ratio = _against_bare_opencv(frame.image, frame.part_ids, Path(folder))
    table = Table(title="one frame with its 25 derivatives, one core", title_justify="left")
    table.add_column("step")
    table.add_column("ms", justify="right")
    for step, milliseconds in spent.items():
        table.add_row(step, f"{milliseconds / len(views):.1f}")
    table.add_row("  of rendering: downsample 600 to 300", f"{1000 * shrink:.1f}")
    table.caption = f"writing derivatives reaches {ratio:.0%} of the speed of bare OpenCV warp and PNG encode"
    return table


def _against_bare_opencv(image: np.ndarray, part_ids: np.ndarray, folder: Path) -> float:
    from an8flower.drawing.renderer import Frame
    from benchmark.experiments.speed.links import write_bare, write_derivatives

    frame = Frame(image, part_ids)
    ours: Callable[[], object] = lambda: write_derivatives([frame], folder)  # noqa: E731
    mine, bare = medians(ours, lambda: write_bare([frame]), 9)
    return bare / mine


if __name__ == "__main__":
    main()
