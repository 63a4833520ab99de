"""Certificates on disk: one JSON record and one Parquet table of per-image flags per fold and seed.

In the results folder: `<variant>/<model>/certificate/fold<k>.json` and `.parquet`, in a folder `seed<s>` for
seeds other than 0. docs/certificate.md describes each field. Files are written whole or not at all, the
record last.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from benchmark.certificate.judging import SHARES
from benchmark.plan import Setup
from benchmark.record import Json
from benchmark.store import (
    AlteredTableError,
    ResultsError,
    is_usable,
    read_table,
    seed_folder,
    write_table,
)

SCHEMA_VERSION = 1

IMAGE = ["fold", "seed", "class", "view", "crop", "rotation"]
# Columns of `read_certificates`; "passed" is the share of images that pass all three tests.
COLUMNS = [
    "fold", "seed", "images", "necessity", "necessity_expected", "sufficiency", "swap", "passed",
    "certified", "reason", "weights_sha256",
]  # fmt: skip


def record_path(results: str | Path, setup: Setup) -> Path:
    """Return the path of a trained model's certificate; its table is next to it, as .parquet.

    >>> record_path("results", Setup("part-2c", "an8net", seed=1, fold=0)).as_posix()
    'results/part-2c/an8net/certificate/seed1/fold0.json'
    """
    folder = Path(results) / setup.variant / setup.model / "certificate"
    return seed_folder(folder, setup.seed) / f"fold{setup.fold}.json"


def write(path: Path, record: Json, flags: pd.DataFrame) -> Json:
    """Write the table of flags and then the record, and return the record as written."""
    described = write_table(path.with_suffix(".parquet"), flags)
    record = {"schema_version": SCHEMA_VERSION, **record, "flags_file": described}
    files.write_json(path, record)
    return record


def lookup(path: Path, key: str, *, tables: bool = False) -> Json | None:
    """Return the certificate at `path` if it has exactly this key; else None.

    Args:
        path: as `record_path` returns it.
        key: key of the present identity.
        tables: whether the table of per-image flags must exist too.
    """
    try:
        record = read_record(path)
    except (FileNotFoundError, ResultsError):
        return None
    complete = is_usable(path.with_suffix(".parquet"), record["flags_file"], required=tables)
    return record if record["key"] == key and complete else None


def read_record(path: Path) -> Json:
    """Read one certificate.

    Raises:
        ResultsError: if it is not valid or has an unknown schema version.
        FileNotFoundError: if it does not exist.
    """
    try:
        record: Json = json.loads(path.read_text())
        version = record["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is not a valid certificate ({error!r}); delete it and certify again"
        ) from error
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
            "install a newer release, or delete it and certify again"
        )
    return record


def read_certificates(results: str | Path, variant: str, model: str) -> pd.DataFrame:
    """Return the certificates of the trained models, one row per fold and seed.

    Args:
        results: the results folder.
        variant, model: names of the variant and the architecture.
    Returns:
        sorted by seed and fold: fold, seed, images, the shares (in [0, 1]) necessity, necessity_expected,
        sufficiency, swap and passed, certified (bool), reason (text, empty if the model is certified), and
        weights_sha256 of the model; empty if no model was certified yet.
    Raises:
        ResultsError: if a record is not valid.
    """
    records = [_flat(record) for _, record in _records(results, variant, model)]
    return pd.DataFrame(records, columns=COLUMNS).sort_values(["seed", "fold"], ignore_index=True)


def passing(
    results: str | Path, variant: str, model: str, weights: Collection[str] | None = None
) -> pd.DataFrame:
    """Return the images on which a model uses the part: those that pass all three tests.

    Args:
        results: the results folder, with the tables of flags.
        variant, model: names of the variant and the architecture.
        weights: SHA-256 of the models; by default all models with a certificate.
    Returns:
        one row per image that passes: fold, seed, class, view, crop, rotation.
    Raises:
        ResultsError: if there are no certificates, or a table is missing or altered; the message names the
            command to run.
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
        try:
            tables.append(read_table(path.with_suffix(".parquet"), record["flags_file"]))
        except AlteredTableError as error:
            raise ResultsError(f"{error}; run '{again}' first") from None
    if not tables:
        raise ResultsError(f"no certificates of these models on {variant} in {results}; run '{again}' first")
    return tables


def _records(results: str | Path, variant: str, model: str) -> list[tuple[Path, Json]]:
    folder = Path(results) / variant / model / "certificate"
    return [(path, read_record(path)) for path in sorted(folder.rglob("fold*.json"))]


def _flat(record: Json) -> Json:
    shares = {name: record["shares"][name] for name in ("images", "necessity_expected", *SHARES)}
    return {**record, **shares, "weights_sha256": record["identity"]["weights_sha256"]}


__getattr__ = renamed(__name__, {"found": "lookup"})
