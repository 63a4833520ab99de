"""Write files atomically, and lock folders against other processes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

TEMPORARY = ".tmp"
# Of macOS and Windows.
LITTER = {".DS_Store", ".localized", "Thumbs.db", "Thumbs.db:encryptable", "desktop.ini", "Desktop.ini"}


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically; create its folder if missing."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file atomically: to a temporary name in the same folder, which is then renamed to `path`.

    If the process is killed, `path` has either its old content or the new one.

    Args:
        path: the file to write; its folder is created if missing.
        save: called with the temporary path to write to.
    Raises:
        OSError: what `save` raises, with a file name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        save(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # The error of a full disk names no file; that of a folder in its place names the temporary one.
        unnamed = isinstance(error, OSError) and error.filename in (None, "", str(temporary), temporary)
        if isinstance(error, OSError) and error.errno and unnamed:
            error.filename, error.filename2 = str(path), None
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, atomically; raise ValueError for NaN, which JSON does not have."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


class FileState(NamedTuple):
    """What changes whenever a file is written: its size, and the times of its last change in nanoseconds.

    The system sets `ctime_ns`: no program can change a file and give it back its old state.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def states(folder: Path) -> dict[str, FileState]:
    """Return the state of each file in a folder by its name, links to files included."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        stats = {entry.name: entry.stat() for entry in entries if entry.is_file()}
    return {name: FileState(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats.items()}


def is_litter(path: Path) -> bool:
    """Return whether an operating system leaves files of this name in any folder that is looked at.

    >>> [is_litter(Path(name)) for name in (".DS_Store", "a/._image.png", "image.png")]
    [True, True, False]
    """
    return path.name in LITTER or path.name.startswith("._")


def remove_temporaries(folder: Path) -> None:
    """Delete temporary files that killed runs have left in a folder and its subfolders."""
    for leftover in folder.rglob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder for this process, inside a `with` block.

    Args:
        folder: the folder to lock; created if missing.
        wait: wait until another process releases the lock, instead of raising an error.
    Raises:
        BlockingIOError: if another process holds the lock.
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
