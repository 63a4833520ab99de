"""The leaderboard, built from the records alone: a table, as CSV, Markdown and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from an8flower import files
from benchmark.store import Record, read_records

ROLES = {"method": "methods", "floor": "floors", "ceiling": "ceilings"}


@dataclass(frozen=True)
class Leaderboard:
    """Scores of one variant and model.

    Args:
        variant, model: what was measured.
        rows: a row an explainer, methods first, then floors, then ceilings, best first: explainer,
            role, layer, folds, images, iou_auc and iou_auc_std, max_iou and max_iou_std (in
            percent; mean and sample standard deviation over folds), invalid, ms_per_image,
            failed (the reason, or "").
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
            "IoU-AUC and max-IoU in percent, mean ± standard deviation over folds.",
            "",
            "| " + " | ".join(_HEADINGS) + " |",
            "|---|---|---|" + "---:|" * (len(_HEADINGS) - 3),
        ]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in self.rows.to_dict("records")]
        lines += [
            f"\nFailed: `{row.explainer}`: {row.failed}" for row in self.rows.itertuples() if row.failed
        ]
        return "\n".join(lines) + "\n"

    def to_table(self) -> Table:
        """For the terminal: methods, floors and ceilings in sections, what went wrong in red."""
        table = Table(title=f"{self.variant}, {self.model}: %, mean ± std over folds", title_justify="left")
        shown = [k for k, heading in enumerate(_HEADINGS) if heading not in _NOT_ON_TERMINAL]
        for k in shown:
            table.add_column(_HEADINGS[k], justify="left" if k < 3 else "right", no_wrap=True)
        last = None
        for row in self.rows.to_dict("records"):
            if last not in (None, row["role"]):
                table.add_section()
            last = row["role"]
            cells = _cells(row)
            table.add_row(*(escape(cells[k]) for k in shown), style="red" if row["failed"] else None)
        return table


_HEADINGS = ("explainer", "role", "layer", "IoU-AUC", "max-IoU", "folds", "images", "invalid", "ms/image")
# 80 columns have to do; the sections tell the role.
_NOT_ON_TERMINAL = ("role", "images")


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
    measured = [record for record in records if record["status"] == "ok"]
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
    good = [record for record in records if record["status"] == "ok"]
    failed = [f"fold {record['fold']}: {record['reason']}" for record in records if record["status"] != "ok"]
    layers = sorted({record["layer"] for record in good if record["layer"]})
    return {
        "explainer": explainer,
        "role": records[0]["role"],
        "layer": ", ".join(layers),
        "folds": len(good),
        "images": sum(record["images"] for record in good),
        **_over_folds(good, "iou_auc"),
        **_over_folds(good, "max_iou"),
        "invalid": sum(record["invalid"] for record in good),
        "ms_per_image": _mean([record["explain_ms_per_image"] for record in good]),
        "failed": "; ".join(failed),
    }


def _over_folds(records: Sequence[Record], metric: str) -> dict[str, float]:
    scores = [100 * record["scores"][metric] for record in records]
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")
    return {metric: _mean(scores), f"{metric}_std": spread}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def score(metric: str) -> str:
        if np.isnan(row[metric]):
            return "failed"
        spread = row[f"{metric}_std"]
        return f"{row[metric]:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")

    ms = "" if np.isnan(row["ms_per_image"]) else f"{row['ms_per_image']:.2f}"
    return (
        row["explainer"], row["role"], row["layer"] or "", score("iou_auc"), score("max_iou"),
        str(row["folds"]), str(row["images"]), str(row["invalid"]), ms,
    )  # fmt: skip
