"""Are the claimed scores those of the heatmaps, or of the method, that came with them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmark.measuring.identity import PROTOCOL_VERSION, metric_digests
from benchmark.measuring.model_and_images import Subject
from benchmark.metrics import metrics
from benchmark.models import models
from benchmark.plan import Plan, Setup
from benchmark.store import Record
from benchmark.submission.arrays import read_maps
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import Claim, Submission
from benchmark.submission.rerunning import rerun
from benchmark.submission.scoring import circumstances, images_of, localisation, predicted_by, score

# Scores are from 0 to 1. The same heatmaps give the same scores but for rounding; a method that runs on
# another machine gives other heatmaps in the last digits, which can move a peak or two to another pixel.
TOLERANCES = {"heatmaps": 1e-6, "plugin": 1e-3}


@dataclass(frozen=True)
class Checked:
    """One fold, recomputed.

    Args:
        claim: what was claimed.
        problems: why it does not verify; empty if it does.
        scores: what came out, by metric; empty where nothing could be computed.
        record: as an ordinary measurement of it would be kept; None where there is none.
        table: its per-image scores.
    """

    claim: Claim
    problems: tuple[str, ...]
    scores: Mapping[str, float | None]
    record: Record | None = None
    table: pd.DataFrame | None = None


@dataclass(frozen=True)
class Report:
    """What came out of a verification.

    Args:
        submission: what was looked at.
        tolerance: by how much a score may differ.
        cells: the folds, in the order of the claims.
    """

    submission: Submission
    tolerance: float
    cells: tuple[Checked, ...]

    @property
    def verified(self) -> bool:
        """Every claimed score that compares with the mask is what came out here."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """A line each, those that all folds share once."""
        every = [(problem, cell) for cell in self.cells for problem in cell.problems]
        lines = dict.fromkeys(
            problem
            if all(problem in cell.problems for cell in self.cells)
            else f"{cell.claim.setup}: {problem}"
            for problem, cell in every
        )
        return tuple(lines)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Claimed metrics that are not recomputed: unknown here, or of the kind that asks the model again."""
        claimed = {name for cell in self.cells for name in cell.claim.scores}
        return tuple(sorted(claimed - set(localisation())))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        about = self.submission.described
        return {
            "file": str(self.submission.path),
            "sha256": self.submission.sha256,
            "kind": about.kind,
            "method": about.method.entries(),
            "verified": self.verified,
            "tolerance": self.tolerance,
            "unchecked": list(self.unchecked),
            "problems": list(self.problems),
            "cells": [
                {
                    **vars(cell.claim.setup),
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
    """Recompute the scores of a submission and compare them with those that are claimed.

    Args:
        submission: as `read_submission` gives it.
        plan: whose root, checkpoints, device and limits are used.
        run_code: run the method of a plug-in; else nothing of the submission is ever run.
        tolerance: by how much a score may differ; by default `TOLERANCES`.
        workers: processes that measure a plug-in; 0 for one that does it all, and hangs if the method does.
    Raises:
        SubmissionError: if heatmaps are not what they must be, or the claims cannot be.
    """
    plan = plan.absolute()
    must_be_possible(submission)
    allowed = TOLERANCES[submission.described.kind] if tolerance is None else tolerance
    if submission.described.kind == "heatmaps":
        cells = [_heatmaps(submission, claim, plan, allowed) for claim in submission.described.claims]
    else:
        cells = list(_plugin(submission, plan, allowed, run_code, workers))
    return Report(submission, allowed, tuple(cells))


def must_be_possible(submission: Submission) -> None:
    """Claimed scores lie within the bounds of their metrics.

    Raises:
        SubmissionError: for one that does not.
    """
    for claim in submission.described.claims:
        for name, value in claim.scores.items():
            if name not in metrics.names() or value is None:
                continue
            least, most = metrics.get(name).bounds
            if not least <= value <= most:
                raise SubmissionError(
                    f"{submission.path}: {claim.setup} claims {name} {value:g}; "
                    f"it is from {least:g} to {most:g}"
                )


def _subject(claim: Claim, plan: Plan, *, plants: bool = False) -> tuple[Subject | None, tuple[str, ...]]:
    """The data and the model here, and why they are not those of a claim."""
    try:
        models.get(claim.setup.model)
        subject = Subject.of(replace(plan, scheme=claim.scheme), claim.setup, plants=plants)
    except (ValueError, LookupError, OSError) as error:
        return None, (" ".join(str(error).split()),)
    problems = []
    here = subject.test.manifest.images_digest
    if here != claim.dataset_digest:
        problems.append(
            f"it is of other data ({claim.dataset_digest[:12]}) than {plan.root} holds ({here[:12]})"
        )
    here = subject.trained.record["weights_sha256"]
    if here != claim.weights_sha256:
        theirs = claim.weights_sha256[:12]
        problems.append(f"it is of another model ({theirs}) than {plan.checkpoints} holds ({here[:12]})")
    if not problems and len(subject.test) != claim.images:
        problems.append(f"it claims {claim.images} images; the fold has {len(subject.test)}")
    return subject, tuple(problems)


def _heatmaps(submission: Submission, claim: Claim, plan: Plan, tolerance: float) -> Checked:
    subject, problems = _subject(claim, plan)
    if subject is None or subject.test.manifest.images_digest != claim.dataset_digest:
        return Checked(claim, problems, {})
    where = f"{submission.path}: {claim.heatmaps}"
    images = images_of(subject, claim.setup)
    maps = read_maps(submission.read(claim.heatmaps, images.most_bytes), where, images)
    names, about = localisation(), submission.described
    table, summary = score(maps, subject, claim.setup, about.explainer, names)
    if not problems and (others := int((maps.predicted != predicted_by(subject)).sum())):
        problems += (
            f"{others} of {len(table)} maps explain another class than the one the model predicts here",
        )
    record = {
        "metrics": metric_digests(names), "role": "method", "source": about.method.paper, "library": "",
        "reduction": "", "resize": "", "command": about.command, "layer": None,
        **circumstances("cpu"), **summary,
        "identity": identity_of(submission, claim),
    }  # fmt: skip
    return _compared(claim, problems, record, table, tolerance, about.metrics)


def _plugin(
    submission: Submission, plan: Plan, tolerance: float, run_code: bool, workers: int
) -> Iterator[Checked]:
    about = submission.described
    problems = {claim.setup: _subject(claim, plan)[1] for claim in about.claims}
    if not run_code:
        for claim in about.claims:
            yield Checked(claim, (*problems[claim.setup], _read_first(submission)), {})
        return
    # One run for each trained architecture, however many of its folds are claimed.
    seen: dict[Setup, tuple[Record, pd.DataFrame] | str] = {}
    with TemporaryDirectory(prefix="an8flower-") as folder:
        able = sorted((claim for claim in about.claims if not problems[claim.setup]), key=_together)
        for k, (_, claims) in enumerate(groupby(able, _together)):
            seen |= rerun(submission, list(claims), plan, Path(folder) / str(k), workers)
    for claim in about.claims:
        one = seen.get(claim.setup, "")
        if isinstance(one, str):
            yield Checked(claim, problems[claim.setup] + ((one,) if one else ()), {})
            continue
        record, table = one
        identity = {**record["identity"], "explainer": about.explainer, "code_sha256": submission.sha256}
        record = record | {"identity": identity, "command": about.command}
        table["explainer"] = about.explainer
        yield _compared(claim, (), record, table, tolerance, about.metrics)


def identity_of(submission: Submission, claim: Claim) -> Record:
    """What determines a submitted cell: the file, beside what determines any other."""
    setup = claim.setup
    return {
        "variant": setup.variant, "dataset_digest": claim.dataset_digest, "model": setup.model,
        "fold": setup.fold, "folds": claim.scheme, "weights_sha256": claim.weights_sha256,
        "explainer": submission.described.explainer, "library": "", "parameters": {},
        "code_sha256": submission.sha256, "device": "cpu", "protocol_version": PROTOCOL_VERSION,
    }  # fmt: skip


def _compared(
    claim: Claim, problems: tuple[str, ...], record: Record, table: pd.DataFrame, tolerance: float,
    digests: Mapping[str, str],
) -> Checked:  # fmt: skip
    scores: Mapping[str, float | None] = record["scores"]
    differing = [
        name
        for name in claim.scores
        if name in scores and not _equal(claim.scores[name], scores[name], tolerance)
    ]
    for name in differing:
        changed = digests.get(name) != record["metrics"].get(name)
        problems += (
            f"{name} is claimed as {_figure(claim.scores[name])}; it is {_figure(scores[name])}"
            + (", by another release of the metric" if changed else ""),
        )
    return Checked(claim, problems, scores, record, table)


def _equal(claimed: float | None, found: float | None, tolerance: float) -> bool:
    if claimed is None or found is None:
        return claimed is found
    return bool(np.abs(claimed - found) <= tolerance)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"


def _read_first(submission: Submission) -> str:
    about = submission.described
    if about.script:
        shown = f"read {about.script} first ('unzip -p {submission.path} {about.script}')"
    else:
        shown = f"look first whether you trust the package that has {about.reference!r} here"
    return f"it is a method to be run on this machine: {shown}, then add --run-code"


def _together(claim: Claim) -> tuple[str, str, int, str]:
    setup: Setup = claim.setup
    return setup.variant, setup.model, setup.seed, claim.scheme
