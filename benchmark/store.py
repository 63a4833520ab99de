"""What has been measured: one JSON record and one table of per-image scores a cell.

A cell is one explainer on one fold of one model and variant. Under the results folder:
`<variant>/<model>/records/<explainer>/fold<k>.json` and `.../scores/<explainer>/fold<k>.parquet`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from an8flower import files

SCHEMA_VERSION = 1

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
    """

    results: Path
    variant: str
    model: str
    explainer: str
    fold: int

    @property
    def record_path(self) -> Path:
        return self._path("records", "json")

    @property
    def scores_path(self) -> Path:
        return self._path("scores", "parquet")

    def _path(self, kind: str, suffix: str) -> Path:
        folder = self.results / self.variant / self.model / kind / quote(self.explainer, safe="@=,()&")
        return folder / f"fold{self.fold}.{suffix}"


def key(identity: Record) -> str:
    """SHA-256 of all that determines a cell: equal keys, equal scores."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def is_done(cell: Cell, wanted: str) -> bool:
    """Whether the cell was measured under just this key, with its per-image scores still there."""
    if not cell.record_path.is_file() or not cell.scores_path.is_file():
        return False
    record = read_record(cell.record_path)
    return bool(record["status"] == "ok" and record["key"] == wanted)


def write(cell: Cell, record: Record, scores: pd.DataFrame | None) -> None:
    """Write per-image scores, then the record, each whole or not at all."""
    if scores is not None:
        files.write_with(cell.scores_path, lambda path: scores.to_parquet(path, index=False))
    files.write_json(cell.record_path, {"schema_version": SCHEMA_VERSION, **record})


def read_record(path: Path) -> Record:
    """One record.

    Raises:
        ResultsError: if it is not readable or of another schema.
    """
    try:
        record: Record = json.loads(path.read_text())
        version = record["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is no readable record ({error!r}); delete it and evaluate again"
        ) from error
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
            "delete it and evaluate again"
        )
    return record


def read_records(results: str | Path, variant: str, model: str) -> list[Record]:
    """All records of one variant and model, sorted by explainer and fold.

    Raises:
        ResultsError: if there are none, or they were measured on different data.
    """
    folder = Path(results) / variant / model / "records"
    records = [read_record(path) for path in sorted(folder.glob("*/fold*.json"))]
    again = f"an8flower evaluate --variant {variant} --model {model} --results {results}"
    if not records:
        raise ResultsError(f"no records in {folder}; run '{again}' first")
    by_data: dict[str, set[str]] = {}
    for record in records:
        by_data.setdefault(record["identity"]["dataset_digest"], set()).add(record["explainer"])
    if len(by_data) > 1:
        groups = "; ".join(
            f"data {digest[:8]}: {', '.join(sorted(names))}" for digest, names in by_data.items()
        )
        raise ResultsError(
            f"records in {folder} were measured on different data ({groups}); run '{again}' for all of them, "
            "or delete the old ones"
        )
    return records
