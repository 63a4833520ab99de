"""Writing a submission: a method with its measured scores, or heatmaps with theirs."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import explainers as methods
from an8flower.ground import files
from benchmark import store
from benchmark.measuring.cells import survey, with_data
from benchmark.measuring.identity import metric_digests
from benchmark.measuring.model_and_images import Subject
from benchmark.plan import Plan, Setup
from benchmark.store import Record
from benchmark.submission.archive import GIB
from benchmark.submission.arrays import Maps, read_maps
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import (
    ABOUT,
    SCRIPT_BYTES,
    Claim,
    Described,
    Method,
    Submission,
    describe,
    member_of,
    read_submission,
)
from benchmark.submission.scoring import images_of, localisation, maps_of, now, score, versions
from explainers import Explainer
from explainers.scripts import file_of

FOLD_BYTES = 2 * GIB  # of a user's own .npz, before its images are counted


@dataclass(frozen=True)
class About:
    """What the records do not know of a method.

    Args:
        method: whose it is.
        hardware: what it ran on.
        command: the exact command; "" for the one that the records name.
    """

    method: Method
    hardware: str
    command: str = ""


def pack_plugin(path: str | Path, about: About, plan: Plan) -> Submission:
    """Pack a method by its name, with its script if it has one, and its measured scores as the claim.

    Args:
        path: the file to write.
        about: metadata.
        plan: whose one explainer, variants, models, seeds and folds are claimed, from its results.
    Returns:
        the submission as it reads back.
    Raises:
        SubmissionError: if something is not measured, or what is said of it is no metadata.
    """
    explainer = _only(plan)
    claims, records = [], []
    for setup, whole in with_data(plan, plan.setups()):
        (wanted,) = survey(plan, setup, whole)
        if wanted.state != "done":
            raise SubmissionError(_not_measured(plan, setup, wanted.state))
        record = store.read_record(wanted.cell.record_path)
        if record["status"] != "ok":
            raise SubmissionError(
                f"{wanted.cell} is {record['status']} ({record['reason']}); mend the method first"
            )
        records.append(record)
        claims.append(_claim(setup, plan, record["identity"], record["images"], record["scores"]))
    members: dict[str, bytes] = {}
    script = file_of(explainer.spec)
    if script is not None:
        members[f"code/{script.name}"] = script.read_bytes()
        if len(members[f"code/{script.name}"]) > SCRIPT_BYTES:
            raise SubmissionError(
                f"{script} has more than {SCRIPT_BYTES} bytes; submit a package's name instead"
            )
    described = Described(
        "plugin", about.method, about.command or records[0]["command"], about.hardware, now(), versions(),
        {name: digest for record in records for name, digest in record["metrics"].items()}, tuple(claims),
        explainer.key, next(iter(members), ""),
    )  # fmt: skip
    return _write(Path(path), described, iter(members.items()))


def pack_heatmaps(
    path: str | Path, about: About, plan: Plan, *, folder: str | Path | None = None, half: bool = False
) -> Submission:
    """Pack a method's heatmaps, with their scores as the claim.

    Args:
        path: the file to write.
        about: metadata.
        plan: variants, models, seeds and folds; its one explainer gives the heatmaps.
        folder: instead of that, the user's own: `<variant>/<model>/fold<k>.npz` or `fold<k>.npz` in it.
        half: heatmaps of the explainer as float16, which takes half the room.
    Returns:
        the submission as it reads back.
    Raises:
        SubmissionError: if own heatmaps are missing or not as docs/submit.md says.
        DataFolderError: if data or weights are missing.
    """
    names, claims = localisation(), []
    explainer = _only(plan) if folder is None else None

    def members() -> Iterator[tuple[str, bytes]]:
        for setup in plan.setups():
            own = None if folder is None else _own(Path(folder), setup, plan)
            plants = explainer is not None and "object_masks" in explainer.spec.truths
            subject = Subject.of(plan, setup, plants=plants)
            images = images_of(subject, setup)
            maps: Maps
            if explainer is not None:
                # A method that learns must not know one fold's images when it explains another's.
                fresh = Explainer.of(explainer.spec, explainer.parameters)
                maps = maps_of(fresh, subject, half=half)
            else:
                assert own is not None
                if own.stat().st_size > FOLD_BYTES:
                    raise SubmissionError(f"{own} has more than {FOLD_BYTES} bytes")
                maps = read_maps(own.read_bytes(), str(own), images)
            packed = maps.to_npz(images)
            read_maps(packed, f"heatmaps of {setup}", images)  # what would be refused is not written
            _, summary = score(maps, subject, setup, about.method.name, names)
            identity = {
                "dataset_digest": subject.test.manifest.images_digest,
                "weights_sha256": subject.trained.record["weights_sha256"],
            }
            claim = _claim(setup, plan, identity, summary["images"], summary["scores"])
            claims.append(replace(claim, heatmaps=member_of(setup)))
            yield member_of(setup), packed

    described = Described(
        "heatmaps", about.method, about.command, about.hardware, now(), versions(), metric_digests(names), ()
    )
    return _write(Path(path), described, members(), claims)


def _write(
    path: Path, described: Described, members: Iterator[tuple[str, bytes]], claims: Sequence[Claim] = ()
) -> Submission:
    """Members first, then what is said of them; the file is there whole or not at all."""
    _check_about(described)  # before an hour of explaining

    def save(temporary: Path) -> None:
        listed: dict[str, Mapping[str, Any]] = {}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
            for name, data in members:
                listed[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                _add(archive, name, data)
            whole = replace(described, claims=(*described.claims, *claims))
            entries = whole.entries(listed)
            describe(entries, f"{path}: ")
            _add(archive, ABOUT, json.dumps(entries, indent=2, allow_nan=False).encode())

    files.write_with(path, save)
    return read_submission(path)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name)  # no time of day: equal content, equal bytes
    member.compress_type = zipfile.ZIP_STORED if name.endswith(".npz") else zipfile.ZIP_DEFLATED
    member.external_attr = 0o100644 << 16
    archive.writestr(member, data)


def _check_about(described: Described) -> None:
    """Metadata is checked alone, beside a fold that is surely right."""
    digest = "0" * 64
    setup = Setup("any", "any", 0, 0)
    member = member_of(setup) if described.kind == "heatmaps" else ""
    score_of = {"iou_auc": 0.0}
    claim = Claim(setup, "interleaved", digest, digest, 1, score_of, member)
    any_fold = replace(described, claims=(claim,), metrics={"iou_auc": digest})
    describe(any_fold.entries({}), "")


def _claim(
    setup: Setup, plan: Plan, identity: Record, images: int, scores: Mapping[str, float | None]
) -> Claim:
    return Claim(setup, plan.scheme, identity["dataset_digest"], identity["weights_sha256"], images, scores)


def _only(plan: Plan) -> Explainer:
    if len(plan.explainers) != 1:
        raise SubmissionError(f"a submission is of one method; name one, not {len(plan.explainers)}")
    found = methods.get(plan.explainers[0])
    if found.parameters.get("layer") == "all":
        raise SubmissionError(
            f"a submission is of one layer; name it instead of 'all' in {plan.explainers[0]!r}"
        )
    return found


def _not_measured(plan: Plan, setup: Setup, state: str) -> str:
    what = {
        "failed": "has failed", "new": "is not measured",
        "changed": "was measured with other code, data or weights",
    }[state]  # fmt: skip
    seed = f" --seed {setup.seed}" if setup.seed else ""
    return (
        f"{plan.explainers[0]} {what} on {setup}; run 'an8flower evaluate --explainer {plan.explainers[0]} "
        f"--variant {setup.variant} --model {setup.model}{seed}' first, or submit its --heatmaps"
    )


def _own(folder: Path, setup: Setup, plan: Plan) -> Path:
    seed = f"seed{setup.seed}/" if setup.seed else ""
    whole = folder / setup.variant / setup.model / f"{seed}fold{setup.fold}.npz"
    short = folder / f"fold{setup.fold}.npz"
    alone = len(plan.variants) == len(plan.models) == len(plan.seeds) == 1
    for path in (whole, short) if alone else (whole,):
        if path.is_file():
            return path
    raise SubmissionError(
        f"there is no {whole}" + (f" and no {short}" if alone else "") + "; write one for each fold as "
        "docs/submit.md says, or name the folds that there are with --folds"
    )
