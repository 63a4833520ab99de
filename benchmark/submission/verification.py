"""Recompute the scores of a submission and compare them with the claimed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from an8flower.ground.deprecated import renamed
from benchmark import store
from benchmark.measuring.circumstances import circumstances
from benchmark.measuring.identity import PROTOCOL_VERSION, metric_digests
from benchmark.measuring.model_and_images import ModelAndImages
from benchmark.metrics import metrics
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.record import Json, Record
from benchmark.setups import PLAIN, Setup
from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import Submission
from benchmark.submission.form import Claim
from benchmark.submission.rerunning import rerun
from benchmark.submission.scoring import images_of, localisation, predicted_by, score

# Scores are from 0 to 1. The same heatmaps give the same scores except for rounding. A method that runs on
# another machine gives heatmaps whose last digits differ, which can move a peak to the next pixel.
TOLERANCES = {"heatmaps": 1e-6, "plugin": 1e-3}


@dataclass(frozen=True)
class Checked:
    """One fold, recomputed.

    Args:
        claim: what was claimed.
        problems: why it is not verified; empty if it is.
        record: what is measured, as a record of the submission's row; None if nothing could be computed.
        table: its per-image scores.
    """

    claim: Claim
    problems: tuple[str, ...]
    record: Record | None = None
    table: pd.DataFrame | None = None

    @property
    def scores(self) -> Mapping[str, float | None]:
        """The recomputed scores, by metric; empty if nothing could be computed."""
        return self.record.scores if self.record else {}


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Args:
        submission: what was verified.
        tolerance: largest difference allowed between a claimed score and the recomputed one.
        cells: the folds, in the order of the claims.
    """

    submission: Submission
    tolerance: float
    cells: tuple[Checked, ...]

    @property
    def verified(self) -> bool:
        """Whether every claimed score that compares with the mask was reproduced here."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each; a problem that all folds share is named once."""
        lines = {
            problem
            if all(problem in other.problems for other in self.cells)
            else f"{cell.claim.setup}: {problem}": None
            for cell in self.cells
            for problem in cell.problems
        }
        return tuple(lines)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Claimed metrics that are not recomputed: unknown here, or in need of the model."""
        claimed = {name for cell in self.cells for name in cell.claim.scores}
        return tuple(sorted(claimed - set(localisation())))

    def to_json(self) -> Json:
        """Return the report as JSON holds it."""
        form = self.submission.form
        return {
            "file": str(self.submission.path),
            "sha256": self.submission.sha256,
            "kind": form.kind,
            "method": asdict(form.method),
            "verified": self.verified,
            "tolerance": self.tolerance,
            "unchecked": list(self.unchecked),
            "problems": list(self.problems),
            "cells": [
                {
                    **asdict(cell.claim.setup),
                    "problems": list(cell.problems),
                    "claimed": dict(cell.claim.scores),
                    "recomputed": dict(cell.scores),
                }
                for cell in self.cells
            ],
        }


def verify(
    submission: Submission,
    plan: Plan,
    *,
    run_code: bool = False,
    tolerance: float | None = None,
    workers: int = 1,
) -> Report:
    """Recompute the scores of a submission and compare them with the claimed ones.

    Args:
        submission: as `read_submission` returns it.
        plan: whose root, checkpoints, device and limits are used.
        run_code: run the method of a plug-in; otherwise nothing of the submission is run.
        tolerance: largest difference allowed between two scores; by default from `TOLERANCES`.
        workers: processes that measure a plug-in; 0 for one process, which hangs if the method does.
    Raises:
        SubmissionError: if heatmaps are not as docs/submit.md describes, or a claimed score is not possible.
    """
    plan = plan.absolute()
    check_bounds(submission)
    kind, claims = submission.form.kind, submission.form.claims
    allowed = TOLERANCES[kind] if tolerance is None else tolerance
    if kind == "heatmaps":
        cells = [_check_heatmaps(submission, claim, plan, allowed) for claim in claims]
    else:
        cells = list(_check_plugin(submission, plan, allowed, run_code, workers))
    return Report(submission, allowed, tuple(cells))


def check_bounds(submission: Submission) -> None:
    """Check that claimed scores are within the bounds of their metrics.

    Raises:
        SubmissionError: for one that is not.
    """
    for claim in submission.form.claims:
        for name, value in claim.scores.items():
            if name not in metrics.names() or value is None:
                continue
            least, most = metrics.get(name).bounds
            if not least <= value <= most:
                raise SubmissionError(
                    f"{submission.path}: {claim.setup} claims {name} {value:g}; "
                    f"it must be from {least:g} to {most:g}"
                )


def record_of(submission: Submission, claim: Claim) -> Record:
    """Return the record of what a submission claims for one fold; what nobody measured here is None."""
    form, setup = submission.form, claim.setup
    identity = {
        "variant": setup.variant, "dataset_digest": claim.dataset_digest, "model": setup.model,
        **({} if setup.recipe == PLAIN else {"recipe": setup.recipe}),
        "fold": setup.fold, "folds": claim.folds, "weights_sha256": claim.weights_sha256,
        "explainer": form.explainer, "library": "", "parameters": {},
        "code_sha256": submission.sha256, "device": "cpu", "protocol_version": PROTOCOL_VERSION,
    }  # fmt: skip
    return Record(
        setup.variant, setup.model, setup.seed, setup.fold, form.explainer, store.key(identity), identity,
        dict(form.metrics), role="method", source=form.method.paper, command=form.command, status="ok",
        recipe=setup.recipe, images=claim.images, scores=dict(claim.scores), finished=form.created,
        versions=dict(form.versions),
    )  # fmt: skip


def _load(claim: Claim, plan: Plan) -> tuple[ModelAndImages | None, tuple[str, ...]]:
    """Return the data and the model here, and why they are not those of a claim."""
    try:
        models.get(claim.setup.model)
        loaded = ModelAndImages.load(replace(plan, scheme=claim.folds), claim.setup, object_masks=False)
    except (ValueError, LookupError, OSError) as error:
        return None, (" ".join(str(error).split()),)
    problems = []
    here = loaded.test.manifest.images_digest
    if here != claim.dataset_digest:
        problems.append(
            f"it is for other data ({claim.dataset_digest[:12]}) than {plan.root} has ({here[:12]})"
        )
    here = loaded.trained.record["weights_sha256"]
    if here != claim.weights_sha256:
        theirs = claim.weights_sha256[:12]
        problems.append(f"it is for another model ({theirs}) than {plan.checkpoints} has ({here[:12]})")
    if not problems and len(loaded.test) != claim.images:
        problems.append(f"it claims {claim.images} images; the fold has {len(loaded.test)}")
    return loaded, tuple(problems)


def _check_heatmaps(submission: Submission, claim: Claim, plan: Plan, tolerance: float) -> Checked:
    loaded, problems = _load(claim, plan)
    if loaded is None or loaded.test.manifest.images_digest != claim.dataset_digest:
        return Checked(claim, problems)
    heatmaps = submission.heatmaps(claim, images_of(loaded, claim.setup))
    names, claimed = localisation(), record_of(submission, claim)
    table, scores = score(heatmaps, loaded, claim.setup, claimed.explainer, names)
    if not problems and (others := int((heatmaps.predicted != predicted_by(loaded)).sum())):
        problems += (
            f"{others} of {len(table)} heatmaps explain a class that the model does not predict here",
        )
    record = replace(claimed, metrics=metric_digests(names), **circumstances("cpu"), **scores)
    return _compare(claim, problems, claimed, record, table, tolerance)


def _check_plugin(
    submission: Submission, plan: Plan, tolerance: float, run_code: bool, workers: int
) -> Iterator[Checked]:
    claims = submission.form.claims
    problems = {claim.setup: _load(claim, plan)[1] for claim in claims}
    if not run_code:
        for claim in claims:
            yield Checked(claim, (*problems[claim.setup], _read_first(submission)))
        return
    # One run for all folds of a trained architecture that are claimed.
    outcomes: dict[Setup, tuple[Record, pd.DataFrame] | str] = {}
    with TemporaryDirectory(prefix="an8flower-") as folder:
        able = sorted((claim for claim in claims if not problems[claim.setup]), key=_run)
        for k, (_, together) in enumerate(groupby(able, _run)):
            outcomes |= rerun(submission, list(together), plan, Path(folder) / str(k), workers)
    for claim in claims:
        outcome = outcomes.get(claim.setup)
        if outcome is None:
            yield Checked(claim, problems[claim.setup])
        elif isinstance(outcome, str):
            yield Checked(claim, (outcome,))
        else:
            measured, table = outcome
            claimed = record_of(submission, claim)
            identity = measured.identity | {
                "explainer": claimed.explainer, "code_sha256": submission.sha256,
            }  # fmt: skip
            record = replace(
                measured, explainer=claimed.explainer, identity=identity, key=store.key(identity),
                command=claimed.command,
            )  # fmt: skip
            table["explainer"] = claimed.explainer
            yield _compare(claim, (), claimed, record, table, tolerance)


def _compare(
    claim: Claim, problems: tuple[str, ...], claimed: Record, record: Record, table: pd.DataFrame,
    tolerance: float,
) -> Checked:  # fmt: skip
    for name, value in claim.scores.items():
        if name in record.scores and not _equal(value, record.scores[name], tolerance):
            changed = claimed.metrics[name] != record.metrics.get(name)
            release = "; another release computed the claim" if changed else ""
            figures = f"{name} is claimed as {_figure(value)}; it is {_figure(record.scores[name])}"
            problems += (figures + release,)
    return Checked(claim, problems, record, table)


def _equal(claimed: float | None, recomputed: float | None, tolerance: float) -> bool:
    if claimed is None or recomputed is None:
        return claimed is recomputed
    return abs(claimed - recomputed) <= tolerance


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"


def _read_first(submission: Submission) -> str:
    form = submission.form
    if form.script:
        how = f"read {form.script} first ('an8flower verify-submission {submission.path} --show-code')"
    else:
        how = f"first decide whether you trust the package that has {form.reference!r} here"
    return f"it is a method that must run on this machine: {how}, then add --run-code"


def _run(claim: Claim) -> tuple[str, str, int, str]:
    """Return what the folds share that are measured in one run."""
    return claim.setup.variant, claim.setup.model_name, claim.setup.seed, claim.folds


__getattr__ = renamed(__name__, {"must_be_possible": "check_bounds"})
