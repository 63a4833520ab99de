"""What has been measured: one JSON record and one Parquet table of per-image scores for each cell.

A cell is one explainer on one fold of one model and variant, for one training seed. In the results folder:
`<variant>/<model>/records/<explainer>/fold<k>.json` and `.../scores/<explainer>/fold<k>.parquet`, in a
subfolder `seed<s>` for seeds other than 0. docs/results.md describes every field.

A file is written completely or not at all, and the record last, so several processes may write to one folder:
equal keys have equal heatmaps, and the last one wins.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from benchmark.record import Json, Record, RecordError, from_json, to_json


class ResultsError(ValueError):
    """Records that cannot be read or do not belong together; the message says what to run."""


def seed_folder(folder: Path, seed: int) -> Path:
    """Return where the files of a training seed are: seed 0 in the folder itself.

    >>> seed_folder(Path("an8net"), 0).as_posix(), seed_folder(Path("an8net"), 3).as_posix()
    ('an8net', 'an8net/seed3')
    """
    return folder / f"seed{seed}" if seed else folder


@dataclass(frozen=True)
class Cell:
    """Where one measurement is stored.

    Args:
        results: the results folder.
        variant, model: registry names.
        explainer: name of the explainer with its parameters, e.g. "grad_cam@conv1".
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
        """Path of the JSON record."""
        return self._path("records", "json")

    @property
    def scores_path(self) -> Path:
        """Path of the table of per-image scores."""
        return self._path("scores", "parquet")

    def _path(self, kind: str, suffix: str) -> Path:
        folder = self.results / self.variant / self.model / kind / quote(self.explainer, safe="@=,()&")
        return seed_folder(folder, self.seed) / f"fold{self.fold}.{suffix}"

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.variant} {self.model}{seed} fold {self.fold}: {self.explainer}"


def cell_of(results: str | Path, record: Record) -> Cell:
    """Return the cell that a record describes."""
    return Cell(Path(results), record.variant, record.model, record.explainer, record.fold, record.seed)


def key(identity: Json) -> str:
    """Return the SHA-256 of everything that determines the heatmaps of a cell."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def lookup(cell: Cell, wanted: str, metrics: dict[str, str], *, tables: bool = False) -> Record | None:
    """Return the record of a cell that was measured, or failed, under exactly this key; else None.

    A board needs records alone, so the table of per-image scores may be missing. A table whose size differs
    from the recorded one counts as altered.

    Args:
        cell: which one.
        wanted: its key now.
        metrics: the digest of the code of each metric that is wanted; the record may have more.
        tables: whether the table must exist too.
    """
    try:
        record = read_record(cell.record_path)
    except (FileNotFoundError, ResultsError):
        return None
    if record.key != wanted:
        return None
    if record.status == "failed":
        return record
    complete = is_usable(cell.scores_path, record.scores_file, required=tables)
    return record if record.views and complete and metrics.items() <= record.metrics.items() else None


def write(cell: Cell, record: Record, scores: pd.DataFrame | None) -> Record:
    """Write per-image scores, then the record, each completely or not at all.

    Returns:
        the record as it was written, which describes the file with the scores.
    """
    description = None if scores is None else write_table(cell.scores_path, scores)
    record = replace(record, scores_file=description)
    files.write_json(cell.record_path, to_json(record))
    return record


def read_record(path: Path) -> Record:
    """Read one record, also one of an older release.

    Raises:
        ResultsError: if it is not a valid record, or its schema version is not known.
        FileNotFoundError: if the file does not exist.
    """
    try:
        return from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except RecordError as error:
        reason = str(error)
    except (ValueError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise ResultsError(f"{path} is not a valid record ({reason}); delete it and evaluate again")


def read_scores(cell: Cell) -> pd.DataFrame:
    """Read the per-image scores of a measured cell and compare them with its record.

    Raises:
        ResultsError: if they are missing or not what the record describes.
    """
    try:
        return read_table(cell.scores_path, read_record(cell.record_path).scores_file)
    except AlteredTableError as error:
        raise ResultsError(
            f"{error}; run 'an8flower evaluate --variant {cell.variant} --model {cell.model} "
            f"--results {shlex.quote(str(cell.results))} --tables' to measure it again"
        ) from None


def readable_records(results: str | Path, variant: str, model: str) -> tuple[list[Record], dict[Path, str]]:
    """Read all records of one variant and model.

    Returns:
        records sorted by explainer, seed and fold; and for each file that is not a valid record, the reason.
    """
    records: list[Record] = []
    broken: dict[Path, str] = {}
    for path in sorted((Path(results) / variant / model / "records").rglob("fold*.json")):
        try:
            record = read_record(path)
        except (ResultsError, OSError) as error:
            broken[path] = str(error)
            continue
        if (record.variant, record.model) == (variant, model) and cell_of(
            results, record
        ).record_path == path:
            records.append(record)
        else:
            broken[path] = (
                f"{path} is the record of another cell ({cell_of(results, record)}); "
                "delete it and evaluate again"
            )
    return sorted(records, key=lambda record: (record.explainer, record.seed, record.fold)), broken


class AlteredTableError(ValueError):
    """A table that is missing, or is not the file that its record describes."""


def write_table(path: Path, table: pd.DataFrame) -> Json:
    """Write a table, completely or not at all.

    Returns:
        its description: "bytes" and "sha256" of the file.
    """
    files.write_with(path, lambda temporary: table.to_parquet(temporary, index=False))
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_table(path: Path, description: Json | None) -> pd.DataFrame:
    """Read a table and compare it with its description.

    Raises:
        AlteredTableError: if it is missing or not the described file.
    """
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != (description or {}).get("sha256"):
        raise AlteredTableError(f"{path} is not the file that its record describes")
    return pd.read_parquet(path)


def is_usable(path: Path, description: Json | None, *, required: bool) -> bool:
    """Return whether a table has the described size, or is missing and not required."""
    if not path.is_file():
        return not required
    return path.stat().st_size == (description or {}).get("bytes")


__getattr__ = renamed(__name__, {"found": "lookup", "SCHEMA_VERSION": "benchmark.record.SCHEMA_VERSION"})
