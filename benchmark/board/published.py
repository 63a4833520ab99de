"""The project's published scores, which come with the package, for comparison with the user's own run.

Written by `python -m benchmark.board.published results` from the records in `results/`; `make results`
runs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import pandas as pd

from an8flower.ground import files
from benchmark.board.model_set import places_as_text
from benchmark.board.rows import SCORE, Leaderboard, boards_in, leaderboard

FILE = "published.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Published:
    """The published scores of the methods on a board.

    Args:
        scores: mean and standard deviation over folds of IoU-AUC for each explainer, in percent.
        relation: one line on whether data and weights of the board are the same bytes as the published ones.
    """

    scores: Mapping[str, tuple[float, float]]
    relation: str


def published(board: Leaderboard) -> Published | None:
    """Return the published scores of the rows of a board.

    Returns:
        None if nothing can be compared: nothing is published for the variant and model, the board was
        measured with another version of the protocol or other folds, has factors that vary, or scores only
        certified images. Rows are compared only if they have the same number of images.
    """
    entry = _entries().get(board.variant, {}).get(board.model)
    models = board.source.models
    if entry is None or board.certified_only or _has_factors(board):
        return None
    if (models.scheme, models.protocol_version) != (entry["scheme"], entry["protocol_version"]):
        return None
    images = dict(zip(board.rows["explainer"], board.rows["images"], strict=True))
    scores = {
        name: (row["iou_auc"], row["iou_auc_std"])
        for name, row in entry["rows"].items()
        if images.get(name) == row["images"]
    }
    return Published(scores, _relation(board, entry)) if scores else None


def _relation(board: Leaderboard, entry: Mapping[str, Any]) -> str:
    models = board.source.models
    if models.dataset_digest != entry["dataset_digest"]:
        return (
            "'published' is the project's own score with the same protocol; your images and trained "
            "models are not byte-identical to the published ones (other digests), so expect similar scores, "
            "not equal ones"
        )
    theirs = {(fold, seed): digest for fold, seed, digest in entry["weights"]}
    other = [place for place, digest in models.weights.items() if theirs.get(place) != digest]
    if other:
        return (
            "'published' is the project's own score on the same images (equal digests); its models of "
            f"{places_as_text(other)} differ, so expect similar scores, not equal ones"
        )
    return "'published' is the project's own score on the same images and the same weights (equal digests)"


def _has_factors(board: Leaderboard) -> bool:
    return any((record.views or {}).get("factors") for record in board.source.records)


@cache
def _entries() -> dict[str, Any]:
    content = json.loads(resources("benchmark.board").joinpath(FILE).read_text("utf-8"))
    return dict(content["boards"])


def collected(results: str | Path) -> dict[str, Any]:
    """Return what is published of a results folder: data, models and scores of each board."""
    boards: dict[str, dict[str, Any]] = {}
    for variant, model in boards_in(results):
        board = leaderboard(results, variant, model)
        models = {key: value for key, value in asdict(board.source.models).items() if key != "weights"}
        weights = [[*place, digest] for place, digest in sorted(board.source.models.weights.items())]
        scored = board.rows[board.rows[SCORE].notna() & (board.rows["origin"] == "")]
        boards.setdefault(variant, {})[model] = {
            **models,
            "weights": weights,
            "rows": {
                row["explainer"]: _row(row) for row in scored.sort_values("explainer").to_dict("records")
            },
        }
    return {"schema_version": SCHEMA_VERSION, "boards": boards}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    spread = row[f"{SCORE}_std"]
    return {
        "iou_auc": round(row[SCORE], 4),
        "iou_auc_std": None if pd.isna(spread) else round(spread, 4),
        "images": int(row["images"]),
    }


if __name__ == "__main__":
    files.write_json(Path(__file__).with_name(FILE), collected(sys.argv[1]))
