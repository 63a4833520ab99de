"""What has been measured: one JSON record and one Parquet table of per-image scores a cell.

A cell is one explainer on one fold of one model and variant, for one seed of the training. In the results
folder: `<variant>/<model>/records/<explainer>/fold<k>.json` and `.../scores/<explainer>/fold<k>.parquet`, the
file in a folder `seed<s>` for seeds but 0. docs/results.md describes every field.

Files appear whole or not at all, the record last, so several may write here at once: equal keys have equal
scores, and whoever is last wins.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import pandas as pd

from an8flower.ground import files
from explainers.base import Role

SCHEMA_VERSION = 3

Record = dict[str, Any]


class ResultsError(ValueError):
    """Records that cannot be read or do not belong together; the message says what to run."""


@dataclass(frozen=True)
class Cell:
    """Where one measurement lies.

    Args:
        results: the results folder.
        variant, model: registry names.
        explainer: key of the explainer with its parameters, e.g. "grad_cam@conv1".
        fold: from 0 to 4.
        seed: of the training.
    """

    results: Path
    variant: str
    model: str
    explainer: str
    fold: int
    seed: int = 0

    @property
    def record_path(self) -> Path:
        return self._path("records", "json")

    @property
    def scores_path(self) -> Path:
        return self._path("scores", "parquet")

    def _path(self, kind: str, suffix: str) -> Path:
        folder = self.results / self.variant / self.model / kind / quote(self.explainer, safe="@=,()&")
        return (folder / f"seed{self.seed}" if self.seed else folder) / f"fold{self.fold}.{suffix}"

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.variant} {self.model}{seed} fold {self.fold}: {self.explainer}"


def key(identity: Record) -> str:
    """SHA-256 of all that determines a cell: equal keys, equal scores."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def found(cell: Cell, wanted: str, metrics: dict[str, str], *, tables: bool = False) -> Record | None:
    """The cell's record, if it was measured, or failed, under just this key; else None.

    A board is made from records alone, so the table of per-image scores may be missing; one that is not of
    the recorded size counts as altered.

    Args:
        cell: which one.
        wanted: its key now.
        metrics: for each metric that is wanted the digest of its code; the record may have more.
        tables: the table must be there too.
    """
    try:
        record = read_record(cell.record_path)
    except (FileNotFoundError, ResultsError):
        return None
    if record["key"] != wanted:
        return None
    if record["status"] == "failed":
        return record
    described = (record["scores_file"] or {}).get("bytes")
    there = cell.scores_path.stat().st_size == described if cell.scores_path.is_file() else not tables
    return record if record["views"] and there and metrics.items() <= record["metrics"].items() else None


def write(cell: Cell, record: Record, scores: pd.DataFrame | None) -> Record:
    """Write per-image scores, then the record, each whole or not at all; the record as it was written."""
    record = {"schema_version": SCHEMA_VERSION, **record, "scores_file": None}
    if scores is not None:
        files.write_with(cell.scores_path, lambda path: scores.to_parquet(path, index=False))
        data = cell.scores_path.read_bytes()
        record["scores_file"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files.write_json(cell.record_path, record)
    return record


def read_record(path: Path) -> Record:
    """One record, of an older release too.

    Raises:
        ResultsError: if it is not readable or of a schema that is not known.
        FileNotFoundError: if there is none.
    """
    try:
        record: Record = json.loads(path.read_bytes())
        while (version := record["schema_version"]) in list(_MIGRATIONS):
            record = _MIGRATIONS[version](record)
        wrong = _wrong(record) if version == SCHEMA_VERSION else ""
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ResultsError(
            f"{path} is no readable record ({type(error).__name__}: {error}); delete it and evaluate again"
        ) from error
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version!r}, this release reads 1 to {SCHEMA_VERSION}; "
            "install a newer release, or delete it and evaluate again"
        )
    if wrong:
        raise ResultsError(f"{path} is no readable record ({wrong}); delete it and evaluate again")
    return record


_NONE = type(None)
# Fields that boards read: of every record, and of one that was measured.
_ALWAYS: dict[str, Any] = {
    "variant": str, "model": str, "explainer": str, "fold": int, "seed": int, "key": str, "identity": dict,
    "metrics": dict, "role": str, "status": str, "source": str, "reason": (str, _NONE),
}  # fmt: skip
_MEASURED: dict[str, Any] = {
    "scores": dict, "images": int, "invalid": int, "accuracy": (float, int, _NONE), "layer": (str, _NONE),
    "cost": (dict, _NONE), "views": (dict, _NONE), "curve": (list, _NONE),
}  # fmt: skip


def _wrong(record: Record) -> str:
    """The first field that boards read and that is missing or of another type, in words; empty if none is."""
    failed = record["status"] == "failed"
    for name, kind in {**_ALWAYS, **({} if failed else _MEASURED)}.items():
        if name not in record:
            return f"{name} is missing"
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            return f"{name} is {str(record[name])[:40]!r}"
    if record["status"] not in ("ok", "invalid", "failed") or record["role"] not in get_args(Role):
        return f"status is {record['status']!r} and role {record['role']!r}"
    if not isinstance(record["identity"].get("dataset_digest"), str):
        return "identity has no dataset_digest"
    scores = {} if failed else record["scores"]
    if not all(value is None or isinstance(value, int | float) for value in scores.values()):
        return "a score is no number"
    return ""


def read_scores(cell: Cell) -> pd.DataFrame:
    """Per-image scores of a measured cell, checked against its record.

    Raises:
        ResultsError: if they are missing or not what the record describes.
    """
    record = read_record(cell.record_path)
    described = record["scores_file"] or {}
    data = cell.scores_path.read_bytes() if cell.scores_path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != described.get("sha256"):
        raise ResultsError(
            f"{cell.scores_path} is not the file that its record describes; "
            f"run 'an8flower evaluate --variant {cell.variant} --model {cell.model} "
            f"--results {shlex.quote(str(cell.results))} --tables' to measure it again"
        )
    return pd.read_parquet(cell.scores_path)


def readable_records(results: str | Path, variant: str, model: str) -> tuple[list[Record], dict[Path, str]]:
    """All records of one variant and model, and what cannot be read.

    Returns:
        records sorted by explainer, seed and fold; and for each file that is no record, why.
    """
    records, broken = [], {}
    for path in sorted((Path(results) / variant / model / "records").rglob("fold*.json")):
        try:
            record = read_record(path)
        except (ResultsError, OSError) as error:
            broken[path] = str(error)
            continue
        cell = Cell(Path(results), variant, model, record["explainer"], record["fold"], record["seed"])
        if (record["variant"], record["model"]) == (variant, model) and cell.record_path == path:
            records.append(record)
        else:
            named = f"{record['variant']} {record['model']} fold {record['fold']}: {record['explainer']}"
            broken[path] = f"{path} is the record of another cell ({named}); delete it and evaluate again"
    return sorted(records, key=lambda record: (record["explainer"], record["seed"], record["fold"])), broken


def _from_1(record: Record) -> Record:
    """Version 1 knew no seeds, causes and costs; its scores file was not described."""
    failed = record["status"] == "failed"
    identity = record["identity"]
    moved = {name: value for name, value in record.items() if name not in ("explain_ms_per_image", "fit_s")}
    return moved | {
        "schema_version": 2,
        "variant": identity["variant"],
        "model": identity["model"],
        "seed": 0,
        "status": "failed" if failed else "invalid" if record["invalid"] else "ok",
        "cause": "raised" if failed else None,
        "reason": record.get("reason"),
        "metrics": {},
        "cost": None if failed else {"ms_per_image": record["explain_ms_per_image"]},
        "timing": None if failed else {"fit_s": record["fit_s"]},
        "scores_file": None,
    }


def _from_2(record: Record) -> Record:
    """Version 2 had no means by viewpoint, so a board can give no intervals for it."""
    return record | {"schema_version": 3, "views": None}


_MIGRATIONS: dict[int, Callable[[Record], Record]] = {1: _from_1, 2: _from_2}
