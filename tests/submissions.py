"""Small submissions, right and wrong, that need no dataset."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from benchmark.submission.heatmaps import COLUMNS, Images, digest

SHA256 = "0" * 64
IMAGES = Images(
    pd.DataFrame([(c, v, p, 1) for c in (1, 2) for v in (5,) for p in (1, 2, 3)], columns=COLUMNS), 8, 2
)
FOLD = "tiny-2c/an8net/seed0/fold0"


def arrays(**changes: Any) -> dict[str, Any]:
    """The arrays of a fold, with some changed, or left out by None."""
    rng = np.random.default_rng(0)
    usual = {
        "heatmaps": rng.random((6, 8, 8), np.float32),
        **{name: IMAGES.table[name].to_numpy() for name in COLUMNS},
        "predicted": np.array([0, 0, 0, 1, 1, 1]),
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


FORM: dict[str, Any] = {
    "schema_version": 2,
    "kind": "heatmaps",
    "method": {"name": "mine", "authors": ["A. Author"], "paper": "none", "code": "none", "commit": "none"},
    "command": "python mine.py",
    "hardware": "abacus",
    "created": "2026-11-24T12:00:00+00:00",
    "versions": {"python": "3.11"},
    "metrics": {"iou_auc": SHA256},
    "cells": [
        {
            "variant": "tiny-2c", "model": "an8net", "seed": 0, "fold": 0, "folds": "interleaved",
            "dataset_digest": SHA256, "weights_sha256": SHA256, "images": 6, "scores": {"iou_auc": 0.25},
            "heatmaps_sha256": digest(arrays()),
        }
    ],
}  # fmt: skip


def changed(content: Any, **changes: Any) -> Any:
    """JSON with entries changed by their path, "method__name", or left out by None."""
    content = copy.deepcopy(content)
    for path, value in changes.items():
        *folders, last = (int(part) if part.isdecimal() else part for part in path.split("__"))
        place = content
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return content


def form(**changes: Any) -> dict[str, Any]:
    """The form for `arrays()`, with entries changed as by `changed`."""
    return changed(FORM, **changes)


def plugin(**changes: Any) -> dict[str, Any]:
    """The form of a plug-in, with entries changed as by `changed`."""
    usual = {"kind": "plugin", "reference": "grad_cam", "cells__0__heatmaps_sha256": None}
    return changed(FORM, **(usual | changes))


def content(about: Any = None, fold: dict[str, Any] | None = None, **metadata: str) -> bytes:
    """The bytes of a submission: its form, or JSON; the arrays of its one fold; more metadata."""
    said = about if isinstance(about, str) else json.dumps(form() if about is None else about)
    tensors = {f"{FOLD}/{name}": value for name, value in (arrays() if fold is None else fold).items()}
    return save(tensors, {"form": said, **metadata})


def header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def with_header(about: Any, data: bytes) -> bytes:
    """A safetensors file with another header, of JSON or bytes."""
    said = about if isinstance(about, bytes) else json.dumps(about).encode()
    start = 8 + int.from_bytes(data[:8], "little")
    return len(said).to_bytes(8, "little") + said + data[start:]


def npz(**changes: Any) -> bytes:
    """The arrays as the user's own .npz file, with some changed, or left out by None."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(**changes))
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    """The path, with the data in it."""
    path.write_bytes(data)
    return path
