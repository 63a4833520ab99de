"""Parquet tables next to JSON records: a record holds the size and SHA-256 of its table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from an8flower.ground import files
from benchmark.record import Json


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
