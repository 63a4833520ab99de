"""What a row's record says when it is opened: who measured what, with what, and how to do it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.store import Record

_ARXIV = re.compile(r"arXiv[: ]*(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Fold:
    """One measurement; figures as text, empty where there is none."""

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
    """A row's records.

    Args:
        facts: a name and a value each, the same for all its folds; a value that differs is listed.
        folds: one line each.
        again: the command that measures the row again.
        links: a text and its address each, http or https alone.
        reasons: what went wrong, a line each.
    """

    facts: tuple[tuple[str, str], ...]
    folds: tuple[Fold, ...]
    again: str
    links: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]


def details(records: Sequence[Record]) -> Detail:
    """What is shown of one explainer's records, of one variant and model."""
    first = records[0]
    submission = first.get("submission") or {}
    facts = [
        ("source", _common(records, "source")),
        ("library", _common(records, "library")),
        ("layer", _common(records, "layer")),
        ("parameters", _parameters(first)),
        ("channels to one", _common(records, "reduction")),
        ("resized", _common(records, "resize")),
        *((name, _plain(value)) for name, value in submission.items() if value),
        ("versions", _common(records, "versions")),
        ("host", _common(records, "host")),
        ("data", str(first["identity"].get("dataset_digest", ""))[:16]),
        ("code", str(first["identity"].get("code_sha256", ""))[:16]),
        ("weights", ", ".join(_weights(records))),
        ("recorded command", _common(records, "command")),
    ]
    return Detail(
        tuple((name, value) for name, value in facts if value),
        tuple(_fold(record) for record in records),
        "" if submission else _again(records),
        links_of([first["source"], submission.get("code", ""), submission.get("paper", "")]),
        tuple(_reason(record) for record in records if record["reason"]),
    )


def links_of(texts: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Addresses that may be followed; what is not http or https stays text.

    >>> links_of(["Selvaraju 2017, arXiv 1610.02391", "javascript:alert(1)", "https://a.org/b"])
    (('arXiv 1610.02391', 'https://arxiv.org/abs/1610.02391'), ('https://a.org/b', 'https://a.org/b'))
    """
    found: dict[str, str] = {}
    for text in map(str, texts):
        found |= {f"arXiv {number}": f"https://arxiv.org/abs/{number}" for number in _ARXIV.findall(text)}
        if re.fullmatch(r"https?://[^\s\"'<>]+", text):
            found[text] = text
    return tuple(found.items())


def _again(records: Sequence[Record]) -> str:
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    options = ["--variant", first["variant"], "--model", first["model"], "--explainer", first["explainer"]]
    lines = [
        shlex.join(["an8flower", "evaluate", *options, *(["--seed", str(seed)] if seed else [])])
        for seed in seeds
    ]
    return "\n".join(lines)


def _fold(record: Record) -> Fold:
    scores = record.get("scores") or {}
    return Fold(
        int(record["fold"]),
        int(record["seed"]),
        str(record["status"]),
        _percent(scores.get("iou_auc")),
        str(record.get("images", "")),
        _percent(record.get("accuracy")),
        str(record.get("finished") or ""),
        str(record["key"])[:12],
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _reason(record: Record) -> str:
    seed = f" seed {record['seed']}" if record["seed"] else ""
    return f"fold {record['fold']}{seed}: {record['reason']}"


def _common(records: Sequence[Record], name: str) -> str:
    values = dict.fromkeys(_plain(record.get(name)) for record in records)
    return "; ".join(value for value in values if value)


def _parameters(record: Record) -> str:
    return _plain(record["identity"].get("parameters"))


def _weights(records: Sequence[Record]) -> list[str]:
    digests = (str(record["identity"].get("weights_sha256", ""))[:8] for record in records)
    return [digest for digest in dict.fromkeys(digests) if digest]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
