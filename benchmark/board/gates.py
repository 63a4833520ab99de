"""The gate on a board: does a method's heatmap move to the cheat of a model that cheats?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmark.gates.records import read_gates


def with_gates(
    rows: pd.DataFrame, results: str | Path, variant: str, model: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the gate to the rows of a board.

    Args:
        rows: of a board, with the column explainer.
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
    Returns:
        the rows with the column "gate", the least share of a method's relevance, in percent, that moves to a
        cheat, over the cheats on which it was measured; NaN for methods without a gate. The rows are
        unchanged if nothing was measured. And a line for each gate that cannot be used.
    """
    gates, broken = read_gates(results, variant, model)
    moved: dict[str, list[float]] = {}
    for gate in gates.values():
        for name, row in gate.items():
            if row.moved == row.moved:  # not NaN
                moved.setdefault(name, []).append(100 * row.moved)
    notes = tuple(f"left out: a gate: {why}" for why in broken)
    if not moved:
        return rows, notes
    least = [min(moved.get(name, [float("nan")])) for name in rows["explainer"]]
    return rows.assign(gate=least), notes
