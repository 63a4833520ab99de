"""A submitted method, run where it can: in a process of its own, measured by the harness as any other.

Run as `python -m benchmark.submission.rerunning JOB.json`; the job's results folder gets the records. The
process is no sandbox: who runs foreign code must have read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from an8flower.ground import files
from benchmark import store
from benchmark.plan import Plan, Setup
from benchmark.store import Cell, Record
from benchmark.submission.form import Claim, Submission
from benchmark.submission.scoring import localisation


def rerun(
    submission: Submission, claims: Sequence[Claim], plan: Plan, folder: Path, workers: int
) -> dict[Setup, tuple[Record, pd.DataFrame] | str]:
    """Measure a plug-in.

    Args:
        submission: of the kind "plugin".
        claims: folds of one variant, model, seed and scheme.
        plan: whose root, checkpoints, device and limits are used, with absolute paths.
        folder: empty; for script and results.
        workers: as in `evaluate`.
    Returns:
        for each fold record and per-image scores, or in words why there are none.
    """
    reference, setup = submission.described.reference, claims[0].setup
    if submission.described.script:
        script = folder / Path(submission.described.script).name
        files.write(script, submission.read(submission.described.script))
        reference = f"{script}:{reference}"
    results = folder / "results"
    job = {
        "root": str(plan.root), "variant": setup.variant, "model": setup.model,
        "explainers": [reference], "folds": [claim.setup.fold for claim in claims],
        "metrics": list(localisation()), "seed": setup.seed, "scheme": claims[0].scheme,
        "checkpoints": str(plan.checkpoints), "results": str(results), "limit_s": plan.limit_s,
        "limit_gib": plan.limit_gib, "device": plan.device, "workers": workers,
    }  # fmt: skip
    files.write_json(folder / "job.json", job)
    command = [sys.executable, "-m", "benchmark.submission.rerunning", str(folder / "job.json")]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    records = results / setup.variant / setup.model / "records"
    found = {record["fold"]: record for record in map(store.read_record, records.rglob("fold*.json"))}
    return {claim.setup: _seen(claim, found, results, done.returncode) for claim in claims}


def _seen(
    claim: Claim, found: dict[int, Record], results: Path, code: int
) -> tuple[Record, pd.DataFrame] | str:
    setup = claim.setup
    if setup.fold not in found:
        return f"its run ended with status {code} and without a result"
    record = found[setup.fold]
    if record["status"] != "ok":
        return f"its run is {record['status']}: {record['reason']}"
    cell = Cell(results, setup.variant, setup.model, record["explainer"], setup.fold, setup.seed)
    return record, store.read_scores(cell)


def main(path: str) -> None:
    """Carry out one job."""
    from benchmark.measuring.harness import evaluate

    try:
        evaluate(**json.loads(Path(path).read_text()))
    except Exception as error:  # of a stranger's script; the one who verifies wants a line, no traceback
        sys.stderr.write(f"an8flower: {type(error).__name__}: {' '.join(str(error).split())}\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
