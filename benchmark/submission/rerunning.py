"""Run a submitted method, in a separate process; the harness measures it like any other.

Run as `python -m benchmark.submission.rerunning JOB.json`; the job's results folder gets the records. The
process is not a sandbox: read foreign code before you run it.
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
from benchmark.plan import Plan
from benchmark.record import Record
from benchmark.setups import Setup
from benchmark.submission.file import Submission
from benchmark.submission.form import Claim
from benchmark.submission.scoring import localisation


def rerun(
    submission: Submission, claims: Sequence[Claim], plan: Plan, folder: Path, workers: int
) -> dict[Setup, tuple[Record, pd.DataFrame] | str]:
    """Measure a plug-in.

    Args:
        submission: of the kind "plugin".
        claims: folds of one variant, model, seed and scheme.
        plan: whose root, checkpoints, device and limits are used, with absolute paths.
        folder: empty; for the script and the results.
        workers: as in `evaluate`.
    Returns:
        for each fold, its record and per-image scores, or the reason why it has none.
    """
    reference, setup = submission.form.reference, claims[0].setup
    if submission.script:
        script = folder / submission.form.script
        files.write(script, submission.script.encode())
        reference = f"{script}:{reference}"
    results = folder / "results"
    job = {
        "root": str(plan.root), "variant": setup.variant, "model": setup.model, "recipe": setup.recipe,
        "explainers": [reference], "folds": [claim.setup.fold for claim in claims],
        "metrics": list(localisation()), "seed": setup.seed, "scheme": claims[0].folds,
        "checkpoints": str(plan.checkpoints), "results": str(results), "limit_s": plan.limit_s,
        "limit_gib": plan.limit_gib, "device": plan.device, "workers": workers,
    }  # fmt: skip
    files.write_json(folder / "job.json", job)
    command = [sys.executable, "-m", "benchmark.submission.rerunning", str(folder / "job.json")]
    status = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ).returncode
    records, _ = store.readable_records(results, setup.variant, setup.model_name)
    by_fold = {record.fold: record for record in records}
    return {claim.setup: _outcome(claim, by_fold, results, status) for claim in claims}


def _outcome(
    claim: Claim, by_fold: dict[int, Record], results: Path, status: int
) -> tuple[Record, pd.DataFrame] | str:
    record = by_fold.get(claim.setup.fold)
    if record is None:
        return f"its run ended with status {status} and without a result"
    if record.status != "ok":
        return f"its run is {record.status}: {record.reason}"
    return record, store.read_scores(store.cell_of(results, record))


def main(path: str) -> None:
    """Carry out one job."""
    from benchmark.measuring.harness import evaluate

    try:
        evaluate(**json.loads(Path(path).read_text()))
    except Exception as error:  # of a foreign script; its user needs one line, not a traceback
        sys.stderr.write(f"an8flower: {type(error).__name__}: {' '.join(str(error).split())}\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
