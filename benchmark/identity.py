"""What determines a cell: data, weights, the method with its parameters and code, the protocol."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from an8flower.manifest import Manifest
from benchmark.metrics import metrics
from benchmark.plan import Plan
from benchmark.store import Record, ResultsError
from explainers import Explainer

# To be raised whenever equal heatmaps no longer give equal scores.
PROTOCOL_VERSION = 1


def identity_of(explainer: Explainer, trained: Record, device: str) -> Record:
    """All that determines the heatmaps of a cell.

    Args:
        explainer: the method with its parameters.
        trained: the record of the weights.
        device: kind of device it runs on, "cpu" or another, which rounds otherwise.
    """
    made = trained["identity"]
    return {
        **{name: made[name] for name in ("variant", "dataset_digest", "model", "fold", "folds")},
        "weights_sha256": trained["weights_sha256"],
        "explainer": explainer.spec.name,
        "library": explainer.spec.library,
        "parameters": dict(explainer.parameters),
        "code_sha256": code_digest(explainer.spec.build),
        "device": device,
        "protocol_version": PROTOCOL_VERSION,
    }


def metric_digests(names: Iterable[str]) -> dict[str, str]:
    """For each metric the SHA-256 of the code that computes it."""
    return {name: code_digest(metrics.get(name).compute, package="metrics") for name in names}


def code_digest(build: Callable[..., Any], *, package: str = "") -> str:
    """SHA-256 over the sources of the package that a function is in, since it may call all of it.

    Args:
        build: a function or class.
        package: the innermost folder of this name is taken for the package; else the outermost.
    """
    file = Path(inspect.getfile(getattr(build, "func", build)))  # a partial is what it calls
    around = list(takewhile(lambda folder: (folder / "__init__.py").exists(), file.parents))
    named = [folder for folder in around if folder.name == package]
    return _digest(named[0] if named else around[-1]) if around else _digest(file)


def must_fit(trained: Record, manifest: Manifest, plan: Plan, fold: int) -> None:
    """Weights and data belong together.

    Raises:
        ResultsError: if the weights were trained on other data or folds.
    """
    identity = trained["identity"]
    if (identity["dataset_digest"], identity["folds"]) != (manifest.images_digest, plan.scheme):
        raise ResultsError(
            f"the weights of fold {fold} in {plan.checkpoints} were trained on other data or folds; "
            f"run 'an8flower train --variant {identity['variant']} --model {identity['model']} "
            f"--root {manifest.folder.parent}' first"
        )


@cache
def _digest(where: Path) -> str:
    sources = sorted(where.rglob("*.py")) if where.is_dir() else [where]
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
