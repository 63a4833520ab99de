"""The leaderboard, built from records alone: scores, their statistics, and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from an8flower.ground.shown import html_table
from an8flower.ground.text import one_line
from benchmark import statistics
from benchmark.board.certificates import certificates_of_board
from benchmark.board.columns import OF_CLASS, columns_of
from benchmark.board.gates import with_gates
from benchmark.board.model_set import BoardRecords, ModelSet, board_records
from benchmark.board.notes import notes_on
from benchmark.board.paper import TABLE_1, PaperComparison, compare_with_paper
from benchmark.certificate.certified import certified_only as only_certified
from benchmark.metrics import metrics
from benchmark.record import Record
from benchmark.setups import PLAIN, model_name, parse_model_name
from benchmark.statistics import Friedman
from benchmark.store import ResultsError

ROLES = {"method": "methods", "floor": "floors", "ceiling": "ceilings"}
SCORE = "iou_auc"  # metric by which the board is sorted
DIAGRAM = 15  # number of methods for which a critical-difference diagram is readable
COSTS = ("ms_per_image", "forward_passes", "backward_passes", "peak_mib_per_image")
REASON = 1000  # characters of a reason
SEED = 0  # of the resampling, so that equal records give equal boards


@dataclass(frozen=True)
class Leaderboard:
    """Scores of one variant and model, all on the same images and trained models.

    Args:
        variant, model: names of the variant and the architecture.
        source: the records of the board, the data and models they share, and what was left out.
        rows: one row per explainer; methods first, then floors, then ceilings, each sorted by score:
            rank (of methods, from 1), explainer, role, layer, origin (of a submission: "verified" or
            "self-reported", else ""), folds, images;
            for each metric its mean and its sample standard deviation over folds, as iou_auc and iou_auc_std
            (averaged over seeds first; metrics between 0 and 1 in percent);
            iou_auc_low and iou_auc_high (95 % interval, bootstrap over views), difference (to the best
            method), p_holm and p_pairs (its p-value, corrected over the other methods, or over all pairs
            because the best method was chosen by the same scores), group (methods with the same letter do not
            differ significantly from the best of that group), normalised (0 is the best floor, 100 the best
            ceiling); if it was measured, gate, see `board.gates`; if the records have scores by class,
            iou_auc_macro (the mean over the classes) and "iou_auc of <class>";
            invalid, ms_per_image, forward_passes, backward_passes, peak_mib_per_image, failed (the reason).
        accuracy: accuracy of the models on their test images, one value per fold.
        certificate: one row per fold and seed, as `certificate.read_certificates` returns it; empty if the
            models were not certified.
        paper: comparison with table 1 of the paper; None for variants that are not in it.
        first: the other methods of the paper's table 1 compared with the best of them, which is
            `first.attrs["best"]`: difference, low, high (percent), p, p_holm.
        friedman: Friedman's test of the methods and Nemenyi's critical difference; None for fewer than three.
        stability: agreement between orders of the methods, one row per kind (folds, seeds, models, metrics):
            orders, tau_mean, tau_least.
        certified_only: whether only images that pass the certificate were scored.
        notes: what else was left out, and why: certificates of other models or that cannot be read; and how
            many records have no digest.
    """

    variant: str
    model: str
    source: BoardRecords
    rows: pd.DataFrame
    accuracy: tuple[float, ...]
    certificate: pd.DataFrame = field(default_factory=pd.DataFrame)
    paper: PaperComparison | None = None
    first: pd.DataFrame = field(default_factory=pd.DataFrame)
    friedman: Friedman | None = None
    stability: pd.DataFrame = field(default_factory=pd.DataFrame)
    certified_only: bool = False
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        first = self.rows[self.rows["rank"] == 1]
        best = "".join(f", best {row.explainer} {row.iou_auc:.1f} %" for row in first.itertuples())
        return f"Leaderboard({self.variant} {self.model}: {len(self.rows)} explainers{best})"

    def _repr_html_(self) -> str:
        columns = columns_of(self.rows)
        rows = [[column.text(row) for column in columns] for row in self.rows.to_dict("records")]
        caption = f"{self.variant}, {self.model}: mean ± std over folds, 95 % interval over views"
        return html_table([column.heading for column in columns], rows, caption)


def leaderboard(
    results: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    recipe: str = PLAIN,
    certified_only: bool = False,
    models: ModelSet | str | None = None,
) -> Leaderboard:
    """Build the board of one variant and model from its records.

    All rows of a board share the data and, for each fold and seed, the trained model. Other records in the
    folder are left out and listed in `source.left_out`.

    Args:
        results: the results folder.
        variant, model, recipe: names of the variant, the architecture and the recipe of the training.
        certified_only: score only the images on which the model is certified to use the part; this needs the
            tables of per-image scores and the certificates.
        models: the set of models, as a `ModelSet` or its name; see `model_set.board_records`.
    Raises:
        ResultsError: if there are no records, none for `models`, or something that `certified_only` needs is
            missing.
    """
    return board_of(
        board_records(results, variant, model_name(model, recipe), models=models),
        results,
        certified_only=certified_only,
    )


def board_of(source: BoardRecords, results: str | Path, *, certified_only: bool = False) -> Leaderboard:
    """Build the board of records that belong together; see `leaderboard`."""
    records = source.records
    variant, model = records[0].variant, records[0].model_name
    certificate, notes = certificates_of_board(results, variant, model, source.models)
    if certified_only:
        records = only_certified(records, results)
    rows = _rows(records)
    scores = statistics.scores_by_view(records, SCORE)
    whole = scores.loc[:, scores.notna().all()]
    methods = [name for name in rows["explainer"][rows["role"] == "method"] if name in whole]
    rows = _with_statistics(rows, whole, methods)
    rows, of_gates = with_gates(rows, records, results, variant, model)
    measured = [record for record in records if record.status != "failed"]
    accuracy = {record.fold: record.accuracy for record in measured if record.accuracy is not None}
    return Leaderboard(
        variant,
        model,
        replace(source, records=records),
        rows,
        tuple(accuracy[fold] for fold in sorted(accuracy)),
        certificate,
        compare_with_paper(rows, variant),
        _first_of_table_1(whole),
        _friedman(whole, methods, records),
        _stability(results, records),
        certified_only,
        (*notes, *of_gates, *notes_on(source.records)),
    )


def boards_in(results: str | Path) -> list[tuple[str, str]]:
    """Return variant and model (see `setups.model_name`) of each board of a results folder, sorted."""
    folders = Path(results).glob("*/*/records")
    return sorted((folder.parent.parent.name, folder.parent.name) for folder in folders)


def _rows(records: Sequence[Record]) -> pd.DataFrame:
    by_explainer: dict[str, list[Record]] = {}
    for record in records:
        by_explainer.setdefault(record.explainer, []).append(record)
    rows = pd.DataFrame([_row(name, group) for name, group in by_explainer.items()])
    rows["_order"] = rows["role"].map(list(ROLES).index)
    rows = rows.sort_values(["_order", SCORE, "explainer"], ascending=[True, False, True], ignore_index=True)
    ranked = (rows["role"] == "method") & rows[SCORE].notna()
    rows.insert(0, "rank", ranked.cumsum().where(ranked).astype("Int64"))
    best = {role: rows[SCORE][rows["role"] == role].max() for role in ("floor", "ceiling")}
    rows["normalised"] = [
        100 * statistics.normalised(score, best["floor"], best["ceiling"]) for score in rows[SCORE]
    ]
    return rows.drop(columns="_order")


def _with_statistics(rows: pd.DataFrame, scores: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Add intervals and comparisons, computed from the scores per view, to the rows."""
    rng = np.random.default_rng(SEED)
    table = pd.DataFrame(index=rows["explainer"], columns=["iou_auc_low", "iou_auc_high"], dtype=float)
    table["difference"] = table["p_holm"] = table["p_pairs"] = float("nan")
    table["group"] = ""
    if len(scores) > 1 and not scores.empty:
        bounds = 100 * statistics.intervals(scores, rng=rng)
        table.loc[bounds.index, "iou_auc_low"], table.loc[bounds.index, "iou_auc_high"] = (
            bounds["low"],
            bounds["high"],
        )
        if len(methods) > 1:
            comparison = statistics.compared_with_best(scores[list(methods)], rng=rng)
            table.loc[comparison.index, "difference"] = 100 * comparison["difference"]
            table.loc[comparison.index, ["p_holm", "p_pairs"]] = comparison[["p_holm", "p_pairs"]]
            letters = statistics.groups(scores[list(methods)], rng=rng)
            table.loc[letters.index, "group"] = letters
    return rows.join(table, on="explainer")


def _first_of_table_1(scores: pd.DataFrame) -> pd.DataFrame:
    measured = [name for name in TABLE_1 if name in scores]
    if len(measured) < 2 or len(scores) < 2:
        return pd.DataFrame()
    best = str(scores[measured].mean().idxmax())
    others = [name for name in measured if name != best]
    comparison = statistics.compared(scores, best, others, rng=np.random.default_rng(SEED))
    comparison[["difference", "low", "high"]] *= 100
    comparison.attrs["best"] = best
    return comparison


def _friedman(scores: pd.DataFrame, methods: Sequence[str], records: Sequence[Record]) -> Friedman | None:
    """Test the best methods in their default settings; sweeps over layers are shown elsewhere."""
    adapted = {record.explainer for record in records if record.library}
    plain = [name for name in methods if "@" not in name and name not in adapted][:DIAGRAM]
    return statistics.friedman(scores[plain]) if len(plain) > 2 and len(scores) > 1 else None


def _stability(results: str | Path, records: Sequence[Record]) -> pd.DataFrame:
    """Return Kendall's tau between the orders of the methods."""
    methods = [record for record in records if record.role == "method" and record.status != "failed"]
    rows = []
    for kind in ("fold", "seed", "model", "metric"):
        among = methods if kind != "model" else _of_all_models(results, records[0])
        orders = statistics.orders_by(among, kind)
        if len(orders) > 1:
            tau = statistics.rank_stability(orders).to_numpy()
            pairs = tau[np.triu_indices(len(tau), 1)]
            rows.append(
                {
                    "over": f"{kind}s",
                    "orders": len(orders),
                    "tau_mean": float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan"),
                    "tau_least": float(np.nanmin(pairs)) if np.isfinite(pairs).any() else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=["over", "orders", "tau_mean", "tau_least"])


def _of_all_models(results: str | Path, one: Record) -> list[Record]:
    """Return the records of all architectures that were trained and tested like that of `one`."""
    records: list[Record] = []
    for variant, model in boards_in(results):
        if (variant, parse_model_name(model)[1]) == (one.variant, one.recipe):
            try:
                records += board_records(results, variant, model).records
            except ResultsError:  # the board of the other model reports its errors
                continue
    return [record for record in records if record.role == "method" and record.status != "failed"]


def _row(explainer: str, records: Sequence[Record]) -> dict[str, Any]:
    good = [record for record in records if record.status != "failed"]
    reasons = [f"{record.place}: {record.reason}" for record in records if record.status != "ok"]
    layers = sorted({record.layer for record in good if record.layer})
    measured = dict.fromkeys(name for record in good for name in record.scores)
    return {
        "explainer": explainer,
        "role": records[0].role,
        "layer": one_line(", ".join(layers), REASON),
        "origin": ", ".join(dict.fromkeys(_origin(record) for record in records)),
        "folds": len({record.fold for record in good}),
        "images": sum(record.images for record in good),
        **{SCORE: float("nan"), f"{SCORE}_std": float("nan")},
        **{name: value for metric in measured for name, value in _over_folds(good, metric).items()},
        **_by_class(good),
        "invalid": sum(record.invalid for record in good),
        **{name: _mean([_cost(record, name) for record in good]) for name in COSTS},
        "failed": "; ".join(one_line(reason, REASON) for reason in reasons),
    }


def _by_class(records: Sequence[Record]) -> dict[str, float]:
    """Return the score of each class, and the mean over the classes, from the folds that have them."""
    by_class: dict[str, list[float]] = {}
    means: list[float] = []
    for record in records:
        if record.classes and SCORE in record.classes["scores"]:
            scores = zip(record.classes["class"], record.classes["scores"][SCORE], strict=True)
            known = {name: 100 * score for name, score in scores if score is not None}
            means.append(_mean(list(known.values())))
            for name, score in known.items():
                by_class.setdefault(name, []).append(score)
    if not by_class:
        return {}
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
    return {
        "iou_auc_macro": _mean(means),
        "iou_auc_macro_std": spread,
        **{f"{OF_CLASS}{name}": _mean(scores) for name, scores in by_class.items()},
    }


def _origin(record: Record) -> str:
    """Return the status of a submission; empty for a record that was measured here."""
    return str((record.submission or {}).get("status", ""))


def _cost(record: Record, name: str) -> float:
    value = (record.cost or {}).get(name)
    return float("nan") if value is None else float(value)


def _over_folds(records: Sequence[Record], metric: str) -> dict[str, float]:
    by_fold: dict[int, list[float]] = {}
    for record in records:
        if (score := record.scores.get(metric)) is not None:
            by_fold.setdefault(record.fold, []).append(score)
    scale = 100 if metric not in metrics.names() or metrics.get(metric).bounds == (0.0, 1.0) else 1
    scores = [scale * _mean(scores) for scores in by_fold.values()]
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")
    return {metric: _mean(scores), f"{metric}_std": spread}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
