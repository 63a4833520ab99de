"""Check that runs killed at random moments end in the board of an undisturbed run: `make reliability`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmark.board.model_set import board_records

PLAN = """
variants = ["part-2c"]
viewpoints = [1, 2, 3, 4, 5]
folds = [0, 1]
explainers = ["vebi", "deconv_gb", "grad_cam", "guided_grad_cam", "random", "train_mean_mask", "oracle"]
"""


@dataclass(frozen=True)
class Outcome:
    """The result of the kills.

    Args:
        kills: number of killed processes by kind: the "run" itself, or a "worker" of it.
        finished: number of runs that finished nevertheless.
        board: scores of the last run, by explainer, fold and metric.
        expected: scores of a run without kills.
    """

    kills: Counter[str]
    finished: int
    board: dict[tuple[str, int, str], float | None]
    expected: dict[tuple[str, int, str], float | None]


def main() -> None:
    """Kill runs, print the result, and exit with 1 if the board differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = suffer(Path(folder), kills=arguments.kills, rng=np.random.default_rng(arguments.seed))
    same = outcome.board == outcome.expected
    Console().print(
        f"{sum(outcome.kills.values())} kills ({dict(outcome.kills)}), {outcome.finished} runs finished in "
        f"between: the board of {len(outcome.expected)} scores is "
        f"{'the same' if same else 'NOT the same'} as that of an undisturbed run",
        highlight=False,
    )
    sys.exit(not same)


def suffer(folder: Path, *, kills: int, rng: np.random.Generator) -> Outcome:
    """Run a tiny plan repeatedly with SIGKILL at random moments, then once to its end.

    Args:
        folder: an empty folder.
        kills: number of kills.
        rng: chooses the moments and the processes.
    """
    undisturbed = folder / "undisturbed"
    begun = time.monotonic()
    _end(_begin(undisturbed))
    lasts_s = time.monotonic() - begun
    disturbed, count, finished = folder / "disturbed", Counter[str](), 0
    while sum(count.values()) < kills:
        process = _begin(disturbed)
        try:
            process.wait(float(rng.uniform(0.02, 0.6)) * lasts_s)
        except subprocess.TimeoutExpired:
            kind, victim = _victim(process.pid, rng)
            count[kind] += 1
            os.kill(victim, signal.SIGKILL)
            if kind == "worker":
                # The run continues with another worker, or is killed itself a little later.
                with_luck = float(rng.uniform(0.02, 0.3)) * lasts_s
                try:
                    process.wait(with_luck)
                except subprocess.TimeoutExpired:
                    process.kill()
                    count["run"] += 1
            process.wait()
            continue
        finished += 1
        shutil.rmtree(disturbed)  # it finished in spite of the kills before: start again from nothing
    _end(_begin(disturbed))
    return Outcome(count, finished, _board(disturbed), _board(undisturbed))


def _begin(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.toml").write_text(PLAN)
    command = [sys.executable, "-m", "benchmark", "run", str(folder / "plan.toml"), "--workers", "2"]
    with (folder / "run.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"an undisturbed run ended with status {process.returncode}: {process.args!r}")


def _victim(run: int, rng: np.random.Generator) -> tuple[str, int]:
    """Choose the run or one of its workers, with equal probability."""
    children = Path(f"/proc/{run}/task/{run}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    # Workers are started from threads of the run, so /proc lists them under those.
    for task in Path(f"/proc/{run}/task").glob("*/children"):
        workers += [int(pid) for pid in task.read_text().split() if int(pid) not in workers]
    processes: list[Any] = [("run", run), *(("worker", pid) for pid in sorted(workers))]
    chosen: tuple[str, int] = processes[int(rng.integers(len(processes)))]
    return chosen


def _board(folder: Path) -> dict[tuple[str, int, str], float | None]:
    return {
        (record.explainer, record.fold, metric): score
        for record in board_records(folder / "runs", "part-2c", "an8net").records
        for metric, score in record.scores.items()
    }


if __name__ == "__main__":
    main()
