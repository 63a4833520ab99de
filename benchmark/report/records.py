"""The content of a row's dialog: what was measured, with what, and the command that measures it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.record import Record
from benchmark.setups import model_options

_ARXIV = re.compile(r"arXiv[: ]*(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Fold:
    """The record of one fold; numbers as text, empty if they are missing."""

    fold: int
    seed: int
    status: str
    score: str
    images: str
    accuracy: str
    finished: str
    key: str


@dataclass(frozen=True)
class Detail:
    """The records of a row.

    Args:
        facts: pairs of a name and a value; if folds differ, all their values.
        folds: one entry per fold and seed.
        again: the commands that measure the row again, one line per seed.
        links: pairs of a text and a URL; http and https only.
        reasons: failures, one line each.
    """

    facts: tuple[tuple[str, str], ...]
    folds: tuple[Fold, ...]
    again: str
    links: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]


def details(records: Sequence[Record]) -> Detail:
    """Return the content of the dialog for the records of one explainer, variant and model."""
    first = records[0]
    submission = first.submission or {}
    facts = [
        ("source", _common(records, "source")),
        ("library", _common(records, "library")),
        ("layer", _common(records, "layer")),
        ("parameters", _parameters(first)),
        ("reduction", _common(records, "reduction")),
        ("resize", _common(records, "resize")),
        *((name, _plain(value)) for name, value in submission.items() if value),
        ("versions", _common(records, "versions")),
        ("host", _common(records, "host")),
        ("data", str(first.identity.get("dataset_digest", ""))[:16]),
        ("code", str(first.identity.get("code_sha256", ""))[:16]),
        ("weights", ", ".join(_weights(records))),
        ("command", _common(records, "command")),
    ]
    return Detail(
        tuple((name, value) for name, value in facts if value),
        tuple(_fold(record) for record in records),
        "" if submission else _again(records),
        links_of([first.source, submission.get("code", ""), submission.get("paper", "")]),
        tuple(_reason(record) for record in records if record.reason),
    )


def links_of(texts: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Return the links in texts; only http and https URLs and arXiv numbers become links.

    >>> links_of(["Selvaraju 2017, arXiv 1610.02391", "javascript:alert(1)", "https://a.org/b"])
    (('arXiv 1610.02391', 'https://arxiv.org/abs/1610.02391'), ('https://a.org/b', 'https://a.org/b'))
    """
    links: dict[str, str] = {}
    for text in map(str, texts):
        links |= {f"arXiv {number}": f"https://arxiv.org/abs/{number}" for number in _ARXIV.findall(text)}
        if re.fullmatch(r"https?://[^\s\"'<>]+", text):
            links[text] = text
    return tuple(links.items())


def _again(records: Sequence[Record]) -> str:
    first = records[0]
    seeds = sorted({record.seed for record in records})
    chosen = f"--variant {shlex.quote(first.variant)} {model_options(first.model_name)}"
    lines = [
        f"an8flower evaluate {chosen} "
        + shlex.join(["--explainer", first.explainer, *(["--seed", str(seed)] if seed else [])])
        for seed in seeds
    ]
    return "\n".join(lines)


def _fold(record: Record) -> Fold:
    scores = record.scores or {}
    return Fold(
        int(record.fold),
        int(record.seed),
        str(record.status),
        _percent(scores.get("iou_auc")),
        str(record.images),
        _percent(record.accuracy),
        str(record.finished or ""),
        str(record.key)[:12],
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _reason(record: Record) -> str:
    return f"{record.place}: {record.reason}"


def _common(records: Sequence[Record], name: str) -> str:
    values = dict.fromkeys(_plain(getattr(record, name)) for record in records)
    return "; ".join(value for value in values if value)


def _parameters(record: Record) -> str:
    return _plain(record.identity.get("parameters"))


def _weights(records: Sequence[Record]) -> list[str]:
    digests = (str(record.identity.get("weights_sha256", ""))[:8] for record in records)
    return [digest for digest in dict.fromkeys(digests) if digest]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
