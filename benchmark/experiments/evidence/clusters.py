"""Measure the correlation of a board's views and the differences of its fold models.

The intervals of a board depend on both. Run `python -m benchmark.experiments.evidence.clusters`;
docs/statistics.md shows the results.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmark.board.model_set import board_records
from benchmark.board.rows import boards_in
from benchmark.statistics import scores_by_view

NEXT, FAR = 1, 5  # steps of 9 degrees


def main(results: Annotated[Path, typer.Option(help="folder of the records")] = Path("results")) -> None:
    """Print, for the methods of each board, the ratio of standard errors and the correlation of views."""
    table = Table(title="standard error over folds / over views; correlation of views (median method)")
    for heading in ("board", "methods", "median", "9 in 10", "most", "of", "9 degrees", "45 degrees"):
        table.add_column(heading, no_wrap=True)
    for variant, model in boards_in(results):
        records = [
            record for record in board_records(results, variant, model).records if record.role == "method"
        ]
        scores = scores_by_view(records).dropna(axis=1)
        ratio = error_ratio(scores)
        table.add_row(
            f"{variant} {model}", str(len(ratio)), f"{ratio.median():.2f}", f"{ratio.quantile(0.9):.2f}",
            f"{ratio.max():.2f}", str(ratio.idxmax()), f"{likeness(scores, NEXT):.2f}",
            f"{likeness(scores, FAR):.2f}",
        )  # fmt: skip
    Console(width=130).print(table)


def error_ratio(scores: pd.DataFrame) -> pd.Series:
    """Return each explainer's standard error over folds divided by its standard error over views.

    Above about 1, fold models differ by more than the views explain.

    Args:
        scores: the result of `scores_by_view`.
    """
    by_fold = scores.groupby(level="fold").mean()
    over_folds = by_fold.std(ddof=1) / math.sqrt(len(by_fold))
    return over_folds / (scores.std(ddof=1) / math.sqrt(len(scores)))


def likeness(scores: pd.DataFrame, steps: int) -> float:
    """Return the correlation between views `steps` apart on the circle, for the median explainer."""
    circle = scores.droplevel("fold").sort_index()
    return float(
        np.median([np.corrcoef(circle[name], np.roll(circle[name], steps))[0, 1] for name in circle])
    )


if __name__ == "__main__":
    typer.run(main)
