"""Measure how store and scheduler scale: write, look up and read many cells of methods that do nothing."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from an8flower.ground.jobs import Event, Job, Tell, run
from an8flower.ground.progress import progress
from benchmark import store
from benchmark.board.rows import leaderboard
from benchmark.measuring.groups import UNIT
from benchmark.metrics import metrics
from benchmark.record import Json, Record
from benchmark.store import Cell

FOLDS = 5
# The number of test images in a fold of single-6c, so that files have a realistic size.
IMAGES = 1200


def main() -> None:
    """Process the cells and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=0, help="rows of each table; 0 for none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scheduler", help="address of a Dask scheduler to use instead of workers")
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.cells} cells, {arguments.images} images each", title_justify="left")
    for heading in ("what", "seconds", "cells/s"):
        table.add_column(heading, justify="right" if heading != "what" else "left")
    with tempfile.TemporaryDirectory() as folder:
        for what, seconds in _measured(Path(folder), arguments):
            rate = "" if what.startswith("one board") else f"{arguments.cells / seconds:.0f}"
            table.add_row(what, f"{seconds:.1f}", rate)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console(width=100).print(table)
    Console().print(
        f"{len(files)} files, {size / 2**20:.0f} MiB; peak memory of the run itself {peak:.0f} MiB",
        highlight=False,
    )


def _measured(folder: Path, arguments: argparse.Namespace) -> list[tuple[str, float]]:
    cells = [
        (f"model{k // FOLDS % 50:02}", f"method{k // (FOLDS * 50):05}", k % FOLDS)
        for k in range(arguments.cells)
    ]
    jobs = [
        Job(
            write_empty,
            {"folder": folder, "cells": cells[start : start + UNIT], "images": arguments.images},
        )
        for start in range(0, len(cells), UNIT)
    ]
    began = time.monotonic()
    with progress("write", len(cells), "cells") as advance:

        def heard(job: Job, event: Event) -> tuple[Job, ...]:
            if event.kind != "done":
                raise RuntimeError(f"a job of the simulation {event.kind}: {event.value}")
            advance(len(job.arguments["cells"]))
            return ()

        run(jobs, heard, workers=arguments.workers, scheduler=arguments.scheduler)
    written = time.monotonic()
    digests = dict.fromkeys(metrics.names(), "0" * 64)
    for model, method, fold in cells:
        cell, key = Cell(folder, "variant", model, method, fold), store.key(_identity(fold))
        if store.lookup(cell, key, digests) is None:
            raise RuntimeError("a cell that was written is not found")
    looked_up = time.monotonic()
    of_models = sorted({model for model, _, _ in cells})
    for model in of_models:
        store.readable_records(folder, "variant", model)
    read = time.monotonic()
    rows = len(leaderboard(folder, "variant", of_models[0]).rows)
    built = time.monotonic()
    return [
        ("written, through jobs and store", written - began),
        ("looked up, as a resumed run does", looked_up - written),
        ("read, all records", read - looked_up),
        (f"one board of {rows} methods, statistics included", built - read),
    ]


def _identity(fold: int) -> Json:
    return {"dataset_digest": "0" * 64, "weights_sha256": f"{fold:064}"}


def write_empty(tell: Tell, folder: Path, cells: list[tuple[str, str, int]], images: int) -> None:
    """Write records and tables as a measured unit does; runs as a job."""
    names, eight = metrics.names(), range(8)
    table = pd.DataFrame({name: [0.5] * images for name in names})
    for model, method, fold in cells:
        # Methods differ, as on a real board, so that the statistics do their usual work.
        scores = (
            np.random.default_rng([int(method[-5:]), fold])
            .normal(0.2 + int(method[-5:]) / 2000, 0.02, 8)
            .clip(0, 1)
        )
        views = {
            "view": [fold + 1 + 5 * k for k in eight], "images": [images // 8] * 8, "factors": {},
            "scores": dict.fromkeys(names, scores.tolist()),
        }  # fmt: skip
        identity = _identity(fold)
        record = Record(
            variant="variant", model=model, seed=0, fold=fold, explainer=method,
            key=store.key(identity), identity=identity, metrics=dict.fromkeys(names, "0" * 64),
            role="method", source="", status="ok", images=sum(views["images"]), accuracy=1.0, layer=None,
            scores=dict.fromkeys(names, float(scores.mean())), views=views, curve=[0.5] * 100,
        )  # fmt: skip
        store.write(Cell(folder, "variant", model, method, fold), record, table)


if __name__ == "__main__":
    # Imported by its name in the package, by which workers find the job.
    import_module("benchmark.experiments.speed.scale").main()
