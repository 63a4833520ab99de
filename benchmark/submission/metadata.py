"""What a submitter says of a method: from options, or from a TOML file of the same names."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from an8flower.ground.registry import unknown
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import Method
from benchmark.submission.packing import About

REQUIRED = ("name", "authors", "paper", "code", "commit")
ENTRIES = (*REQUIRED, "command", "hardware", "licence", "contact", "note")


def about(
    given: Mapping[str, Any], file: str | Path | None = None, otherwise: Mapping[str, str] | None = None
) -> About:
    """Metadata of a submission; what it must look like is checked when it is packed.

    Args:
        given: by the names in `ENTRIES`; None or empty for what is not given. They count more than the file.
        file: TOML with the same names; authors are a list.
        otherwise: what holds for those that neither gives.
    Raises:
        SubmissionError: if an entry is missing, unknown or of the wrong type.
        OSError: if the file cannot be read.
    """
    entries: dict[str, Any] = dict(otherwise or {}) | ({} if file is None else _read(Path(file)))
    entries |= {name: value for name, value in given.items() if value}
    lacking = [name for name in REQUIRED if not entries.get(name)]
    if lacking:
        options = ", ".join(f"--{name}" for name in lacking)
        raise SubmissionError(
            f"a submission needs {options}; write 'none' for a paper, code or commit that there is not"
        )
    method = Method(
        **{name: entries.get(name, "") for name in ENTRIES if name not in ("authors", "command", "hardware")},
        authors=tuple(entries["authors"]),
    )
    return About(method, entries.get("hardware") or hardware(), entries.get("command", ""))


def hardware() -> str:
    """This machine in a line."""
    found = [_processor(), f"{os.cpu_count()} cores", platform.system()]
    if torch.cuda.is_available():
        found.insert(0, torch.cuda.get_device_name())
    return ", ".join(filter(None, found))


def command() -> str:
    """The command that runs now."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, Any]:
    try:
        entries = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SubmissionError(f"{path} is not TOML: {error}") from error
    for name, value in entries.items():
        if name not in ENTRIES:
            raise SubmissionError(f"{path}: {unknown('entry', name, ENTRIES)}")
        if name == "authors" and isinstance(value, str):
            entries[name] = [value]
        elif name == "authors" and isinstance(value, list) and all(isinstance(one, str) for one in value):
            continue
        elif not isinstance(value, str):
            right = 'a list of texts, e.g. ["A. Author"]' if name == "authors" else "a text"
            raise SubmissionError(f"{path}: {name} is {value!r}; it must be {right}")
    return entries
