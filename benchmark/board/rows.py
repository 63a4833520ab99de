"""The leaderboard, built from the records alone: scores, how sure they are, and what stands beside them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import statistics
from benchmark.board.model_set import BoardRecords, ModelSet, board_records, certificates_of
from benchmark.board.paper import TABLE_1, PaperComparison, beside_paper
from benchmark.certificate import read_certificates
from benchmark.certificate.certified import certified_only as only_certified
from benchmark.metrics import metrics
from benchmark.statistics import Friedman
from benchmark.store import Record, ResultsError

ROLES = {"method": "methods", "floor": "floors", "ceiling": "ceilings"}
SCORE = "iou_auc"  # what the board is ordered by
DIAGRAM = 15  # methods that a critical-difference diagram can show
COSTS = ("ms_per_image", "forward_passes", "backward_passes", "peak_mib_per_image")
SEED = 0  # of resampling: equal records give equal boards


@dataclass(frozen=True)
class Leaderboard:
    """Scores of one variant and model, all on the same images and trained models.

    Args:
        variant, model: what was measured.
        source: the records it was built from, the data and models they share, and what was left out.
        rows: a row an explainer, methods first, then floors, then ceilings, best first:
            rank (of methods, from 1), explainer, role, layer, origin ("", "verified" or "self-reported", of
            a submission), folds, images;
            each metric as iou_auc and iou_auc_std (those between 0 and 1 in percent; mean and sample standard
            deviation over folds, seeds averaged before);
            iou_auc_low and iou_auc_high (95 % interval, bootstrap over viewpoints), difference (to the best
            method), p_holm and p_pairs (of that, corrected over the others, or over all pairs since the best
            was picked from the same scores), group (methods that share a letter are not told apart),
            normalised (percent of the way from the best floor to the best ceiling);
            invalid, ms_per_image, forward_passes, backward_passes, peak_mib_per_image, failed (the reason).
        accuracy: of the models on their test images, one a fold.
        certificate: a row a fold and seed, as `certificate.read_certificates`; empty if nobody asked.
        paper: the paper's rows beside ours, for its variants.
        first: each other row of the paper's table 1 compared with the best of them, which is
            `first.attrs["best"]`: difference, low, high (percent), p, p_holm.
        friedman: do the methods differ at all, and by which critical difference; None for fewer than three.
        stability: how far orders agree, a row a kind (folds, seeds, models, metrics): orders, tau_mean,
            tau_least.
        certified_only: whether only images were scored that pass the certificate.
        notes: what else was left out, and why: certificates of other models, or that cannot be read.
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


def leaderboard(
    results: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    certified_only: bool = False,
    models: ModelSet | str | None = None,
) -> Leaderboard:
    """The board of one variant and model, from its records alone.

    All rows of a board share the data and, for each fold and seed, the trained model. Other records in the
    folder are left out and named in `source.left_out`.

    Args:
        results: the results folder.
        variant, model: which.
        certified_only: score only the images on which the model is certified to use the part; this takes the
            tables of per-image scores and the certificates.
        models: which set of models, by its name or as it is; see `model_set.board_records`.
    Raises:
        ResultsError: if there are no records, none of `models`, or something is missing that `certified_only`
            takes.
    """
    return board_of(
        board_records(results, variant, model, models=models), results, certified_only=certified_only
    )


def board_of(found: BoardRecords, results: str | Path, *, certified_only: bool = False) -> Leaderboard:
    """The board of records that belong together; see `leaderboard`."""
    records = found.records
    variant, model = records[0]["variant"], records[0]["model"]
    certificate, notes = _certificate(results, variant, model, found.models)
    if certified_only:
        records = only_certified(records, results)
    rows = _rows(records)
    scores = statistics.scores_by_view(records, SCORE)
    whole = scores.loc[:, scores.notna().all()]
    methods = [name for name in rows["explainer"][rows["role"] == "method"] if name in whole]
    rows = _with_statistics(rows, whole, methods)
    measured = [record for record in records if record["status"] != "failed"]
    accuracy = {
        record["fold"]: record["accuracy"] for record in measured if record.get("accuracy") is not None
    }
    return Leaderboard(
        variant,
        model,
        replace(found, records=records),
        rows,
        tuple(accuracy[fold] for fold in sorted(accuracy)),
        certificate,
        beside_paper(rows, variant),
        _first_of_table_1(whole),
        _friedman(whole, methods, records),
        _stability(results, records),
        certified_only,
        notes,
    )


def _certificate(
    results: str | Path, variant: str, model: str, models: ModelSet
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The certificates of these models, and a line for those that are none."""
    again = f"an8flower certify --variant {variant} --model {model} --results {shlex.quote(str(results))}"
    try:
        every = read_certificates(results, variant, model)
    except ResultsError as error:
        return pd.DataFrame(), (f"left out: the certificates: {error}",)
    mine, others = certificates_of(every, models)
    reason = f"left out: the certificate of {others}: made for other weights; to make it again: {again}"
    return mine, (reason,) if others else ()


def boards_in(results: str | Path) -> list[tuple[str, str]]:
    """The variants and models of which a results folder has records, in order."""
    folders = Path(results).glob("*/*/records")
    return sorted((folder.parent.parent.name, folder.parent.name) for folder in folders)


def _rows(records: Sequence[Record]) -> pd.DataFrame:
    by_explainer: dict[str, list[Record]] = {}
    for record in records:
        by_explainer.setdefault(record["explainer"], []).append(record)
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
    """The rows with what the scores by viewpoint say of them."""
    rng = np.random.default_rng(SEED)
    found = pd.DataFrame(index=rows["explainer"], columns=["iou_auc_low", "iou_auc_high"], dtype=float)
    found["difference"] = found["p_holm"] = found["p_pairs"] = float("nan")
    found["group"] = ""
    if len(scores) > 1 and not scores.empty:
        bounds = 100 * statistics.intervals(scores, rng=rng)
        found.loc[bounds.index, "iou_auc_low"], found.loc[bounds.index, "iou_auc_high"] = (
            bounds["low"],
            bounds["high"],
        )
        if len(methods) > 1:
            beside = statistics.compared_with_best(scores[list(methods)], rng=rng)
            found.loc[beside.index, "difference"] = 100 * beside["difference"]
            found.loc[beside.index, ["p_holm", "p_pairs"]] = beside[["p_holm", "p_pairs"]]
            letters = statistics.groups(scores[list(methods)], rng=rng)
            found.loc[letters.index, "group"] = letters
    return rows.join(found, on="explainer")


def _first_of_table_1(scores: pd.DataFrame) -> pd.DataFrame:
    there = [name for name in TABLE_1 if name in scores]
    if len(there) < 2 or len(scores) < 2:
        return pd.DataFrame()
    best = str(scores[there].mean().idxmax())
    others = [name for name in there if name != best]
    found = statistics.compared(scores, best, others, rng=np.random.default_rng(SEED))
    found[["difference", "low", "high"]] *= 100
    found.attrs["best"] = best
    return found


def _friedman(scores: pd.DataFrame, methods: Sequence[str], records: Sequence[Record]) -> Friedman | None:
    """Over the best methods in their default settings: those that were swept over layers are in a panel."""
    adapted = {record["explainer"] for record in records if record["library"]}
    plain = [name for name in methods if "@" not in name and name not in adapted][:DIAGRAM]
    return statistics.friedman(scores[plain]) if len(plain) > 2 and len(scores) > 1 else None


def _stability(results: str | Path, records: Sequence[Record]) -> pd.DataFrame:
    """Kendall's tau between the orders of the methods."""
    methods = [record for record in records if record["role"] == "method" and record["status"] != "failed"]
    rows = []
    for kind in ("fold", "seed", "model", "metric"):
        among = methods if kind != "model" else _of_all_models(results, records[0]["variant"])
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


def _of_all_models(results: str | Path, variant: str) -> list[Record]:
    found: list[Record] = []
    for of_variant, model in boards_in(results):
        if of_variant == variant:
            try:
                found += board_records(results, variant, model).records
            except ResultsError:  # another model's trouble is told on its own board
                continue
    return [record for record in found if record["role"] == "method" and record["status"] != "failed"]


def _row(explainer: str, records: Sequence[Record]) -> dict[str, Any]:
    good = [record for record in records if record["status"] != "failed"]
    failed = [f"{_place(record)}: {record['reason']}" for record in records if record["status"] != "ok"]
    layers = sorted({record["layer"] for record in good if record["layer"]})
    measured = dict.fromkeys(name for record in good for name in record["scores"])
    return {
        "explainer": explainer,
        "role": records[0]["role"],
        "layer": ", ".join(layers),
        "origin": ", ".join(dict.fromkeys(_origin(record) for record in records)),
        "folds": len({record["fold"] for record in good}),
        "images": sum(record["images"] for record in good),
        **{SCORE: float("nan"), f"{SCORE}_std": float("nan")},
        **{name: value for metric in measured for name, value in _over_folds(good, metric).items()},
        "invalid": sum(record["invalid"] for record in good),
        **{name: _mean([_cost(record, name) for record in good]) for name in COSTS},
        "failed": "; ".join(failed),
    }


def _origin(record: Mapping[str, Any]) -> str:
    """Whose word it is: our own measurement, or a submission's."""
    return str((record.get("submission") or {}).get("status", ""))


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
