"""Certify the trained models of a plan, in worker processes, and write the certificates."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from an8flower import An8Flower, generate
from an8flower.dataset import Twin
from an8flower.drawing.gl import Platform
from an8flower.folds import in_split
from an8flower.ground.jobs import ATTEMPTS, Event, Job, Tell, WorkerDiedError, run_all
from an8flower.ground.progress import progress
from an8flower.manifest import TWINS, Manifest, read_manifest
from benchmark.certificate import Twinned, certify, shares, shares_by_view
from benchmark.certificate.records import lookup, record_path, write
from benchmark.device import device_of
from benchmark.measuring.circumstances import circumstances
from benchmark.measuring.code_digest import code_digest
from benchmark.measuring.identity import check_fit
from benchmark.measuring.model_and_images import BATCH
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.record import Json
from benchmark.setups import Setup
from benchmark.store import ResultsError, key
from benchmark.training.weights import intact_record, load_model


def certify_all(plan: Plan, *, workers: int = 0, scheduler: str | None = None) -> list[Json]:
    """Certify the trained models of a plan; certificates with the same key are reused.

    Args:
        plan: the plan; its images must have their twins.
        workers: number of processes on this machine; 0 runs in this process.
        scheduler: address of a Dask scheduler, whose workers are used instead.
    Returns:
        the record of each model, in the order of `plan.setups`; docs/certificate.md describes it.
    Raises:
        DataFolderError: if data, twins or weights are missing or damaged.
        ResultsError: if weights were trained on other data, or if a process dies repeatedly.
    """
    plan = plan.absolute()
    setups = list(plan.setups())
    manifests = {setup: read_manifest(plan.data_root(setup.recipe), setup.variant) for setup in setups}
    records = {
        setup: known
        for setup in setups
        if (known := known_certificate(plan, setup, manifests[setup])) is not None
    }
    waiting = [setup for setup in setups if setup not in records]
    _prepare(plan, waiting)
    images = {setup: _images(manifests[setup], setup.fold, plan) for setup in setups}
    named = dict.fromkeys(setup.model_name for setup in setups)
    title = f"certify {', '.join(plan.variants)} {', '.join(named)}"
    kept = sum(images[setup] for setup in records)
    with progress(title, sum(images.values()), "images", done=kept) as advance:
        told: Counter[Setup] = Counter()

        def heard(job: Job, event: Event) -> None:
            setup: Setup = job.arguments["setup"]
            if event.kind == "told":
                told[setup] += event.value
                advance(event.value)
            elif event.kind == "retried":
                advance(-told.pop(setup, 0))
            elif event.kind == "done":
                records[setup] = event.value

        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        jobs = [
            Job(_certify, {"plan": plan, "setup": setup, "command": command}, attempts=ATTEMPTS)
            for setup in waiting
        ]
        try:
            run_all(jobs, heard, workers=workers, scheduler=scheduler)
        except WorkerDiedError as error:
            raise ResultsError(f"{error.job.arguments['setup']} cannot be certified: {error}") from None
    return [records[setup] for setup in setups]


def known_certificate(plan: Plan, setup: Setup, manifest: Manifest | None = None) -> Json | None:
    """Return the certificate of a trained model if it exists and has the present key; else None."""
    manifest = manifest or read_manifest(plan.data_root(setup.recipe), setup.variant)
    wanted = key(_identity(plan, setup, manifest))
    return lookup(record_path(plan.results, setup), wanted, tables=plan.tables)


def draw_twins(
    root: str | Path, variant: str, *, workers: int, scheduler: str | None = None, platform: Platform = "auto"
) -> None:
    """Draw the twins of a dataset without twins, for exactly the views it contains.

    Raises:
        as `generate`.
    """
    manifest = read_manifest(root, variant)
    if set(TWINS) <= set(manifest.table["kind"]):
        return
    header = manifest.header
    factors = {name: tuple(v) if isinstance(v, list) else v for name, v in header["factors"].items()}
    generate(
        root, variant, viewpoints=header["views"], seed=header["seed"], factors=factors, twins=True,
        workers=max(1, workers), scheduler=scheduler, platform=platform,
    )  # fmt: skip


def _certify(tell: Tell, plan: Plan, setup: Setup, command: str) -> Json:
    """Certify one model and write its certificate; a job, which reports the number of processed images."""
    device = device_of(plan.device)
    trained = load_model(plan.weights_path(setup), device=device, of=setup)
    pictures = Twinned.of(
        plan.data_root(setup.recipe),
        setup.variant,
        fold=setup.fold,
        size_px=models.get(setup.model).size_px,
        folds=plan.scheme,
    )
    manifest = pictures.images.manifest
    check_fit(trained.record, manifest, plan, setup.fold)
    answers = certify(trained.model, pictures, batch=BATCH, device=device, done=tell)
    flags, classes = answers.flags, pictures.images.classes
    found = answers.verdict(classes)
    identity = _identity(plan, setup, manifest)
    record = {
        **asdict(setup),
        "key": key(identity),
        "identity": identity,
        "certified": not found.failures,
        "reason": "; ".join(found.failures),
        "accuracy": float((flags["predicted"] == flags["class"] - 1).mean()),
        "shares": asdict(shares(flags, len(classes))),
        "kept": [asdict(one) for one in found.kept],
        "without": [asdict(one) for one in found.without],
        "views": shares_by_view(flags),
        "command": command,
        **circumstances(device),
    }
    flags.insert(0, "fold", setup.fold)
    flags.insert(1, "seed", setup.seed)
    return write(record_path(plan.results, setup), record, flags)


def _identity(plan: Plan, setup: Setup, manifest: Manifest) -> Json:
    """Return everything that determines a certificate."""
    return {
        **asdict(setup),
        "folds": plan.scheme,
        "weights_sha256": intact_record(plan.weights_path(setup), of=setup)["weights_sha256"],
        "dataset_digest": manifest.digest,
        "code_sha256": code_digest(certify),
        "device": device_of(plan.device).type,
    }


def _prepare(plan: Plan, setups: Sequence[Setup]) -> None:
    """Write the arrays that the workers read, once for all workers."""
    shared = {
        (plan.data_root(setup.recipe), setup.variant, models.get(setup.model).size_px) for setup in setups
    }
    for root, variant, size_px in sorted(shared):
        for twin in (None, *get_args(Twin)):
            An8Flower(root, variant, size_px=size_px, twin=twin, target=("mask", "parts"))


def _images(manifest: Manifest, fold: int, plan: Plan) -> int:
    return int(in_split(manifest.of_kind("image")["view"], fold, "test", plan.scheme).sum())
