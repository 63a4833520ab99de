"""Commands that verify the submissions of others and put them on the board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from benchmark.cli.console import out, say
from benchmark.cli.options import (
    CHECKPOINTS,
    DEVICE,
    JSON,
    LIMIT_GIB,
    LIMIT_S,
    RESULTS,
    ROOT,
    WORKERS,
    Device,
    processes,
)
from benchmark.cli.submitting import figure

if TYPE_CHECKING:
    from benchmark.plan import Plan

FILE = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Submission that 'an8flower submit' wrote.", show_default=False),
]
RUN_CODE = Annotated[
    bool,
    typer.Option(
        "--run-code", help="Run a submitted method on this machine. It is foreign code: read it first."
    ),
]
TOLERANCE = Annotated[
    float | None,
    typer.Option(
        "--tolerance", metavar="X", min=0, show_default="1e-6 for heatmaps, 1e-3 for plug-ins",
        help="Largest difference allowed between a claimed score and the recomputed one.",
    ),
]  # fmt: skip


def verify_submission(
    file: FILE,
    show_code: Annotated[
        bool, typer.Option("--show-code", help="Print the script that the file holds, and do nothing else.")
    ] = False,
    run_code: RUN_CODE = False,
    tolerance: TOLERANCE = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    limit_s: LIMIT_S = 600.0,
    limit_gib: LIMIT_GIB = 8.0,
    workers: WORKERS = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Recompute the scores of a submission and compare.

    The exit status is 1 if a score differs from the claim, or cannot be computed.

    Example: an8flower verify-submission my_method.an8sub.safetensors
    """
    from benchmark.submission.errors import printable
    from benchmark.submission.file import read_submission
    from benchmark.submission.verification import verify

    submission = read_submission(file)
    if show_code:
        say(
            {"script": submission.script}, as_json, printable(submission.script) or "the file holds no script"
        )
        return
    plan = _plan(root, checkpoints, Path("runs"), device, limit_s, limit_gib)
    report = verify(
        submission,
        plan,
        run_code=run_code,
        tolerance=tolerance,
        workers=processes(workers, device),
    )
    if as_json:
        say(report.to_json(), True, "")
    else:
        about = report.submission.form
        whose = f"{about.method.name} by {', '.join(about.method.authors)}: {about.kind}"
        out.print(whose, markup=False, highlight=False, soft_wrap=True)
        table = Table()
        for heading in ("fold", "metric", "claimed", "recomputed"):
            table.add_column(heading, justify="left" if heading in ("fold", "metric") else "right")
        for cell in report.cells:
            for metric in cell.claim.scores:
                if metric in cell.scores:
                    figures = figure(cell.claim.scores[metric]), figure(cell.scores[metric])
                    table.add_row(str(cell.claim.setup), metric, *figures)
        if table.row_count:
            out.print(table)
        lines = list(report.problems)
        if report.unchecked:
            lines.append(f"not checked: {', '.join(report.unchecked)}")
        within = f"within {report.tolerance:g}"
        lines.append(f"verified: all scores are as claimed, {within}" if report.verified else "not verified")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(not report.verified))


def add(
    file: FILE,
    self_reported: Annotated[
        bool,
        typer.Option("--self-reported", help="Add the claimed scores, marked as such, and verify nothing."),
    ] = False,
    run_code: RUN_CODE = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a row of the same name that came from another file.")
    ] = False,
    tolerance: TOLERANCE = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    limit_s: LIMIT_S = 600.0,
    limit_gib: LIMIT_GIB = 8.0,
    workers: WORKERS = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Add a submission to the board.

    It is verified first, unless you give --self-reported.

    Example: an8flower board add my_method.an8sub.safetensors
    """
    from benchmark.setups import model_options
    from benchmark.submission.adding import add as add_to
    from benchmark.submission.file import read_submission

    plan = _plan(root, checkpoints, results, device, limit_s, limit_gib)
    added = add_to(
        read_submission(file), plan, self_reported=self_reported, run_code=run_code, replacing=replace,
        tolerance=tolerance, workers=processes(workers, device),
    )  # fmt: skip
    places = dict.fromkeys((cell.variant, model_options(cell.model_name)) for cell in added.cells)
    lines = [
        f"{added.explainer} {'is already' if added.already else 'is now'} on the board as {added.status}, "
        f"{_folds(len(added.cells))}"
    ]
    if not added.already:
        lines += [
            f"next: an8flower leaderboard --variant {v} {chosen} --results {results}" for v, chosen in places
        ]
    result = {
        "explainer": added.explainer, "status": added.status, "already": added.already,
        "records": [str(cell.record_path) for cell in added.cells],
    }  # fmt: skip
    say(result, as_json, "\n".join(lines))


def list_submissions(results: RESULTS = Path("runs"), as_json: JSON = False) -> None:
    """List the submissions on the boards of a results folder.

    Example: an8flower board list
    """
    from benchmark.submission.adding import submissions_in

    submissions = submissions_in(results)
    lines = [
        f"{row['variant']} {row['model']}: {row['explainer']}, {row['status']}, {_folds(row['folds'])}, "
        f"by {', '.join(row['authors'])}; paper {row['paper']}; code {row['code']} at {row['commit']}"
        for row in submissions
    ]
    say({"submissions": submissions}, as_json, "\n".join(lines or [f"no submissions in {results}"]))


def _plan(
    root: Path, checkpoints: Path, results: Path, device: Device, limit_s: float, limit_gib: float
) -> Plan:
    from benchmark.plan import Plan

    return Plan().with_(
        root=root, checkpoints=checkpoints, results=results, device=device.value, limit_s=limit_s,
        limit_gib=limit_gib,
    )  # fmt: skip


def _folds(count: int) -> str:
    return f"{count} fold" + ("s" if count > 1 else "")
