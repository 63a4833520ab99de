"""The outcome of a cell: its table of per-image scores, and the fields of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from an8flower.ground.text import error_line, one_line
from benchmark.measuring.scores import by_class, by_view, mean
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.record import Json, Record
from benchmark.setups import Setup
from explainers import Explainer, ExplainerError
from explainers.isolation import ForeignError


@dataclass
class Collected:
    """What has been measured of one cell so far.

    Args:
        explainer: fitted, if it learns.
        tables: per-image scores of each batch.
        curve: sum over the images of the IoU at each threshold, (100,).
        cost, timing: as in a record.
    """

    explainer: Explainer
    tables: list[pd.DataFrame] = field(default_factory=list)
    curve: Any = field(default_factory=lambda: np.zeros(len(CURVE_THRESHOLDS)))
    cost: Json | None = None
    timing: dict[str, float] = field(default_factory=lambda: {"fit_s": 0.0, "score_s": 0.0})


def table_of(cell: Collected, setup: Setup) -> pd.DataFrame:
    """Return the per-image scores of a cell, with the columns that name it first."""
    table = pd.concat(cell.tables, ignore_index=True)
    table.insert(0, "explainer", cell.explainer.name)
    table.insert(1, "fold", setup.fold)
    table.insert(2, "seed", setup.seed)
    return table


def summary_of(
    table: pd.DataFrame,
    cell: Collected,
    names: Sequence[str],
    factors: pd.DataFrame,
    classes: Sequence[str],
) -> Json:
    """Return the fields of a measured record that depend on the scores.

    Args:
        table: as `table_of` returns it.
        cell: what was measured.
        names: the metrics.
        factors: one row per view, one column for each factor that is set.
        classes: names of the classes, in their order.
    """
    n_invalid = int(table["invalid"].sum())
    undefined = int(table["iou_auc"].isna().sum()) if "iou_auc" in table else 0
    reason = f"{n_invalid} of {len(table)} maps have NaN or inf and score 0"
    return {
        "status": "invalid" if n_invalid else "ok",
        "cause": "nan" if n_invalid else None,
        "reason": reason if n_invalid else None,
        "images": len(table),
        "invalid": n_invalid,
        "undefined": undefined,
        "zeros": int(table["zero"].sum()),
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "scores": {name: mean(table[name]) for name in names},
        "views": by_view(table, names, factors),
        "classes": by_class(table, names, classes),
        "curve": (cell.curve / max(1, len(table) - undefined)).tolist(),
        "cost": cell.cost,
        "timing": cell.timing,
    }


def failure(planned: Record, error: Exception) -> Record:
    """Return the record of a cell that failed with an error."""
    if isinstance(error, ExplainerError):
        cause, reason = error.check, one_line(str(error))
    elif isinstance(error, ForeignError):
        cause, reason = "raised", str(error)
    else:
        cause, reason = "raised", error_line(error)
    return replace(planned, status="failed", cause=cause, reason=reason)
