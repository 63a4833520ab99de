"""The content of the page: texts and numbers of a board and its records; plain values except for columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.board.certificates import failed_tests
from benchmark.board.columns import Column
from benchmark.board.rows import Leaderboard
from benchmark.record import Record
from benchmark.report.columns import TableCell, cell_of, columns_of
from benchmark.report.records import Detail, details
from benchmark.report.words import Sentence, further, verdict


@dataclass(frozen=True)
class Bar:
    """A score as a bar with its interval, all in percent of the cell's width.

    Args:
        width: length of the bar.
        low, high: bounds of the interval; None if they are unknown.
        beyond: whether the score is larger than a full bar, as that of a ceiling may be.
    """

    width: float
    low: float | None
    high: float | None
    beyond: bool


@dataclass(frozen=True)
class Row:
    """One explainer.

    Args:
        number: row number in the board, which connects the figures with the table.
        explainer, role, layer, library, origin, failed: as in the board; the library by its name.
        rank: rank of a method, from 1; None for floors and ceilings.
        bar: the score as a bar; None if there is no score.
        cells: one per column.
        search: text that the filter searches, in lower case.
    """

    number: int
    explainer: str
    role: str
    layer: str
    library: str
    origin: str
    failed: str
    rank: int | None
    bar: Bar | None
    cells: tuple[TableCell, ...]
    search: str


@dataclass(frozen=True)
class Certified:
    """The certificate of one trained model; shares in percent, None where it has none.

    Args:
        failed: the tests that the model fails, in a few words.
        reason: the same in full.
    """

    fold: int
    seed: int
    images: int
    shares: tuple[tuple[str, float | None], ...]
    certified: bool
    failed: str
    reason: str


@dataclass(frozen=True)
class Agreement:
    """Agreement between orders of the methods: Kendall's tau."""

    over: str
    orders: int
    mean: float
    least: float


@dataclass(frozen=True)
class BoardContent:
    """The texts and numbers of one variant and model on the page.

    Args:
        key: prefix of the HTML ids of the board, e.g. "b0".
        variant, model: names of the variant and the architecture.
        verdict: which method is first, and how significant that is.
        further: more sentences.
        facts: pairs of a name and a value.
        columns, rows: the table of scores.
        details: the records of each row.
        certificate, expected: one entry per trained model, and the highest possible necessity in percent.
        stability: agreement between orders.
        certified_only: whether only images that pass the certificate were scored.
    """

    key: str
    variant: str
    model: str
    verdict: Sentence
    further: tuple[Sentence, ...]
    facts: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    details: tuple[Detail, ...]
    certificate: tuple[Certified, ...]
    expected: float
    stability: tuple[Agreement, ...]
    certified_only: bool


def content_of(board: Leaderboard, records: Sequence[Record], key: str) -> BoardContent:
    """Return the content of the page for a board.

    Args:
        board: as `leaderboard` returns it.
        records: the records of the board.
        key: prefix of the HTML ids of the board.
    """
    columns = columns_of(board.rows)
    by_name: dict[str, list[Record]] = {}
    for record in records:
        by_name.setdefault(record.explainer, []).append(record)
    most = scale(board.rows)
    rows = tuple(
        _row(k, row, by_name[row["explainer"]], columns, most)
        for k, row in enumerate(board.rows.to_dict("records"))
    )
    return BoardContent(
        key,
        board.variant,
        board.model,
        verdict(board),
        tuple(further(board)),
        _facts(board, records),
        columns,
        rows,
        tuple(details(by_name[row.explainer]) for row in rows),
        tuple(_certified(row) for row in board.certificate.to_dict("records")),
        100 * float(board.certificate["necessity_expected"].max()) if len(board.certificate) else 0.0,
        tuple(
            Agreement(row["over"], int(row["orders"]), row["tau_mean"], row["tau_least"])
            for row in board.stability.to_dict("records")
        ),
        board.certified_only,
    )


def scale(rows: pd.DataFrame) -> float:
    """Return the score of a full bar in percent: slightly more than the best method's."""
    methods = rows[rows["role"] == "method"]
    most = methods[["iou_auc", "iou_auc_high"]].max(axis=None) if len(methods) else np.nan
    return 1.04 * float(most) if most > 0 else 100.0


def _row(
    number: int, row: Mapping[str, Any], records: Sequence[Record], columns: Sequence[Column], most: float
) -> Row:
    library = str(records[0].library or "")
    texts = (row["explainer"], row["role"], row["layer"], library, row["origin"], records[0].source)
    return Row(
        number,
        str(row["explainer"]),
        str(row["role"]),
        str(row["layer"] or ""),
        library,
        str(row["origin"] or ""),
        str(row["failed"] or ""),
        None if pd.isna(row["rank"]) else int(row["rank"]),
        _bar(row, most),
        tuple(cell_of(row, column) for column in columns),
        " ".join(str(text) for text in texts).lower(),
    )


def _bar(row: Mapping[str, Any], most: float) -> Bar | None:
    if np.isnan(row["iou_auc"]):
        return None

    def place(value: float) -> float | None:
        return None if np.isnan(value) or value > most else round(100 * max(value, 0) / most, 2)

    low, high = place(row["iou_auc_low"]), place(row["iou_auc_high"])
    known = low is not None and high is not None
    beyond = row["iou_auc"] > most
    width = 100.0 if beyond else round(100 * row["iou_auc"] / most, 2)
    return Bar(width, low if known else None, high if known else None, beyond)


def _facts(board: Leaderboard, records: Sequence[Record]) -> tuple[tuple[str, str], ...]:
    measured = [record for record in records if record.status != "failed"]
    counts = board.rows["role"].value_counts()
    facts = [("methods", str(counts.get("method", 0)))]
    facts.append(("floors, ceilings", f"{counts.get('floor', 0)}, {counts.get('ceiling', 0)}"))
    if measured:
        facts.append(("images", f"{board.rows['images'].max():,}".replace(",", " ")))
        facts.append(("folds", str(board.rows["folds"].max())))
    if board.accuracy:
        facts.append(("accuracy, worst fold", f"{100 * min(board.accuracy):.1f} %"))
    failed = int((board.rows["failed"] != "").sum())
    if failed:
        facts.append(("rows with failures", str(failed)))
    return tuple(facts)


def _certified(row: Mapping[str, Any]) -> Certified:
    names = ("necessity", "sufficiency", "swap", "passed", "held_out", "without")
    shares = tuple((name, None if pd.isna(row[name]) else 100 * float(row[name])) for name in names)
    return Certified(
        int(row["fold"]),
        int(row["seed"]),
        int(row["images"]),
        shares,
        bool(row["certified"]),
        failed_tests(str(row["reason"] or "")),
        str(row["reason"] or ""),
    )
