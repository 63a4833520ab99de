"""Certificates on disk: one JSON record and one Parquet table of per-image flags per fold and seed.

In the results folder: `<variant>/<model>/certificate/fold<k>.json` and `.parquet`, in a folder `seed<s>` for
seeds other than 0. docs/certificate.md describes each field. Files are written whole or not at all, the
record last, with a digest of itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from an8flower.ground.digest import FIELD, AlteredError, read_json, with_digest
from an8flower.ground.text import one_line
from benchmark.certificate.checks import SCHEMA_VERSION, SELF_CHECKED, STRICT, NewerError, check
from benchmark.certificate.judging import SHARES
from benchmark.record import Json
from benchmark.record_checks import RecordError
from benchmark.setups import PLAIN, Setup, model_options
from benchmark.store import OccupiedError, ResultsError, seed_folder
from benchmark.tables import AlteredTableError, is_usable, read_table, write_table

_OLDER = "tested by an older release, which had wider limits and no interventions; certify again"

IMAGE = ["fold", "seed", "class", "view", "crop", "rotation"]
# Columns of `read_certificates`; "passed" is the share of images that pass all three tests.
COLUMNS = [
    "fold", "seed", "images", "necessity", "necessity_expected", "sufficiency", "swap", "passed",
    "probability", "probability_5", "held_out", "without", "limit", "certified", "reason", "weights_sha256",
]  # fmt: skip


def record_path(results: str | Path, setup: Setup) -> Path:
    """Return the path of a trained model's certificate; its table is next to it, as .parquet.

    >>> record_path("results", Setup("part-2c", "an8net", seed=1, fold=0)).as_posix()
    'results/part-2c/an8net/certificate/seed1/fold0.json'
    """
    folder = Path(results) / setup.variant / setup.model_name / "certificate"
    return seed_folder(folder, setup.seed) / f"fold{setup.fold}.json"


def write(path: Path, record: Json, flags: pd.DataFrame) -> Json:
    """Write the table of flags and then the record, and return the record as written."""
    described = write_table(path.with_suffix(".parquet"), flags)
    return _write_record(path, record | {"flags_file": described})


def _write_record(path: Path, record: Json, version: int = SCHEMA_VERSION) -> Json:
    record = with_digest({"schema_version": version} | record | {"schema_version": version})
    files.write_json(path, record)
    return record


def lookup(path: Path, wanted: str, *, tables: bool = False) -> Json | None:
    """Return the certificate at `path` if it has exactly this key and was not altered; else None.

    Args:
        path: as `record_path` returns it.
        wanted: key of the present identity.
        tables: whether the table of per-image flags must exist too.
    Raises:
        OccupiedError: if there is something that must not be overwritten.
    """
    try:
        record = read_record(path)
    except OccupiedError:
        raise
    except (FileNotFoundError, ResultsError):
        return None
    complete = is_usable(path.with_suffix(".parquet"), record["flags_file"], required=tables)
    return record if record["key"] == wanted and complete else None


def read_record(path: Path) -> Json:
    """Read one certificate.

    Args:
        path: in a results folder, so that its place says of which model the certificate must be.
    Raises:
        ResultsError: if it is not valid, was altered, is that of another model, or has an unknown schema
            version; the message names the file and the remedy.
        OccupiedError: if it is a folder, or a newer release has written it.
        FileNotFoundError: if it does not exist.
    """
    try:
        record: Json = read_json(path.read_bytes())
        check(record)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise OccupiedError(f"{path} is a folder, not a file; move it away") from None
    except NewerError as error:
        raise OccupiedError(
            f"{path} cannot be read ({error}); to keep it, install the release that wrote it; to certify "
            "with this one, move it away"
        ) from None
    except (ValueError, OSError) as error:
        known = isinstance(error, RecordError | AlteredError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise ResultsError(
            f"{path} is not a valid certificate ({one_line(reason)}); delete it and certify again"
        ) from error
    setup = Setup(
        record["variant"], record["model"], record["seed"], record["fold"], record.get("recipe", PLAIN)
    )
    own = record_path("", setup).parts
    if own != path.absolute().parts[-len(own) :]:
        raise ResultsError(
            f"{path} is the certificate of another model ({one_line(str(setup))}); "
            "delete it and certify again"
        )
    return record


def add_digests(results: str | Path, variant: str, model: str) -> int:
    """Write certificates of older releases again, unchanged but with a digest; return how many there were."""
    readable, _ = _readable(results, variant, model)
    older = [(path, record) for path, record in readable if FIELD not in record]
    for path, record in older:
        _write_record(path, record, SELF_CHECKED)
    return len(older)


def read_certificates(results: str | Path, variant: str, model: str) -> pd.DataFrame:
    """Return the certificates of the trained models, one row per fold and seed.

    Args:
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
    Returns:
        sorted by seed and fold: fold, seed, images, the shares (in [0, 1]) necessity, necessity_expected,
        sufficiency, swap and passed; the mean `probability` of the class with the part alone and its 5 %
        quantile `probability_5`; `held_out`, the least share over the interventions that keep the part;
        `without`, the largest mean probability of a class over all pictures without the part, and its
        `limit`; certified (bool), reason (text, empty if the model is certified), and weights_sha256 of the
        model; empty if no model was certified yet. Certificates of older releases have NaN for what they do
        not test, and are not certified.
    Raises:
        ResultsError: if a record is not valid.
    """
    table, broken = readable_certificates(results, variant, model)
    if broken:
        raise ResultsError(broken[0])
    return table


def readable_certificates(
    results: str | Path, variant: str, model: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the certificates as `read_certificates`, and one line for each that cannot be used."""
    readable, broken = _readable(results, variant, model)
    table = pd.DataFrame([_flat(record) for _, record in readable], columns=COLUMNS)
    return table.sort_values(["seed", "fold"], ignore_index=True), broken


def passing(
    results: str | Path, variant: str, model: str, weights: Collection[str] | None = None
) -> pd.DataFrame:
    """Return the images on which a model uses the part: those that pass all three tests.

    Args:
        results: the results folder, with the tables of flags.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
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
    place = f"--variant {variant} {model_options(model)} --results {shlex.quote(str(results))}"
    again = f"an8flower certify {place} --tables"
    tables = []
    readable, broken = _readable(results, variant, model)
    if broken:
        raise ResultsError(broken[0])
    for path, record in readable:
        if weights is not None and record["identity"]["weights_sha256"] not in weights:
            continue
        try:
            tables.append(read_table(path.with_suffix(".parquet"), record["flags_file"]))
        except AlteredTableError as error:
            raise ResultsError(f"{error}; run '{again}' first") from None
    if not tables:
        raise ResultsError(f"no certificates of these models on {variant} in {results}; run '{again}' first")
    return tables


def _readable(
    results: str | Path, variant: str, model: str
) -> tuple[list[tuple[Path, Json]], tuple[str, ...]]:
    """Return the certificates that can be used, with their files, and why the others cannot."""
    readable: list[tuple[Path, Json]] = []
    broken: list[str] = []
    folder = Path(results) / variant / model / "certificate"
    for path in sorted(folder.rglob("fold*.json")):
        try:
            readable.append((path, read_record(path)))
        except (ResultsError, OSError) as error:
            broken.append(str(error))
    return readable, tuple(broken)


def _flat(record: Json) -> Json:
    shares = {name: record["shares"][name] for name in ("images", "necessity_expected", *SHARES)}
    flat = {**record, **shares, "weights_sha256": record["identity"]["weights_sha256"]}
    if record["schema_version"] < STRICT:
        return flat | {"certified": False, "reason": record["reason"] or _OLDER}
    kept = {one["picture"]: one for one in record["kept"]}
    flat |= {name: kept["part_only"][name] for name in ("probability", "probability_5")}
    flat["held_out"] = min((one["share"] for one in record["kept"] if one["held_out"]), default=float("nan"))
    flat["without"] = max(max(one["own"], one["largest"]) for one in record["without"])
    return flat | {"limit": record["without"][0]["limit"]}


__getattr__ = renamed(__name__, {"found": "lookup"})
