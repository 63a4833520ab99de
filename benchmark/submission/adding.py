"""Putting a submission on the board: its folds as records of the results folder, all or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmark import store
from benchmark.measuring.identity import metric_digests
from benchmark.plan import Plan
from benchmark.store import Cell, Record
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import Submission
from benchmark.submission.scoring import localisation, versions
from benchmark.submission.verification import Checked, Report, identity_of, must_be_possible, verify

Status = Literal["verified", "self-reported"]


class NotVerifiedError(SubmissionError):
    """A submission that does not verify; the message names the first reason, the report has all.

    Args:
        report: what came out.
    """

    def __init__(self, report: Report) -> None:
        more = len(report.problems) - 1
        super().__init__(
            f"{report.submission.path} is not verified: {report.problems[0]}"
            + (f"; and {more} more" if more else "")
            + "; 'an8flower verify-submission' shows all, --self-reported adds it as that"
        )
        self.report = report


@dataclass(frozen=True)
class Added:
    """What `add` has done.

    Args:
        explainer: the row's name.
        status: "verified" or "self-reported".
        cells: where its records lie.
        already: it was there before, from just this file, and nothing was written.
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
    """Write a submission's folds as records, verified or as they are claimed.

    Args:
        submission: as `read_submission` gives it.
        plan: whose results, root, checkpoints and device are used.
        self_reported: verify nothing; the records hold the claims alone, and say so.
        run_code, tolerance, workers: as in `verify`.
        replacing: take the place of another file's rows of the same name.
    Raises:
        NotVerifiedError: if it does not verify.
        SubmissionError: if it cannot stand on the board, or another file has its name.
    """
    plan = plan.absolute()
    must_be_possible(submission)
    name = submission.described.explainer
    cells = tuple(plan.cell(claim.setup, name) for claim in submission.described.claims)
    before = _before(cells)
    status: Status = "self-reported" if self_reported else "verified"
    there = _there(submission, cells, before)
    if there == "verified" or there == status:
        return Added(name, there, cells, already=True)
    others = {record["submission"]["sha256"] for record in before} - {submission.sha256}
    if others and not replacing:
        raise SubmissionError(
            f"{name} is on the board already, from another file (SHA-256 {min(others)[:12]}); "
            "give the method another name, or take that one's place with --replace"
        )
    _must_join(submission, plan, self_reported)
    if self_reported:
        checked = tuple(Checked(claim, (), claim.scores) for claim in submission.described.claims)
        written = [(_claimed(submission, one), None) for one in checked]
    else:
        report = verify(submission, plan, run_code=run_code, tolerance=tolerance, workers=workers)
        if not report.verified:
            raise NotVerifiedError(report)
        written = [(one.record or {}, one.table) for one in report.cells]
    about = _about(submission, status)
    with _Staged(cells) as stage:
        for cell, (record, table) in zip(cells, written, strict=True):
            facts = _facts(cell, record)
            store.write(stage(cell), facts | dict(record) | facts | {"submission": about}, table)
    return Added(name, status, cells, already=False)


def submissions_in(results: str | Path) -> list[dict[str, Any]]:
    """Every submitted row of a results folder: variant, model, explainer, folds, and what its records say."""
    found = []
    for variant, model in _boards(results):
        rows: dict[str, list[Record]] = {}
        records, _ = store.readable_records(results, variant, model)
        for record in records:
            if record.get("submission"):
                rows.setdefault(record["explainer"], []).append(record)
        for name, records in rows.items():
            place = {"variant": variant, "model": model, "explainer": name, "folds": len(records)}
            found.append({**place, **records[0]["submission"]})
    return found


def _boards(results: str | Path) -> list[tuple[str, str]]:
    folders = Path(results).glob("*/*/records")
    return sorted((folder.parent.parent.name, folder.parent.name) for folder in folders)


def _about(submission: Submission, status: Status) -> Record:
    about = submission.described
    return {
        "status": status,
        "kind": about.kind,
        "sha256": submission.sha256,
        "method": about.method.name,
        **{name: value for name, value in about.method.entries().items() if name != "name"},
        "hardware": about.hardware,
        "created": about.created,
        "verified_by": versions() if status == "verified" else None,
    }


def _facts(cell: Cell, record: Mapping[str, Any]) -> Record:
    return {
        "variant": cell.variant, "model": cell.model, "seed": cell.seed, "fold": cell.fold,
        "explainer": cell.explainer, "key": store.key(record["identity"]),
    }  # fmt: skip


def _claimed(submission: Submission, one: Checked) -> Record:
    """A record of what is claimed; what nobody measured here is null."""
    about, claim = submission.described, one.claim
    return {
        "identity": identity_of(submission, claim), "metrics": dict(about.metrics), "role": "method",
        "source": about.method.paper, "library": "", "reduction": "", "resize": "", "command": about.command,
        "layer": None, "finished": about.created, "host": None, "versions": dict(about.versions),
        "status": "ok", "cause": None, "reason": None, "images": claim.images, "invalid": 0, "undefined": 0,
        "accuracy": None, "scores": dict(claim.scores), "views": None, "curve": None, "cost": None,
        "timing": None,
    }  # fmt: skip


def _before(cells: Sequence[Cell]) -> list[Record]:
    """The records that stand under this name now."""
    folders = {_folder(cell, "records") for cell in cells}
    paths = [path for folder in sorted(folders) for path in sorted(folder.rglob("fold*.json"))]
    records = [store.read_record(path) for path in paths]
    return [record for record in records if record.get("submission")]


def _there(submission: Submission, cells: Sequence[Cell], before: Sequence[Record]) -> Status | None:
    """As what just these folds of just this file stand on the board already, if they do."""
    if {record["submission"]["sha256"] for record in before} != {submission.sha256}:
        return None
    if not all(cell.record_path.exists() for cell in cells):
        return None
    found: set[Status] = {record["submission"]["status"] for record in before}
    if found == {"verified"}:
        current = metric_digests(localisation()).items()
        return "verified" if all(current <= record["metrics"].items() for record in before) else None
    return "self-reported"


def _must_join(submission: Submission, plan: Plan, self_reported: bool) -> None:
    """A board is of one dataset; a claim that nobody recomputes needs measured rows to stand beside."""
    name = submission.described.explainer
    for claim in submission.described.claims:
        setup = claim.setup
        place = f"{setup.variant} {setup.model}"
        records: list[Record] = []
        if (setup.variant, setup.model) in _boards(plan.results):
            records, _ = store.readable_records(plan.results, setup.variant, setup.model)
        others = [record for record in records if record["explainer"] != name]
        theirs = {record["identity"]["dataset_digest"] for record in others}
        if theirs and claim.dataset_digest not in theirs:
            raise SubmissionError(
                f"{submission.path} is of other data ({claim.dataset_digest[:12]}) than the records of "
                f"{place} in {plan.results} ({min(theirs)[:12]}), so they cannot share a board"
            )
        weights = {
            record["identity"]["weights_sha256"]
            for record in others
            if (record["fold"], record["seed"]) == (setup.fold, setup.seed)
        }
        if weights and claim.weights_sha256 not in weights:
            raise SubmissionError(
                f"{submission.path} is of other weights ({claim.weights_sha256[:12]}) than the records of "
                f"{setup} in {plan.results} ({min(weights)[:12]}), so they cannot share a board"
            )
        if self_reported and not others:
            raise SubmissionError(
                f"{plan.results} has no measured records of {place} for a self-reported row to stand beside; "
                f"run 'an8flower run --variant {setup.variant} --model {setup.model}' first"
            )


class _Staged:
    """Records are written aside, and put in place together when all of them are there."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._folders = list(dict.fromkeys(cell.results / cell.variant / cell.model for cell in cells))
        self._name = cells[0].explainer
        self._quoted = _folder(cells[0], "records").name

    def __enter__(self) -> Any:
        for folder in self._folders:
            shutil.rmtree(self._aside(folder), ignore_errors=True)
        return lambda cell: replace(cell, results=self._aside(cell.results / cell.variant / cell.model))

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._put()
        finally:
            for folder in self._folders:
                shutil.rmtree(self._aside(folder), ignore_errors=True)

    def _put(self) -> None:
        """Tables before the records that describe them; what goes wrong on the way is undone."""
        undo: list[tuple[Path, Path]] = []
        try:
            for new, old, place in self._moves():
                if place.exists():
                    _move(place, old)
                    undo.append((old, place))
                if new.exists():
                    _move(new, place)
                    undo.append((place, new))
        except BaseException:
            for source, target in reversed(undo):
                _move(source, target)
            raise

    def _moves(self) -> Iterator[tuple[Path, Path, Path]]:
        for kind in ("scores", "records"):
            for folder in self._folders:
                aside = self._aside(folder)
                new = aside / folder.parent.name / folder.name / kind / self._quoted
                yield new, aside / "before" / kind, folder / kind / self._quoted

    def _aside(self, folder: Path) -> Path:
        # Deeper than a board looks for records, on the same disk as where they go.
        return folder / f".adding.{os.getpid()}.tmp"


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _folder(cell: Cell, kind: Literal["records", "scores"]) -> Path:
    path = cell.record_path if kind == "records" else cell.scores_path
    return path.parent.parent if cell.seed else path.parent
