"""Tables on disk, as Parquet: written completely or not at all, and checked against their description."""

from __future__ import annotations

import hashlib
import io
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
    if not path.exists():
        raise AlteredTableError(f"{path} is missing")
    data = path.read_bytes() if path.is_file() else b""
    if not _is_described(data, description):
        raise AlteredTableError(f"{path} is not the file that its record describes")
    return pd.read_parquet(io.BytesIO(data))


def is_usable(path: Path, description: Json | None, *, required: bool) -> bool:
    """Return whether a table is the described file, or is missing and not required."""
    if not path.is_file():
        return not required
    # The size first: it tells of most changes without reading the file.
    return path.stat().st_size == (description or {}).get("bytes") and _is_described(
        path.read_bytes(), description
    )


def _is_described(data: bytes, description: Json | None) -> bool:
    return hashlib.sha256(data).hexdigest() == (description or {}).get("sha256")
