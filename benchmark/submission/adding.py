"""Add a submission to the board: its folds become records of the results folder, all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from an8flower.ground.versions import versions
from benchmark import store
from benchmark.measuring.identity import metric_digests
from benchmark.plan import Plan
from benchmark.record import Json, Record
from benchmark.setups import model_options
from benchmark.store import Cell
from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import Submission
from benchmark.submission.scoring import localisation
from benchmark.submission.verification import Report, check_bounds, record_of, verify

Status = Literal["verified", "self-reported"]


class NotVerifiedError(SubmissionError):
    """A submission that is not verified; the message names the first reason, the report has all of them.

    Args:
        report: the result of the verification.
    """

    def __init__(self, report: Report) -> None:
        more = len(report.problems) - 1
        super().__init__(
            f"{report.submission.path} is not verified: {report.problems[0]}"
            + (f"; and {more} more" if more else "")
            + "; 'an8flower verify-submission' shows all, --self-reported adds it as that"
        )
        self.report = report

    def __reduce__(self) -> tuple[type[NotVerifiedError], tuple[Report]]:
        return type(self), (self.report,)


@dataclass(frozen=True)
class Added:
    """The result of `add`.

    Args:
        explainer: name of the row.
        status: "verified" or "self-reported".
        cells: where its records are stored.
        already: whether exactly this file was added before, so that nothing was written.
    """

    explainer: str
    status: Status
    cells: tuple[Cell, ...]
    already: bool


def add(
    submission: Submission,
    plan: Plan,
    *,
    self_reported: bool = False,
    run_code: bool = False,
    replacing: bool = False,
    tolerance: float | None = None,
    workers: int = 1,
) -> Added:
    """Write the folds of a submission as records, verified or as they are claimed.

    Args:
        submission: as `read_submission` returns it.
        plan: whose results, root, checkpoints and device are used.
        self_reported: verify nothing; the records hold the claims alone, and say so.
        run_code, tolerance, workers: as in `verify`.
        replacing: replace the rows of the same name that came from another file.
    Raises:
        NotVerifiedError: if it is not verified.
        SubmissionError: if it does not belong on the board, or another file has its name.
    """
    plan = plan.absolute()
    check_bounds(submission)
    name, claims = submission.form.explainer, submission.form.claims
    cells = tuple(plan.cell(claim.setup, name) for claim in claims)
    before = _submitted(cells)
    status: Status = "self-reported" if self_reported else "verified"
    known = _known_status(submission, cells, before)
    if known in ("verified", status):
        return Added(name, known, cells, already=True)
    others = set(before) - {submission.sha256}
    if others and not replacing:
        raise SubmissionError(
            f"{name} is on the board already, from another file (SHA-256 {min(others)[:12]}); "
            "give the method another name, or replace that file's rows with --replace"
        )
    _check_board(submission, plan, self_reported)
    rows: list[tuple[Record, pd.DataFrame | None]]
    if self_reported:
        rows = [(record_of(submission, claim), None) for claim in claims]
    else:
        report = verify(submission, plan, run_code=run_code, tolerance=tolerance, workers=workers)
        if not report.verified:
            raise NotVerifiedError(report)
        rows = [(cell.record, cell.table) for cell in report.cells if cell.record]
    about = _about(submission, status)
    with _all_or_none(cells) as staged:
        for cell, (record, table) in zip(cells, rows, strict=True):
            store.write(staged(cell), replace(record, submission=about), table)
    return Added(name, status, cells, already=False)


def submissions_in(results: str | Path) -> list[Json]:
    """Return every submitted row of a results folder: its place, folds, and what its records say of it."""
    found: list[Json] = []
    for variant, model in _boards(results):
        rows: dict[str, list[Json]] = {}
        for record in store.readable_records(results, variant, model)[0]:
            if record.submission:
                rows.setdefault(record.explainer, []).append(record.submission)
        for name, about in rows.items():
            place = {"variant": variant, "model": model, "explainer": name, "folds": len(about)}
            found.append({**place, **about[0]})
    return found


def _boards(results: str | Path) -> list[tuple[str, str]]:
    folders = Path(results).glob("*/*/records")
    return sorted((folder.parent.parent.name, folder.parent.name) for folder in folders)


def _about(submission: Submission, status: Status) -> Json:
    form = submission.form
    method = asdict(form.method) | {"authors": list(form.method.authors)}
    return {
        "status": status,
        "kind": form.kind,
        "sha256": submission.sha256,
        "method": method.pop("name"),
        **method,
        "hardware": form.hardware,
        "created": form.created,
        "verified_by": versions() if status == "verified" else None,
    }


def _submitted(cells: Sequence[Cell]) -> dict[str, list[Record]]:
    """Return the submitted records that have this name now, by the SHA-256 of their file.

    Records that cannot be used are not among them: they are replaced.
    """
    records: dict[str, list[Record]] = {}
    for place in sorted({(cell.results, cell.variant, cell.model_name, cell.explainer) for cell in cells}):
        for record in store.readable_records(*place[:3])[0]:
            if record.explainer == place[3] and record.submission:
                records.setdefault(record.submission["sha256"], []).append(record)
    return records


def _known_status(
    submission: Submission, cells: Sequence[Cell], before: dict[str, list[Record]]
) -> Status | None:
    """Return the status that exactly these folds of exactly this file have on the board; None if none."""
    records = before.get(submission.sha256, [])
    here = {store.cell_of(cells[0].results, record) for record in records}
    if set(before) != {submission.sha256} or not here.issuperset(cells):
        return None
    if any((record.submission or {})["status"] != "verified" for record in records):
        return "self-reported"
    current = metric_digests(localisation()).items()
    return "verified" if all(current <= record.metrics.items() for record in records) else None


def _check_board(submission: Submission, plan: Plan, self_reported: bool) -> None:
    """Check that a board has the same data and models, and measured rows if nothing is recomputed."""
    boards = _boards(plan.results)
    for claim in submission.form.claims:
        setup = claim.setup
        place = f"{setup.variant} {setup.model_name}"
        others: list[Record] = []
        if (setup.variant, setup.model_name) in boards:
            records, _ = store.readable_records(plan.results, setup.variant, setup.model_name)
            others = [record for record in records if record.explainer != submission.form.explainer]
        data = {record.identity["dataset_digest"] for record in others}
        _check_same(submission, claim.dataset_digest, data, "data", f"{place} in {plan.results}")
        weights = {
            record.identity["weights_sha256"]
            for record in others
            if (record.fold, record.seed) == (setup.fold, setup.seed)
        }
        _check_same(submission, claim.weights_sha256, weights, "weights", f"{setup} in {plan.results}")
        if self_reported and not others:
            raise SubmissionError(
                f"{plan.results} has no measured records of {place}, which a self-reported row needs; "
                f"run 'an8flower run --variant {setup.variant} {model_options(setup.model_name)}' first"
            )


def _check_same(submission: Submission, claimed: str, here: set[str], what: str, place: str) -> None:
    if here and claimed not in here:
        raise SubmissionError(
            f"{submission.path} is for other {what} ({claimed[:12]}) than the records of {place} "
            f"({min(here)[:12]}), so they cannot share a board"
        )


@contextmanager
def _all_or_none(cells: Sequence[Cell]) -> Iterator[Callable[[Cell], Cell]]:
    """Yield a function that returns where to write a cell first; at the end, all cells move to their place.

    They replace all records and tables of the same name. If a move fails, those before it are undone.
    """
    boards = list(dict.fromkeys(cell.board_folder for cell in cells))
    name = _folder(cells[0], "records").name

    def aside(board: Path) -> Path:
        # On the same disk, and deeper than a board looks for records.
        return board / f".adding.{os.getpid()}.tmp"

    def remove() -> None:
        for board in boards:
            shutil.rmtree(aside(board), ignore_errors=True)

    def moves() -> Iterator[tuple[Path, Path]]:
        for kind in ("scores", "records"):  # a table is there before the record that describes it
            for board in boards:
                place = board / kind / name
                yield place, aside(board) / "before" / kind
                yield aside(board) / board.parent.name / board.name / kind / name, place

    remove()
    try:
        yield lambda cell: replace(cell, results=aside(cell.board_folder))
        done: list[tuple[Path, Path]] = []
        try:
            for source, target in moves():
                if source.exists():
                    _move(source, target)
                    done.append((source, target))
        except BaseException:
            for source, target in reversed(done):
                _move(target, source)
            raise
    finally:
        remove()


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _folder(cell: Cell, kind: Literal["records", "scores"]) -> Path:
    path = cell.record_path if kind == "records" else cell.scores_path
    return path.parent.parent if cell.seed else path.parent
