"""A results folder that nobody measured: all that a report shows, and names by which strangers mean harm."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmark import store
from benchmark.certificate.answers import KEPT, WITHOUT
from benchmark.certificate.judging import TRAINED
from benchmark.certificate.records import record_path
from benchmark.certificate.records import write as write_certificate
from benchmark.record import Record
from benchmark.report.gallery import Gallery, Picture, Strip, keep
from benchmark.setups import Setup
from benchmark.store import Cell

VIEWS, SIZE_PX, DIGEST = 8, 32, "0" * 64
HOSTILE = "submitted:<script>hurt()</script><img src=x onerror=hurt()>"
DOLLAR = "my.py:cost_in_$x_{$"
MEANS = {
    "vebi": 0.30, "deconv_gb": 0.26, "guided_grad_cam": 0.22, "guided_grad_cam_pp": 0.21, "grad_cam": 0.16,
    "upsampled_activations": 0.15, "grad_cam_pp": 0.12, "grad_cam@conv1": 0.36, "grad_cam@pool1": 0.34,
    "grad_cam@conv2": 0.24, "layer_cam@conv1": 0.31, "layer_cam@pool1": 0.18, DOLLAR: 0.10, "random": 0.03,
    "train_mean_mask": 0.13, "oracle": 1.0, "oracle_lowres": 0.38, "oracle_lowres@conv1": 0.74,
    "oracle_lowres@pool1": 0.6, "oracle_lowres@conv2": 0.5,
}  # fmt: skip
CLASSES = {"red petals": 1.0, "blue petals": 1.0, "pink petals": 0.8, "violet petals": 1.2}  # times the mean
FEW = ("vebi", "deconv_gb", "grad_cam", "random", "oracle")  # on the other boards
ROLES = {"random": "floor", "train_mean_mask": "floor"}


def write_results(folder: Path) -> Path:
    """Boards of three variants, one with two models; single-6c has everything."""
    rng = np.random.default_rng(0)
    for name, mean in MEANS.items():
        for fold in range(5):
            _write(folder, "single-6c", "an8net", name, fold, _by_view(mean, name, rng))
    for name in FEW:
        for fold in range(2):
            mean = MEANS[name]
            _write(folder, "part-2c", "an8net", name, fold, _by_view(mean / 2, name, rng))
            _write(folder, "single-6c", "mnistnet", name, fold, _by_view(mean * 0.9, name, rng))
            size = np.random.default_rng(fold).uniform(0.4, 1, VIEWS)  # of the plants, so of all methods
            by_view = _by_view(mean, name, rng) * size
            _write(
                folder / "size", "single-6c", "an8net", name, fold, by_view, factors={"size": size.tolist()}
            )
    bare = {"views": None, "curve": None, "cost": None, "accuracy": None, "host": None}
    for fold in range(5):
        by_view = _by_view(0.2, HOSTILE, rng)
        _write(folder, "single-6c", "an8net", HOSTILE, fold, by_view, source="javascript:hurt()", **bare,
               submission=_SUBMISSION)  # fmt: skip
        failed = {"status": "failed", "cause": "raised", "reason": "RuntimeError: <b>it broke</b>"}
        _write(folder, "single-6c", "an8net", "broken", fold, by_view, **failed)
        _certify(folder, fold)
    # Of schema 2: no scores by viewpoint, so no intervals.
    _write(folder, "double-12c", "an8net", "vebi", 0, _by_view(0.2, "vebi", rng), views=None)
    keep(folder, "single-6c", "an8net", gallery := _gallery(rng), list(gallery.strips))
    return folder


def write_one_board(
    folder: Path, names: Sequence[str], *, recipe: str = "plain", means: Mapping[str, float] = MEANS
) -> Path:
    """One board of single-6c: some methods on 5 folds, with certificates."""
    rng = np.random.default_rng(0)
    for fold in range(5):
        for name in names:
            by_view = _by_view(means.get(name, 0.14), name, rng)
            _write(folder, "single-6c", "an8net", name, fold, by_view, recipe=recipe)
        _certify(folder, fold, recipe)
    return folder


_SUBMISSION = {
    "status": "self-reported", "kind": "heatmaps", "sha256": DIGEST, "commit": "none",
    "method": "<i>theirs</i>", "authors": ["<script>hurt()</script>"],
    "paper": "none", "code": "javascript:hurt()", "note": "</script><script>hurt()</script>",
}  # fmt: skip


def _by_view(mean: float, name: str, rng: np.random.Generator) -> np.ndarray:
    ceiling = name.startswith("oracle")
    return np.full(VIEWS, mean) + (0 if ceiling else rng.normal(0, 0.01, VIEWS))


def _identity(name: str, fold: int) -> dict[str, Any]:
    return {
        "dataset_digest": DIGEST, "weights_sha256": "1" * 64, "code_sha256": "2" * 64,
        "parameters": {"mu": 5}, "folds": "interleaved", "device": "cpu", "explainer": name, "fold": fold,
    }  # fmt: skip


def _write(
    folder: Path, variant: str, model: str, name: str, fold: int, by_view: np.ndarray, *,
    factors: dict[str, Any] | None = None, **changes: Any,
) -> None:  # fmt: skip
    mean = float(by_view.mean())
    scores = {"iou_auc": mean, "max_iou": mean / 2 + 0.3, "deletion": 0.4 - mean / 4}
    role = "ceiling" if name.startswith("oracle") else ROLES.get(name, "method")
    recipe = changes.get("recipe", "plain")
    identity = _identity(name, fold) | ({} if recipe == "plain" else {"recipe": recipe})
    record = Record(**{
        "variant": variant, "model": model, "seed": 0, "fold": fold, "explainer": name,
        "key": store.key(identity), "identity": identity, "metrics": dict.fromkeys(scores, "0" * 64),
        "role": role, "source": "Selvaraju 2017, arXiv 1610.02391", "library": "", "reduction": "",
        "resize": "bilinear", "layer": "relu3", "status": "ok", "cause": None, "reason": None,
        "images": 150 * VIEWS, "invalid": 0, "undefined": 0, "accuracy": 0.99, "scores": scores,
        "views": {
            "view": [fold + 1 + 5 * k for k in range(VIEWS)], "images": [150] * VIEWS,
            "factors": factors or {},
            "scores": {one: (by_view * 0 + value if one != "iou_auc" else by_view).tolist()
                       for one, value in scores.items()},
        },
        "classes": {
            "class": list(CLASSES), "images": [150 * VIEWS // len(CLASSES)] * len(CLASSES),
            "scores": {one: [min(value * factor, 1.0) for factor in CLASSES.values()]
                       for one, value in scores.items()},
        },
        "curve": (mean * np.sin(np.linspace(0, np.pi, 100)) * 1.5).clip(0, 1).tolist(),
        "cost": {"ms_per_image": 1 + len(name) if role == "method" else 0.1,
                 "forward_passes": 1.0, "backward_passes": 1.0, "peak_mib_per_image": 2.0},
        "timing": {}, "command": "an8flower run results/board.toml", "finished": "2026-11-24T12:00:00+00:00",
        "host": {"device": "cpu", "cores": 2}, "versions": {"python": "3.11.7", "torch": "2.6.0"},
    } | changes)  # fmt: skip
    store.write(Cell(folder, variant, model, name, fold, recipe=recipe), record, None)


def _certify(folder: Path, fold: int, recipe: str = "plain") -> None:
    shares = {"necessity": 0.83, "necessity_expected": 5 / 6, "sufficiency": 0.97, "swap": 1.0, "passed": 0.8}
    identity = {"weights_sha256": "1" * 64, "recipe": recipe}
    record = {
        "variant": "single-6c", "model": "an8net", "recipe": recipe, "seed": 0, "fold": fold,
        "key": store.key(identity), "identity": identity,
        "certified": fold != 4, "reason": "" if fold != 4 else "swap 80% is below 90%",
        "shares": {"images": 1200, **shares},
        "kept": [
            {
                "picture": name, "share": 0.997, "probability": 0.97, "probability_5": 0.9,
                "held_out": name not in TRAINED,
            }
            for name in KEPT
        ],
        "without": [
            {
                "picture": name, "own": 0.17, "largest": 0.2, "favoured": 1, "limit": 1 / 3,
                "held_out": name not in TRAINED,
            }
            for name in WITHOUT
        ],
    }  # fmt: skip
    write_certificate(
        record_path(folder, Setup("single-6c", "an8net", 0, fold, recipe)), record, pd.DataFrame()
    )


def _gallery(rng: np.random.Generator) -> Gallery:
    def webp(height: int) -> str:
        buffer = io.BytesIO()
        pixels = rng.integers(0, 255, (height, SIZE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "WEBP", quality=50)
        return base64.b64encode(buffer.getvalue()).decode()

    pictures = tuple(
        Picture(f"<b>red</b> {k}", "blue", k + 1, 1, 1, webp(SIZE_PX), "M4 4L20 4L20 20Z", 12.5)
        for k in range(3)
    )
    strips = {
        name: Strip(name, store.key(_identity(name, 0)), webp(3 * SIZE_PX), (10.0 + k, 20.0, 30.0))
        for k, name in enumerate(MEANS)
    }
    return Gallery(SIZE_PX, DIGEST, pictures, strips)
