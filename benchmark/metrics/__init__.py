"""Metrics: pure functions that score heatmaps against masks, one file per family."""

from benchmark.metrics.base import Case, MetricSpec, metrics
from benchmark.metrics.iou import iou_auc, iou_auc_rank, iou_curve, max_iou
from benchmark.metrics.pointing import energy_pointing_game, pointing_game, pointing_game_15px
from benchmark.metrics.ranking_curves import average_precision, roc_auc
from benchmark.metrics.relevance import relevance_mass, relevance_rank, top_k_intersection

__all__ = [
    "Case",
    "MetricSpec",
    "average_precision",
    "energy_pointing_game",
    "iou_auc",
    "iou_auc_rank",
    "iou_curve",
    "max_iou",
    "metrics",
    "pointing_game",
    "pointing_game_15px",
    "relevance_mass",
    "relevance_rank",
    "roc_auc",
    "top_k_intersection",
]
