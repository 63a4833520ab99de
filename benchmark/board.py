"""The leaderboard, built from the records alone: a table, as CSV, Markdown and on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from an8flower import files
from benchmark.metrics import metrics
from benchmark.store import Record, read_records

ROLES = {"method": "methods", "floor": "floors", "ceiling": "ceilings"}


@dataclass(frozen=True)
class Leaderboard:
    """Scores of one variant and model.

    Args:
        variant, model: what was measured.
        rows: a row an explainer, methods first, then floors, then ceilings, best first: explainer,
            role, layer, folds, images, each metric as iou_auc and iou_auc_std (those between 0 and 1 in
            percent; mean and sample standard deviation over folds, seeds averaged before), invalid,
            ms_per_image, forward_passes, backward_passes, peak_mib_per_image, failed (the reason, or "").
        accuracy: of the models on their test images, one a fold.
    """

    variant: str
    model: str
    rows: pd.DataFrame
    accuracy: tuple[float, ...]

    def to_csv(self) -> str:
        """One line a row, figures unrounded but for noise."""
        return str(self.rows.to_csv(index=False, float_format="%.4f"))

    def to_markdown(self, command: str) -> str:
        """A table for people, with the command that makes it."""
        lines = [
            f"# {self.variant}, {self.model}",
            "",
            f"Made by `{command}`.",
            f"Test accuracy of the model: {100 * min(self.accuracy):.2f} % on its worst fold."
            if self.accuracy
            else "No fold was measured.",
            "Scores in percent, mean ± standard deviation over folds; passes and milliseconds an image.",
            "",
        ]
        columns = self._columns()
        lines += [
            "| " + " | ".join(column.heading for column in columns) + " |",
            "|" + "".join("---|" if column.left else "---:|" for column in columns),
        ]
        for row in self.rows.to_dict("records"):
            lines.append("| " + " | ".join(column.text(row) for column in columns) + " |")
        lines += [
            f"\nFailed: `{row.explainer}`: {row.failed}" for row in self.rows.itertuples() if row.failed
        ]
        return "\n".join(lines) + "\n"

    def to_table(self) -> Table:
        """For the terminal: methods, floors and ceilings in sections, what went wrong in red."""
        table = Table(title=f"{self.variant}, {self.model}: %, mean ± std over folds", title_justify="left")
        columns = [column for column in self._columns() if column.on_terminal]
        for column in columns:
            table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
        last = None
        for row in self.rows.to_dict("records"):
            if last not in (None, row["role"]):
                table.add_section()
            last = row["role"]
            cells = (escape(column.text(row)) for column in columns)
            table.add_row(*cells, style="red" if row["failed"] else None)
        return table

    def _columns(self) -> list[_Column]:
        """Those that were measured."""
        return [column for column in _COLUMNS if column.name in self.rows]


@dataclass(frozen=True)
class _Column:
    """How people see a column of the rows; 80 columns of a terminal have to do for those on it."""

    name: str
    heading: str
    text: Callable[[dict[str, Any]], str]
    left: bool = False
    on_terminal: bool = False


def _named(name: str, heading: str, *, left: bool = False, on_terminal: bool = True) -> _Column:
    return _Column(name, heading, lambda row: str(row[name] or ""), left, on_terminal)


def _counted(name: str, heading: str, *, on_terminal: bool = True) -> _Column:
    return _Column(name, heading, lambda row: str(row[name]), on_terminal=on_terminal)


def _scored(name: str, heading: str, *, on_terminal: bool = False) -> _Column:
    def text(row: dict[str, Any]) -> str:
        if np.isnan(row[name]):
            return "failed" if row["failed"] else "-"
        spread = row[f"{name}_std"]
        return f"{row[name]:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")

    return _Column(name, heading, text, on_terminal=on_terminal)


def _measured(name: str, heading: str, digits: int, *, on_terminal: bool = False) -> _Column:
    def text(row: dict[str, Any]) -> str:
        return "" if np.isnan(row[name]) else f"{row[name]:.{digits}f}"

    return _Column(name, heading, text, on_terminal=on_terminal)


_COLUMNS = (
    _named("explainer", "explainer", left=True),
    _named("role", "role", left=True, on_terminal=False),  # the sections tell
    _named("layer", "layer", left=True),
    _scored("iou_auc", "IoU-AUC", on_terminal=True),
    _scored("max_iou", "max-IoU", on_terminal=True),
    _scored("iou_auc_rank", "by rank"),
    _scored("pointing_game", "pointing"),
    _scored("relevance_mass", "mass"),
    _scored("average_precision", "AP"),
    _scored("roc_auc", "ROC-AUC"),
    _counted("folds", "folds"),
    _counted("images", "images", on_terminal=False),
    _counted("invalid", "invalid"),
    _measured("ms_per_image", "ms/image", 2, on_terminal=True),
    _measured("forward_passes", "forward", 1),
    _measured("backward_passes", "backward", 1),
    _measured("peak_mib_per_image", "MiB/image", 1),
)


def leaderboard(results: str | Path, variant: str, model: str = "an8net") -> Leaderboard:
    """The board of one variant and model, from its records alone.

    Raises:
        ResultsError: if there are no records, or they do not belong together.
    """
    records = read_records(results, variant, model)
    by_explainer: dict[str, list[Record]] = {}
    for record in records:
        by_explainer.setdefault(record["explainer"], []).append(record)
    rows = pd.DataFrame([_row(name, group) for name, group in by_explainer.items()])
    rows["_order"] = rows["role"].map(list(ROLES).index)
    rows = rows.sort_values(["_order", "iou_auc", "explainer"], ascending=[True, False, True])
    measured = [record for record in records if record["status"] != "failed"]
    accuracy = {record["fold"]: record["accuracy"] for record in measured}
    return Leaderboard(
        variant,
        model,
        rows.drop(columns="_order").reset_index(drop=True),
        tuple(accuracy[fold] for fold in sorted(accuracy)),
    )


def write_board(board: Leaderboard, results: str | Path, command: str) -> list[Path]:
    """Write leaderboard.csv and leaderboard.md beside the records; returns their paths."""
    folder = Path(results) / board.variant / board.model
    contents = {"leaderboard.csv": board.to_csv(), "leaderboard.md": board.to_markdown(command)}
    for name, content in contents.items():
        files.write(folder / name, content.encode())
    return [folder / name for name in contents]


def _row(explainer: str, records: Sequence[Record]) -> dict[str, Any]:
    good = [record for record in records if record["status"] != "failed"]
    failed = [f"{_place(record)}: {record['reason']}" for record in records if record["status"] != "ok"]
    layers = sorted({record["layer"] for record in good if record["layer"]})
    measured = dict.fromkeys(name for record in good for name in record["scores"])
    return {
        "explainer": explainer,
        "role": records[0]["role"],
        "layer": ", ".join(layers),
        "folds": len({record["fold"] for record in good}),
        "images": sum(record["images"] for record in good),
        **{"iou_auc": float("nan"), "iou_auc_std": float("nan")},
        **{name: value for metric in measured for name, value in _over_folds(good, metric).items()},
        "invalid": sum(record["invalid"] for record in good),
        **{name: _mean([_cost(record, name) for record in good]) for name in COSTS},
        "failed": "; ".join(failed),
    }


COSTS = ("ms_per_image", "forward_passes", "backward_passes", "peak_mib_per_image")


def _cost(record: Record, name: str) -> float:
    value = (record["cost"] or {}).get(name)
    return float("nan") if value is None else float(value)


def _place(record: Record) -> str:
    return f"fold {record['fold']}" + (f" seed {record['seed']}" if record["seed"] else "")


def _over_folds(records: Sequence[Record], metric: str) -> dict[str, float]:
    by_fold: dict[int, list[float]] = {}
    for record in records:
        if record["scores"].get(metric) is not None:
            by_fold.setdefault(record["fold"], []).append(record["scores"][metric])
    scale = 100 if metric not in metrics.names() or metrics.get(metric).bounds == (0.0, 1.0) else 1
    scores = [scale * _mean(scores) for scores in by_fold.values()]
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")
    return {metric: _mean(scores), f"{metric}_std": spread}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
