"""Records as they would be over the images alone on which a model is certified to use the part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.certificate import passing
from benchmark.measuring.scores import by_view, mean
from benchmark.store import Cell, Record, ResultsError, read_scores

IMAGE = ["class", "view", "crop", "rotation"]


def certified_only(records: Sequence[Record], results: str | Path) -> list[Record]:
    """The records as they would be, had only those images been scored on which the model uses the part.

    Args:
        records: of one set of models.
        results: folder with their tables of per-image scores, and the certificates.
    Raises:
        ResultsError: naming what to run, if these are not there, or no image passes.
    """
    if not records:
        return []
    variant, model = records[0]["variant"], records[0]["model"]
    keys = ["fold", "seed", *IMAGE]
    weights = {record["identity"]["weights_sha256"] for record in records}
    passed = passing(results, variant, model, weights)[keys].drop_duplicates()
    kept: list[Record] = []
    for record in records:
        if record["status"] == "failed":
            kept.append(record)
            continue
        cell = Cell(Path(results), variant, model, record["explainer"], record["fold"], record["seed"])
        table = read_scores(cell).merge(passed, on=keys)
        if table.empty:
            raise ResultsError(
                f"no image of {cell} passes a certificate of these models: there is nothing to score; "
                f"'an8flower certify --variant {variant} --model {model}' makes those that are missing"
            )
        names = list(record["scores"])
        views = record["views"] or {"view": [], "factors": {}}
        factors = pd.DataFrame(views["factors"], index=views["view"])
        kept.append(
            {
                **record,
                "images": len(table),
                "invalid": int(table["invalid"].sum()),
                "accuracy": float((table["label"] == table["predicted"]).mean()),
                "scores": {name: mean(table[name]) for name in names},
                "views": by_view(table, names, factors),
            }
        )
    return kept
