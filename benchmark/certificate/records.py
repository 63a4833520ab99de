"""Certificates on disk: one JSON record and one Parquet table of per-image flags a fold and seed.

In the results folder: `<variant>/<model>/certificate/fold<k>.json` and `.parquet`, in a folder `seed<s>` for
seeds but 0. docs/certificate.md describes every field. Files appear whole or not at all, the record last.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from an8flower.ground import files
from benchmark.certificate.judging import SHARES
from benchmark.plan import Setup
from benchmark.store import Record, ResultsError

SCHEMA_VERSION = 1

IMAGE = ["fold", "seed", "class", "view", "crop", "rotation"]
# Of a record that `read_certificates` shows; "passed" is the share of images that pass all three tests.
COLUMNS = [
    "fold", "seed", "images", "necessity", "necessity_expected", "sufficiency", "swap", "passed",
    "certified", "reason", "weights_sha256",
]  # fmt: skip


def record_path(results: str | Path, setup: Setup) -> Path:
    """Where the certificate of one trained model lies; its table is beside it as .parquet.

    >>> record_path("results", Setup("part-2c", "an8net", seed=1, fold=0)).as_posix()
    'results/part-2c/an8net/certificate/seed1/fold0.json'
    """
    folder = Path(results) / setup.variant / setup.model / "certificate"
    return (folder / f"seed{setup.seed}" if setup.seed else folder) / f"fold{setup.fold}.json"


def write(path: Path, record: Record, flags: pd.DataFrame) -> Record:
    """Write per-image flags, then the record, each whole or not at all; the record as it was written."""
    table = path.with_suffix(".parquet")
    files.write_with(table, lambda temporary: flags.to_parquet(temporary, index=False))
    data = table.read_bytes()
    described = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record = {"schema_version": SCHEMA_VERSION, **record, "flags_file": described}
    files.write_json(path, record)
    return record


def found(path: Path, key: str, *, tables: bool = False) -> Record | None:
    """The certificate at `path`, if it was made under just this key; else None.

    Args:
        path: as `record_path` gives it.
        key: of its identity now.
        tables: its table of per-image flags must be there too.
    """
    try:
        record = read_record(path)
    except (FileNotFoundError, ResultsError):
        return None
    table = path.with_suffix(".parquet")
    there = table.stat().st_size == record["flags_file"]["bytes"] if table.is_file() else not tables
    return record if record["key"] == key and there else None


def read_record(path: Path) -> Record:
    """One certificate.

    Raises:
        ResultsError: if it is not readable or of a schema that is not known.
        FileNotFoundError: if there is none.
    """
    try:
        record: Record = json.loads(path.read_text())
        version = record["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is no readable certificate ({error!r}); delete it and certify again"
        ) from error
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
            "install a newer release, or delete it and certify again"
        )
    return record


def read_certificates(results: str | Path, variant: str, model: str) -> pd.DataFrame:
    """What is known of whether a model goes by the part: a row a fold and seed.

    Args:
        results: the results folder.
        variant, model: registry names.
    Returns:
        sorted by seed and fold: fold, seed, images, the shares (in [0, 1]) necessity, necessity_expected,
        sufficiency, swap and passed, certified (bool), reason (text, empty where it is certified), and
        weights_sha256, of the model that was asked; no rows if no certificate was made.
    Raises:
        ResultsError: if a record is not readable.
    """
    records = [_flat(record) for _, record in _records(results, variant, model)]
    return pd.DataFrame(records, columns=COLUMNS).sort_values(["seed", "fold"], ignore_index=True)


def passing(
    results: str | Path, variant: str, model: str, weights: Collection[str] | None = None
) -> pd.DataFrame:
    """The images on which a model goes by the part: those that pass all three tests.

    Args:
        results: the results folder, with the tables of flags.
        variant, model: registry names.
        weights: SHA-256 of the models that are meant; all that have certificates by default.
    Returns:
        a row an image that passes: fold, seed, class, view, crop, rotation.
    Raises:
        ResultsError: naming the command that makes them, if there are no certificates or a table is missing
            or not what its record describes.
    """
    return pd.concat(
        [flags[flags["passed"]] for flags in _flags(results, variant, model, weights)], ignore_index=True
    )[IMAGE]


def _flags(
    results: str | Path, variant: str, model: str, weights: Collection[str] | None
) -> list[pd.DataFrame]:
    place = f"--variant {variant} --model {model} --results {shlex.quote(str(results))}"
    again = f"an8flower certify {place} --tables"
    tables = []
    for path, record in _records(results, variant, model):
        if weights is not None and record["identity"]["weights_sha256"] not in weights:
            continue
        table = path.with_suffix(".parquet")
        data = table.read_bytes() if table.is_file() else b""
        if hashlib.sha256(data).hexdigest() != record["flags_file"]["sha256"]:
            raise ResultsError(f"{table} is not the file that its record describes; run '{again}' first")
        tables.append(pd.read_parquet(table))
    if not tables:
        raise ResultsError(f"no certificates of these models on {variant} in {results}; run '{again}' first")
    return tables


def _records(results: str | Path, variant: str, model: str) -> list[tuple[Path, Record]]:
    folder = Path(results) / variant / model / "certificate"
    return [(path, read_record(path)) for path in sorted(folder.rglob("fold*.json"))]


def _flat(record: Record) -> Record:
    shares = {name: record["shares"][name] for name in ("images", "necessity_expected", *SHARES)}
    return {**record, **shares, "weights_sha256": record["identity"]["weights_sha256"]}
