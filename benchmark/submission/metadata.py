"""What a submitter says of a method: from options, or from a TOML file with entries of the same names."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from an8flower.ground.deprecated import renamed
from an8flower.ground.registry import unknown
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import Method

REQUIRED = ("name", "authors", "paper", "code", "commit")
ENTRIES = (*REQUIRED, "command", "hardware", "licence", "contact", "note")


@dataclass(frozen=True)
class Metadata:
    """What the records do not hold.

    Args:
        method: whose it is.
        hardware: the machine that computed the scores.
        command: the command that computed them; empty for the one in the records.
    """

    method: Method
    hardware: str
    command: str = ""


def read_metadata(
    options: Mapping[str, Any], file: str | Path | None = None, defaults: Mapping[str, str] | None = None
) -> Metadata:
    """Return the metadata of a submission; `pack_plugin` and `pack_heatmaps` check their form.

    Args:
        options: by the names in `ENTRIES`; None or empty for what is not given. They override the file.
        file: TOML with the same names; authors is a list.
        defaults: values for entries that neither of them has.
    Raises:
        SubmissionError: if an entry is missing, unknown or of the wrong type.
        OSError: if the file cannot be read.
    """
    entries: dict[str, Any] = dict(defaults or {}) | ({} if file is None else _read(Path(file)))
    entries |= {name: value for name, value in options.items() if value}
    missing = ", ".join(f"--{name}" for name in REQUIRED if not entries.get(name))
    if missing:
        raise SubmissionError(
            f"a submission needs {missing}; write 'none' if there is no paper, code or commit"
        )
    entries["authors"] = tuple(entries["authors"])
    machine, command = entries.pop("hardware", "") or this_machine(), entries.pop("command", "")
    return Metadata(Method(**entries), machine, command)


def this_machine() -> str:
    """Return this machine in one line of text."""
    parts = [_processor(), f"{os.cpu_count()} cores", platform.system()]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(filter(None, parts))


def this_command() -> str:
    """Return the command that runs now."""
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
    if isinstance(entries.get("authors"), str):
        entries["authors"] = [entries["authors"]]
    for name, value in entries.items():
        if name not in ENTRIES:
            raise SubmissionError(f"{path}: {unknown('entry', name, ENTRIES)}")
        listed = name == "authors"
        texts = value if listed and isinstance(value, list) else [None if listed else value]
        if not all(isinstance(text, str) for text in texts):
            right = 'a list of texts, e.g. ["A. Author"]' if listed else "a text"
            raise SubmissionError(f"{path}: {name} is {value!r}; it must be {right}")
    return entries


__getattr__ = renamed(__name__, {"hardware": "this_machine", "command": "this_command"})
