"""The one loop: every explainer on every test image of every fold, scored against the masks."""

from __future__ import annotations

import hashlib
import inspect
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import explainers as methods
from an8flower import An8Flower
from an8flower.dataset import Batch, Target
from an8flower.folds import FOLDS, Scheme
from an8flower.progress import progress
from benchmark import store
from benchmark.loader import Images
from benchmark.metrics import iou_curve, metrics
from benchmark.metrics.iou import invalid
from benchmark.models import models
from benchmark.store import Cell, Record
from benchmark.training import Trained, load_model, weights_path
from explainers.layers import find_layer
from explainers.limits import limited, quiet
from explainers.reference import every

# To be raised whenever equal heatmaps no longer give equal scores.
PROTOCOL_VERSION = 1
PACKAGES = ("an8flower", "numpy", "torch")


def evaluate(
    root: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    explainers: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    scheme: Scheme = "interleaved",
    checkpoints: str | Path = "checkpoints",
    results: str | Path = "results",
    batch: int = 100,
    limit_s: float | None = 600,
    limit_gib: float | None = 8,
) -> list[Record]:
    """Explain and score the test images of each fold; keep what was done before on equal terms.

    Every explainer gets the same model, images and class: the one the model predicts. One that
    raises, hangs or breaks the rules is recorded as failed, with its reason, and the others go on.

    Args:
        root: folder that holds the dataset.
        variant: e.g. "single-6c".
        model: architecture whose trained folds are in `checkpoints`.
        explainers: names as `explainers.get` reads them, "name@all" for every layer with a map; by default
            all registered ones that are not costly.
        folds: which of the 5; all by default.
        scheme: how views are grouped into folds, as in training.
        checkpoints: folder with the trained weights.
        results: folder for records and per-image scores.
        batch: images explained together.
        limit_s, limit_gib: seconds and memory that a method may take for a batch; None for no limit.
    Returns:
        a record for each explainer and fold, in that order.
    Raises:
        UnknownNameError: for an unknown explainer, model or variant.
        DataFolderError: if data or weights are missing or damaged.
        ValueError: for a fold that does not exist.
    """
    spec = models.get(model)
    names = explainers or default_explainers()
    specs = [methods.get(name).spec for name in names]
    targets: tuple[Target, ...] = ("label", "plant") if _need_plants(specs) else ("label",)
    wanted = list(range(FOLDS)) if folds is None else list(folds)
    tests = [
        An8Flower(root, variant, fold=fold, split="test", target=targets, size_px=spec.size_px, folds=scheme)
        for fold in wanted
    ]
    trained = [load_model(weights_path(checkpoints, variant, model, fold)) for fold in wanted]
    for fold, one in zip(wanted, trained, strict=True):
        _must_fit(one, tests[0], fold, scheme, checkpoints)

    chosen = every(names, trained[0].model, next(tests[0].batches(1)).images)
    limits = _Limits(limit_s, limit_gib)
    records: list[Record] = []
    total = len(chosen) * sum(len(test) for test in tests)
    with progress(f"evaluate {variant} {model}", total, "maps") as advance:
        for explainer in chosen:
            for fold, test, one in zip(wanted, tests, trained, strict=True):
                cell = Cell(Path(results), variant, model, explainer.key, fold)
                identity = _identity(explainer, one, batch)
                wanted_key = store.key(identity)
                if not store.is_done(cell, wanted_key):
                    about = {
                        "explainer": explainer.key,
                        "fold": fold,
                        "key": wanted_key,
                        "identity": identity,
                    }
                    train = An8Flower(
                        root, variant, fold=fold, split="train", size_px=spec.size_px, folds=scheme
                    )
                    _measure(cell, about, explainer, one, train, test, batch, limits, advance)
                else:
                    advance(len(test))
                records.append(store.read_record(cell.record_path))
    return records


def _measure(
    cell: Cell,
    about: Record,
    explainer: methods.Explainer,
    trained: Trained,
    train: An8Flower,
    test: An8Flower,
    batch: int,
    limits: _Limits,
    advance: Callable[[int], None],
) -> None:
    done = 0
    facts = {
        **about,
        "role": explainer.spec.role,
        "source": explainer.spec.source,
        "library": explainer.spec.library,
        "reduction": explainer.spec.reduction,
        "resize": explainer.spec.resize,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    try:
        begun = time.perf_counter()
        loader = Images(train, batch, masks=explainer.spec.needs_masks)
        with limits.around(explainer, batches=len(loader)):
            explainer.fit(trained.model, loader)
        fit_s = time.perf_counter() - begun
        parts: list[pd.DataFrame] = []
        curve_sum, explain_s = np.zeros(100), 0.0
        for scores, curves, seconds in scored(explainer, trained.model, test, batch, limits):
            parts.append(scores)
            curve_sum += np.nansum(curves, axis=0)
            explain_s += seconds
            done += len(scores)
            advance(len(scores))
        table = pd.concat(parts, ignore_index=True)
        first = next(test.batches(1)).images
        summary = {
            "status": "ok",
            "layer": _layer(explainer, trained.model, first),
            "images": len(table),
            "invalid": int(table["invalid"].sum()),
            "undefined": int(table["iou_auc"].isna().sum()),
            "accuracy": float((table["label"] == table["predicted"]).mean()),
            "scores": {name: float(table[name].mean()) for name in metrics.names()},
            "curve": (curve_sum / max(1, table["iou_auc"].notna().sum())).tolist(),
            "fit_s": fit_s,
            "explain_ms_per_image": 1000 * explain_s / len(table),
        }
        store.write(cell, {**facts, **summary}, table)
    except OSError:
        raise  # a full or vanished disk is not the explainer's failure
    except (Exception, SystemExit) as error:
        # Whatever a method does, the others' rows must not be lost with it.
        advance(len(test) - done)
        kind = "" if isinstance(error, methods.ExplainerError) else f"{type(error).__name__}: "
        store.write(cell, {**facts, "status": "failed", "reason": f"{kind}{error}"}, None)


@dataclass(frozen=True)
class _Limits:
    """What a method may take for a batch."""

    seconds: float | None = None
    gib: float | None = None

    @contextmanager
    def around(self, explainer: methods.Explainer, batches: int = 1) -> Iterator[None]:
        seconds = None if self.seconds is None else self.seconds * batches
        with quiet(explainer.key), limited(explainer.key, seconds=seconds, gib=self.gib):
            yield


def default_explainers() -> list[str]:
    """All registered methods but those that are costly."""
    return [name for name in methods.names() if not methods.registry.get(name).costly]


def scored(
    explainer: methods.Explainer,
    model: torch.nn.Module,
    test: An8Flower,
    batch: int,
    limits: _Limits = _Limits(),
) -> Iterator[tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.float64]], float]]:
    """Per-image scores, IoU curves and the seconds spent explaining, batch by batch."""
    for part in test.batches(batch):
        with torch.no_grad():
            predicted = model(part.images).argmax(1)
        begun = time.perf_counter()
        with limits.around(explainer):
            heatmaps = explained(explainer, model, part, predicted)
        seconds = time.perf_counter() - begun
        truth = part.masks.numpy()
        maps = heatmaps.cpu().numpy()
        scores = test.table.iloc[part.rows][["class", "view", "crop", "rotation"]].reset_index(drop=True)
        scores["label"], scores["predicted"] = part.labels.numpy(), predicted.numpy()
        scores["invalid"] = invalid(maps)
        for name in metrics.names():
            scores[name] = metrics.get(name).compute(maps, truth)
        yield scores, iou_curve(maps, truth), seconds


def explained(
    explainer: methods.Explainer, model: torch.nn.Module, part: Batch, targets: torch.Tensor
) -> torch.Tensor:
    """Heatmaps (n, H, W) of a batch, with the ground truth for methods that are handed it."""
    truths = explainer.spec.truths
    masks = part.masks if "masks" in truths else None
    return explainer(model, part.images, targets, masks=masks, object_masks=part.plants)


def _need_plants(specs: Iterable[methods.ExplainerSpec]) -> bool:
    return any("object_masks" in spec.truths for spec in specs)


def _identity(explainer: methods.Explainer, trained: Trained, batch: int) -> Record:
    return {
        **{
            name: trained.record["identity"][name]
            for name in ("variant", "dataset_digest", "model", "fold", "folds")
        },
        "weights_sha256": trained.record["weights_sha256"],
        "explainer": explainer.spec.name,
        "library": explainer.spec.library,
        "parameters": dict(explainer.parameters),
        "code_sha256": _code_digest(explainer.spec.build),
        "metrics": list(metrics.names()),
        "protocol_version": PROTOCOL_VERSION,
    }


def _code_digest(build: Callable[..., Any]) -> str:
    """SHA-256 over the sources of the package that a method is in, since it may call all of it."""
    file = Path(inspect.getfile(getattr(build, "func", build)))  # a partial is what it calls
    package = list(takewhile(lambda folder: (folder / "__init__.py").exists(), file.parents))
    sources: Iterable[Path] = sorted(package[-1].rglob("*.py")) if package else [file]
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def _layer(explainer: methods.Explainer, model: torch.nn.Module, images: torch.Tensor) -> str | None:
    asked = explainer.parameters.get("layer")
    with torch.no_grad():
        return find_layer(model, images, asked).name if isinstance(asked, str) else None


def _must_fit(trained: Trained, test: An8Flower, fold: int, scheme: Scheme, checkpoints: str | Path) -> None:
    identity = trained.record["identity"]
    variant, model = identity["variant"], identity["model"]
    if (identity["dataset_digest"], identity["folds"]) != (test.manifest.digest, scheme):
        raise store.ResultsError(
            f"the weights of fold {fold} in {checkpoints} were trained on other data or folds; "
            f"run 'an8flower train --variant {variant} --model {model} "
            f"--root {test.manifest.folder.parent}' first"
        )
