"""Small submissions, right and wrong, that need no dataset."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.submission.arrays import COLUMNS, Images

DIGEST = "0" * 64
IMAGES = Images(
    pd.DataFrame([(c, v, p, 1) for c in (1, 2) for v in (5,) for p in (1, 2, 3)], columns=COLUMNS), 8, 2
)
MEMBER = "heatmaps/tiny-2c/an8net/fold0.npz"
ENTRIES: dict[str, Any] = {
    "schema_version": 1,
    "kind": "heatmaps",
    "method": {"name": "mine", "authors": ["A. Author"], "paper": "none", "code": "none", "commit": "none"},
    "command": "python mine.py",
    "hardware": "abacus",
    "created": "2026-11-24T12:00:00+00:00",
    "versions": {"python": "3.11"},
    "metrics": {"iou_auc": DIGEST},
    "cells": [
        {
            "variant": "tiny-2c", "model": "an8net", "seed": 0, "fold": 0, "folds": "interleaved",
            "dataset_digest": DIGEST, "weights_sha256": DIGEST, "images": 6, "scores": {"iou_auc": 0.25},
            "heatmaps": MEMBER,
        }
    ],
}  # fmt: skip


def arrays(**changes: Any) -> dict[str, Any]:
    """What belongs into an .npz, with some arrays changed, or left out by None."""
    rng = np.random.default_rng(0)
    found = {
        "heatmaps": rng.random((6, 8, 8), np.float32),
        **{name: IMAGES.table[name].to_numpy() for name in COLUMNS},
        "predicted": np.array([0, 0, 0, 1, 1, 1]),
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def npz(**changes: Any) -> bytes:
    """An .npz; the values may also be the bytes of an .npy."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays(**changes).items():
            archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return buffer.getvalue()


def npy(array: Any, *, pickled: bool = False) -> bytes:
    """The bytes of an .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def entries(**changes: Any) -> dict[str, Any]:
    """submission.json for `npz()`, with entries changed by their path, "method__name"."""
    found = copy.deepcopy(ENTRIES)
    data = npz()
    found["files"] = {MEMBER: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    for path, value in changes.items():
        *folders, last = (int(part) if part.isdecimal() else part for part in path.split("__"))
        place: Any = found
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return found


def members(about: Any = None) -> list[tuple[Any, bytes]]:
    """Those of a submission that is right, as `zipped` takes them."""
    said = entries() if about is None else about
    return [
        (MEMBER, npz()),
        ("submission.json", said if isinstance(said, bytes) else json.dumps(said).encode()),
    ]


def zipped(path: Path, content: list[tuple[Any, bytes]], how: int = zipfile.ZIP_STORED) -> Path:
    """A zip file of names, or of `ZipInfo`, with their bytes."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in content:
            archive.writestr(name, data)
    return path
