"""Measure a run with two workers, with one, and when everything is already measured; `make bench-run`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROWS = (
    "vebi", "deconv_gb", "guided_grad_cam", "guided_grad_cam_pp", "grad_cam", "upsampled_activations",
    "grad_cam_pp", "random", "centre", "sobel", "train_mean_mask",
)  # fmt: skip


def main() -> None:
    """Measure the paper's seven explainers and four floors on all folds of single-6c; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:

        def timed(what: str, results: str, workers: int) -> None:
            options = [option for row in ROWS for option in ("--explainer", row)]
            begun = time.monotonic()
            subprocess.run(
                [
                    sys.executable, "-m", "benchmark", "evaluate", "--root", str(arguments.root),
                    "--checkpoints", str(arguments.checkpoints), "--results", str(Path(folder, results)),
                    "--workers", str(workers), *options,
                ],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            seconds[what] = time.monotonic() - begun

        timed("2 workers", "two", 2)
        timed("1 worker", "one", 1)
        timed("2 workers, all measured before", "two", 2)
    table = Table(title="7 rows and 4 floors on 5 folds of single-6c", title_justify="left")
    for heading in ("what", "seconds", "times 2 workers"):
        table.add_column(heading)
    for what, took_s in seconds.items():
        table.add_row(what, f"{took_s:.1f}", f"{took_s / seconds['2 workers']:.2f}x")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
