"""A submission as one safetensors file: the form and a script in its metadata, the heatmaps as tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from an8flower.ground import files
from benchmark.setups import Setup
from benchmark.submission.errors import SubmissionError, shown
from benchmark.submission.form import Claim, Form, parse_form, parse_json
from benchmark.submission.heatmaps import ARRAYS, Heatmaps, Images, check_array, digest, in_order

SUFFIX = ".an8sub.safetensors"  # a safetensors file, but not of weights
FILE_BYTES = 3 * 2**30
HEADER_BYTES = 4 * 2**20
FORM_BYTES = 2**20
SCRIPT_BYTES = 2**20
AGAIN = "pack it with 'an8flower submit'"
_DTYPES = {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)} | {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Submission:
    """A file that has passed all checks that need no dataset.

    Args:
        path: the file.
        sha256: of the file.
        form: what it says.
        script: text of the script that defines the method; empty if it has none.
    """

    path: Path
    sha256: str
    form: Form
    script: str = ""

    def heatmaps(self, claim: Claim, images: Images) -> Heatmaps:
        """Read the heatmaps of a fold.

        Args:
            claim: one of the form's.
            images: the images that must be explained.
        Raises:
            SubmissionError: naming what is wrong, and where.
        """
        where = f"{self.path}: {claim.setup}"
        arrays: dict[str, NDArray[Any]] = {}
        with _opened(self.path, self.path) as tensors:
            for name in ARRAYS:
                tensor = tensors.get_slice(_tensor(claim.setup, name))
                dtype = _DTYPES.get(tensor.get_dtype(), tensor.get_dtype())
                check_array(name, dtype, tuple(tensor.get_shape()), images, where)
                arrays[name] = tensors.get_tensor(_tensor(claim.setup, name))
        if digest(arrays) != claim.heatmaps_sha256:
            raise SubmissionError(
                f"{where}: the heatmaps do not have the SHA-256 that the form gives, so the file is damaged; "
                "copy it again"
            )
        return in_order(arrays, images, where)


def read_submission(path: str | Path) -> Submission:
    """Read a submission; nothing of it is run.

    Args:
        path: a file that `an8flower submit` wrote.
    Raises:
        SubmissionError: naming the first thing that is wrong, where, and what would be right.
        OSError: if the file does not exist or cannot be read.
    """
    return _read(Path(path), Path(path))


def write_submission(
    path: Path, form: Form, folds: Mapping[Setup, Mapping[str, NDArray[Any]]], script: str = ""
) -> Submission:
    """Write a submission; the file is complete or does not exist.

    Args:
        path: the file.
        form: what it says.
        folds: for each fold its contiguous arrays; empty for a plug-in.
        script: text of the script that the form names.
    Returns:
        the submission as it is read again.
    Raises:
        SubmissionError: if it would be refused.
        OSError: if it cannot be written.
    """
    metadata = {"form": json.dumps(form.to_json(), ensure_ascii=False, allow_nan=False)}
    if script:
        metadata["script"] = script
    tensors = {_tensor(setup, name): array for setup, fold in folds.items() for name, array in fold.items()}
    submission: list[Submission] = []

    def save(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        temporary.chmod(mode)  # the library writes files that others cannot read
        submission.append(_read(temporary, path))

    files.write_with(path, save)
    return replace(submission[0], path=path)


def _read(path: Path, name: Path) -> Submission:
    """Read a submission; messages call it `name`."""
    header = _header(path, name)
    with _opened(path, name) as tensors:
        parse_json(header, str(name))  # refuses names that are there twice, which the library does not
        metadata, names = tensors.metadata() or {}, set(tensors.keys())
    if "form" not in metadata:
        raise SubmissionError(f"{name} is not a submission: its metadata has no 'form'; {AGAIN}")
    if others := sorted(set(metadata) - {"form", "script"}):
        raise SubmissionError(f"{name} has metadata {shown(others[0])}; known are form, script")
    for entry, limit in (("form", FORM_BYTES), ("script", SCRIPT_BYTES)):
        if (size := len(metadata.get(entry, "").encode())) > limit:
            raise SubmissionError(f"{name}: the {entry} has {size} bytes; the limit is {limit}")
    form = parse_form(metadata["form"], str(name))
    if bool(form.script) != ("script" in metadata):
        place = ("form", "metadata") if form.script else ("metadata", "form")
        raise SubmissionError(f"{name} has a script in its {place[0]}, but none in its {place[1]}; {AGAIN}")
    described = {
        _tensor(claim.setup, array) for claim in form.claims for array in ARRAYS if claim.heatmaps_sha256
    }
    for tensor in sorted(names ^ described):
        what = "lacks the tensor" if tensor in described else "has a tensor that the form does not describe,"
        raise SubmissionError(f"{name} {what} {shown(tensor)}")
    with path.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    return Submission(path, sha256, form, metadata.get("script", ""))


def _header(path: Path, name: Path) -> str:
    """Return the JSON at the start of a safetensors file, once the size of both is within limits."""
    if path.exists() and not path.is_file():
        raise SubmissionError(f"{name} is not a file; name one that 'an8flower submit' has written")
    with path.open("rb") as handle:
        start = handle.read(8)
        if start.startswith(b"PK"):
            raise SubmissionError(f"{name} is a zip archive, as version 0.1 wrote submissions; {AGAIN} again")
        if (size := path.stat().st_size) > FILE_BYTES:
            raise SubmissionError(f"{name} has {size} bytes; the limit is {FILE_BYTES}")
        length = int.from_bytes(start, "little")
        if length > HEADER_BYTES:
            raise SubmissionError(
                f"{name} is not a safetensors file with a header of at most {HEADER_BYTES} bytes; {AGAIN}"
            )
        return handle.read(length).decode(errors="replace")


@contextmanager
def _opened(path: Path, name: Path) -> Iterator[Any]:
    """Open a safetensors file, which checks types, shapes and offsets of its tensors."""
    try:
        with safe_open(path, "numpy") as tensors:
            yield tensors
    except SafetensorError as error:
        reason = shown(str(error).removeprefix("Error while deserializing header: "))
        raise SubmissionError(f"{name} is not a valid safetensors file: {reason}; {AGAIN}") from None


def _tensor(setup: Setup, array: str) -> str:
    return f"{setup.variant}/{setup.model_name}/seed{setup.seed}/fold{setup.fold}/{array}"
