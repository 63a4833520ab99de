"""The gate on a board: does a method's heatmap move to the cheat of a model that cheats?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.gates.records import read_gates, same_code
from benchmark.record import Record


def with_gates(
    rows: pd.DataFrame, records: Sequence[Record], results: str | Path, variant: str, model: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the gate to the rows of a board.

    Args:
        rows: of a board, with the column explainer.
        records: of the board; a gate that was measured with other code of a method is not shown.
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
    Returns:
        the rows with the column "gate": by how many points of a hundred the share of the cheat rises, mean
        over folds, and the least of the cheats; NaN for methods without a gate. The rows are unchanged if
        nothing was measured. And a line for each gate that cannot be used.
    """
    gates, broken = read_gates(results, variant, model)
    codes = {record.explainer: record.identity.get("code_sha256", "") for record in records}
    rises: dict[str, list[float]] = {}
    for of_cheat in gates.values():
        moved: dict[str, list[float]] = {}
        for found in of_cheat:
            for name, row in same_code(found, codes).items():
                if not np.isnan(row.moved):
                    moved.setdefault(name, []).append(100 * row.moved)
        for name, values in moved.items():
            rises.setdefault(name, []).append(float(np.mean(values)))
    notes = tuple(f"left out: a gate: {why}" for why in broken)
    if not rises:
        return rows, notes
    least = [min(rises.get(name, [float("nan")])) for name in rows["explainer"]]
    return rows.assign(gate=least), notes
