"""Files that are there whole or not at all, and a folder that one process writes at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder; a killed run leaves the old file or the new."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write to a temporary name in the folder of `path`, then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        save(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            error.filename = error.filename or str(path)  # a full disk does not say where
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def remove_temporaries(folder: Path) -> None:
    """Delete what killed runs left behind under temporary names."""
    for leftover in folder.rglob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process alone.

    Args:
        folder: what to hold.
        wait: until another process lets go of it, instead of raising.
    Raises:
        BlockingIOError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{folder} is being written by another process; wait for it to end"
            ) from error
        yield
