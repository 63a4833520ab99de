"""A zip file of a stranger: looked at before it is read, read in memory through caps, never unpacked.

What a plain zip of a few files has no need for is refused, so that there is little to be clever with:
comments, zip64, data before or between the members, encryption, links, folders, other compressions.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.submission.errors import SubmissionError, shown

GIB = 2**30
_END = struct.Struct("<4s4H2LH")  # end of central directory, without a comment
_LOCATOR = 20  # bytes of a zip64 locator, which stands just before that
_ENTRY = 46 + 4 * 255  # bytes of a member in the directory, more than any honest one
_CHUNK = 2**20
# What zipfile raises of broken files.
_BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError,
    RuntimeError, ValueError, OverflowError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Caps:
    """How much an archive may be.

    Args:
        file_bytes: of the archive.
        total_bytes: of all members together, unpacked.
        members: how many.
        ratio: unpacked bytes for each packed one; None where the size of each member is known anyway.
    """

    file_bytes: int = 2 * GIB
    total_bytes: int = 3 * GIB
    members: int = 200
    ratio: float | None = 100.0


@dataclass(frozen=True)
class Archive:
    """An open zip file that has passed the checks.

    Args:
        where: what messages call it.
        members: unpacked bytes of each, by name.
    """

    where: str
    members: dict[str, int]
    _zip: zipfile.ZipFile

    def read(self, name: str, most: int) -> bytes:
        """A member, if it is not larger than `most` bytes.

        Raises:
            SubmissionError: if it is, or cannot be read.
        """
        if (size := self.members[name]) > most:
            raise SubmissionError(f"{self.where}: {name} has {size} bytes; it may have {most}")
        with self.stream(name) as stream:
            # zipfile unpacks as much as it is asked for, whatever the directory says of the size.
            data = stream.read(size + 1)
        if len(data) != size:
            raise SubmissionError(f"{self.where}: {name} does not have the {size} bytes that it should have")
        return data

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """A member as a file; what goes wrong inside is a `SubmissionError`."""
        with broken(f"{self.where}: {name} cannot be read"), self._zip.open(name) as stream:
            yield stream


@contextmanager
def opened(source: Path | bytes, where: str, caps: Caps) -> Iterator[Archive]:
    """An archive, once all its members are found harmless by name, kind and size.

    Args:
        source: a file, or its bytes.
        where: what messages call it.
        caps: how much it may be.
    Raises:
        SubmissionError: if it is no such zip file, with the reason.
        OSError: if the file cannot be opened.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else _file(source) as handle:
        _check_end(handle, where, caps)
        with broken(f"{where} is a damaged zip file"):
            archive = zipfile.ZipFile(handle)
        with archive:
            _check_members(archive, where, caps)
            yield Archive(where, {one.filename: one.file_size for one in archive.infolist()}, archive)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with _file(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def broken(what: str) -> Iterator[None]:
    """Inside, what zipfile and the like raise of broken data becomes a `SubmissionError`."""
    try:
        yield
    except SubmissionError:
        raise
    except _BROKEN as error:
        raise SubmissionError(
            f"{what}: {shown(' '.join(str(error).split()) or type(error).__name__)}"
        ) from None


def _file(path: Path) -> BufferedReader:
    if path.exists() and not path.is_file():
        raise SubmissionError(f"{path} is no file; name one that 'an8flower submit' has written")
    return path.open("rb")


def _check_end(handle: IO[bytes], where: str, caps: Caps) -> None:
    """What the file says of itself at its end, before zipfile reads as many entries as are announced."""
    size = handle.seek(0, io.SEEK_END)
    if size > caps.file_bytes:
        raise SubmissionError(f"{where} has {size} bytes; it may have {caps.file_bytes}")
    handle.seek(max(0, size - _END.size - _LOCATOR))
    tail = handle.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6":
        cut = handle.seek(0) == 0 and handle.read(4) == b"PK\3\4"
        what = "is a zip file that is cut short, or has a comment" if cut else "is no zip file"
        raise SubmissionError(f"{where} {what}; write it with 'an8flower submit'")
    _, disk, first, here, members, directory, begin, comment = _END.unpack(tail[-_END.size :])
    if (
        tail[: -_END.size].startswith(b"PK\6\7")
        or 0xFFFF in (here, members)
        or 0xFFFFFFFF in (directory, begin)
    ):
        raise SubmissionError(f"{where} is a zip64 file; submissions are smaller than that needs")
    if disk or first or here != members or comment:
        raise SubmissionError(
            f"{where} is one part of a zip file, or has a comment; it must be whole and plain"
        )
    if members > caps.members or directory > caps.members * _ENTRY:
        raise SubmissionError(f"{where} has {members} members; it may have {caps.members}")
    if begin + directory + _END.size != size:
        raise SubmissionError(f"{where} has data outside its members, or is cut short; zip it again")


def _check_members(archive: zipfile.ZipFile, where: str, caps: Caps) -> None:
    seen: set[str] = set()
    total = packed = 0
    for one in archive.infolist():
        name = shown(one.orig_filename)
        if problem := _name_problem(one):
            raise SubmissionError(f"{where}: member {name} {problem}")
        if one.filename.casefold() in seen:
            raise SubmissionError(f"{where}: member {name} is there twice")
        seen.add(one.filename.casefold())
        kind = stat.S_IFMT(one.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            what = "a symbolic link" if kind == stat.S_IFLNK else "no plain file"
            raise SubmissionError(f"{where}: member {name} is {what}; only plain files are taken")
        if one.flag_bits & 0x2041:
            raise SubmissionError(f"{where}: member {name} is encrypted; it must not be")
        if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SubmissionError(f"{where}: member {name} is compressed otherwise than by deflate")
        if caps.ratio is not None and one.file_size > caps.ratio * max(1, one.compress_size) + _CHUNK:
            raise SubmissionError(
                f"{where}: member {name} unpacks to more than {caps.ratio:g} times its size, as zip bombs do"
            )
        total, packed = total + one.file_size, packed + one.compress_size
    if total > caps.total_bytes:
        raise SubmissionError(f"{where} unpacks to {total} bytes; it may have {caps.total_bytes}")
    if packed > caps.file_bytes:
        raise SubmissionError(f"{where}: its members overlap, as in zip bombs")


def _name_problem(one: zipfile.ZipInfo) -> str:
    name = one.orig_filename
    if one.filename != name or not name.isprintable() or not name:
        return "has a name with characters that do not belong there"
    if "\\" in name or ":" in name:
        return "has a backslash or a colon in its name; folders are parted by /"
    if name.startswith("/"):
        return "has an absolute path; paths are within the file"
    if name.endswith("/"):
        return "is a folder; only files are members"
    if PurePosixPath(name).as_posix() != name or ".." in PurePosixPath(name).parts:
        return "leads out of the file, by .. or the like"
    return ""
