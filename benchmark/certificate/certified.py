"""Compute records over only those images on which the model is certified to use the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark.certificate import passing
from benchmark.measuring.scores import by_class, by_view, mean
from benchmark.record import Record
from benchmark.setups import model_options
from benchmark.store import ResultsError, cell_of, read_scores

IMAGE = ["class", "view", "crop", "rotation"]


def certified_only(records: Sequence[Record], results: str | Path) -> list[Record]:
    """Return the records with scores over only those images that pass the certificate.

    Args:
        records: of one set of models.
        results: folder with the tables of per-image scores and the certificates.
    Raises:
        ResultsError: if tables or certificates are missing, or no image passes; the message names the command
            to run.
    """
    if not records:
        return []
    variant, model = records[0].variant, records[0].model_name
    keys = ["fold", "seed", *IMAGE]
    weights = {record.identity["weights_sha256"] for record in records}
    passed = passing(results, variant, model, weights)[keys].drop_duplicates()
    kept: list[Record] = []
    for record in records:
        if record.status == "failed":
            kept.append(record)
            continue
        cell = cell_of(results, record)
        table = read_scores(cell).merge(passed, on=keys)
        if table.empty:
            raise ResultsError(
                f"no image of {cell} passes a certificate of these models, so there is nothing to score; "
                "if certificates are missing, run "
                f"'an8flower certify --variant {variant} {model_options(model)}'"
            )
        names = list(record.scores)
        views = record.views or {"view": [], "factors": {}}
        factors = pd.DataFrame(views["factors"], index=views["view"])
        kept.append(
            replace(
                record,
                images=len(table),
                invalid=int(table["invalid"].sum()),
                accuracy=float((table["label"] == table["predicted"]).mean()),
                scores={name: mean(table[name]) for name in names},
                views=by_view(table, names, factors),
                classes=by_class(table, names, record.classes["class"]) if record.classes else None,
            )
        )
    return kept
