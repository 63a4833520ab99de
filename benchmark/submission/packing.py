"""Pack a submission: a method with its measured scores, or heatmaps with theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import explainers as methods
from an8flower.ground.deprecated import renamed
from an8flower.ground.versions import versions
from benchmark import store
from benchmark.measuring.cells import CellState, cells_of, with_datasets
from benchmark.measuring.circumstances import now
from benchmark.measuring.identity import metric_digests
from benchmark.measuring.model_and_images import ModelAndImages
from benchmark.plan import Plan
from benchmark.setups import Setup, model_options
from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import FILE_BYTES, SCRIPT_BYTES, Submission, write_submission
from benchmark.submission.form import Claim, Form, parse_form
from benchmark.submission.heatmaps import Arrays, digest, in_order, read_own
from benchmark.submission.metadata import Metadata
from benchmark.submission.scoring import explain, images_of, localisation, score
from explainers import Explainer
from explainers.scripts import file_of


def pack_plugin(path: str | Path, metadata: Metadata, plan: Plan) -> Submission:
    """Pack a method: its name, its script if it has one, and its measured scores as the claim.

    Args:
        path: the file to write.
        metadata: what the records do not hold.
        plan: its one explainer, variants, models, seeds and folds are claimed; its results have the scores.
    Returns:
        the submission as it is read again.
    Raises:
        SubmissionError: if something is not measured, or the metadata are not valid.
    """
    explainer = _only(plan)
    claims, records = [], []
    for setup, dataset in with_datasets(plan, plan.setups()):
        (planned,) = cells_of(plan, setup, dataset)
        if planned.state != "done":
            raise SubmissionError(_not_measured(plan, setup, planned.state))
        record = store.read_record(planned.cell.record_path)
        if record.status != "ok":
            raise SubmissionError(
                f"{planned.cell} is {record.status} ({record.reason}); correct the method first"
            )
        records.append(record)
        claims.append(_claim(setup, plan, record.identity, record.images, record.scores))
    script = file_of(explainer.spec)
    form = Form(
        "plugin", metadata.method, metadata.command or records[0].command, metadata.hardware, now(),
        versions(), {name: code for record in records for name, code in record.metrics.items()},
        tuple(claims), explainer.name, script.name if script else "",
    )  # fmt: skip
    return write_submission(Path(path), form, {}, _text(script) if script else "")


def pack_heatmaps(
    path: str | Path, metadata: Metadata, plan: Plan, *, folder: str | Path | None = None, half: bool = False
) -> Submission:
    """Pack a method's heatmaps, with their scores as the claim.

    Args:
        path: the file to write.
        metadata: who made the method, and how.
        plan: variants, models, seeds and folds; its one explainer computes the heatmaps.
        folder: instead of that, the user's own: `<variant>/<model>/fold<k>.npz` or `fold<k>.npz` in it.
        half: pack computed heatmaps as float16, which halves the size.
    Returns:
        the submission as it is read again.
    Raises:
        SubmissionError: if the user's own heatmaps are missing, or not as docs/submit.md describes them.
        DataFolderError: if data are missing or damaged.
        WeightsError: if weights are missing or damaged.
    """
    names, claims = localisation(), []
    explainer = _only(plan) if folder is None else None
    form = Form(
        "heatmaps", metadata.method, metadata.command, metadata.hardware, now(), versions(),
        metric_digests(names), (),
    )  # fmt: skip
    _check_metadata(form)
    folds: dict[Setup, Arrays] = {}
    for setup in plan.setups():
        own = None if folder is None else _own_file(Path(folder), setup, plan)
        object_masks = explainer is not None and "object_masks" in explainer.spec.truths
        loaded = ModelAndImages.load(plan, setup, object_masks=object_masks)
        images = images_of(loaded, setup)
        if own is not None:
            heatmaps = read_own(own, images)
        else:
            assert explainer is not None
            # A method that learns must not know the images of one fold when it explains another.
            heatmaps = explain(Explainer.from_spec(explainer.spec, explainer.parameters), loaded, half=half)
        folds[setup] = arrays = heatmaps.to_arrays(images)
        heatmaps = in_order(arrays, images, f"heatmaps of {setup}")  # refuses NaN before all are computed
        if (size := sum(array.nbytes for fold in folds.values() for array in fold.values())) > FILE_BYTES:
            raise SubmissionError(
                f"the heatmaps up to {setup} have {size} bytes; pack fewer folds, or --half"
            )
        _, scores = score(heatmaps, loaded, setup, form.explainer, names)
        identity = {
            "dataset_digest": loaded.test.manifest.images_digest,
            "weights_sha256": loaded.trained.record["weights_sha256"],
        }
        claim = _claim(setup, plan, identity, scores["images"], scores["scores"])
        claims.append(replace(claim, heatmaps_sha256=digest(arrays)))
    return write_submission(Path(path), replace(form, claims=tuple(claims)), folds)


def _check_metadata(form: Form) -> None:
    """Check the metadata before an hour of explaining, with a claim that is certainly right."""
    sha256 = "0" * 64
    claim = Claim(Setup("any", "any", 0, 0), "interleaved", sha256, sha256, 1, {"iou_auc": 0.0}, sha256)
    parse_form(json.dumps(replace(form, claims=(claim,)).to_json()), "the submission")


def _claim(
    setup: Setup, plan: Plan, identity: Mapping[str, Any], images: int, scores: Mapping[str, float | None]
) -> Claim:
    return Claim(setup, plan.scheme, identity["dataset_digest"], identity["weights_sha256"], images, scores)


def _only(plan: Plan) -> Explainer:
    if len(plan.explainers) != 1:
        raise SubmissionError(f"a submission has one method; name one explainer, not {len(plan.explainers)}")
    explainer = methods.get(plan.explainers[0])
    if explainer.parameters.get("layer") == "all":
        raise SubmissionError(
            f"a submission is for one layer; name it instead of 'all' in {plan.explainers[0]!r}"
        )
    return explainer


def _text(script: Path) -> str:
    if script.stat().st_size > SCRIPT_BYTES:
        raise SubmissionError(
            f"{script} has more than {SCRIPT_BYTES} bytes; install it as a package, and submit its name"
        )
    try:
        return script.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{script} is not UTF-8 text: {error}; save it as UTF-8") from None


def _not_measured(plan: Plan, setup: Setup, state: CellState) -> str:
    what = {
        "failed": "has failed", "new": "is not measured",
        "changed": "was measured with other code, data or weights",
    }[state]  # fmt: skip
    seed = f" --seed {setup.seed}" if setup.seed else ""
    return (
        f"{plan.explainers[0]} {what} on {setup}; run 'an8flower evaluate --explainer {plan.explainers[0]} "
        f"--variant {setup.variant} {model_options(setup.model_name)}{seed}' first, or submit its --heatmaps"
    )


def _own_file(folder: Path, setup: Setup, plan: Plan) -> Path:
    whole = store.seed_folder(folder / setup.variant / setup.model_name, setup.seed) / f"fold{setup.fold}.npz"
    short = folder / f"fold{setup.fold}.npz"
    alone = len(plan.boards()) == len(plan.seeds) == 1
    for path in (whole, short) if alone else (whole,):
        if path.is_file():
            return path
    neither = f"neither {whole} nor {short} exists" if alone else f"{whole} does not exist"
    raise SubmissionError(
        f"{neither}; write a file for each fold as docs/submit.md describes, or name your folds with --folds"
    )


__getattr__ = renamed(__name__, {"About": "benchmark.submission.metadata.Metadata"})
