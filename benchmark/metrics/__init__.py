"""Metrics: pure functions that score heatmaps against masks, one file per family."""

from benchmark.metrics import iou, pointing, ranking_curves, relevance
from benchmark.metrics.base import Case, MetricSpec, metrics, with_checked_masks

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

iou_auc = with_checked_masks(iou.iou_auc)
iou_auc_rank = with_checked_masks(iou.iou_auc_rank)
iou_curve = with_checked_masks(iou.iou_curve)
max_iou = with_checked_masks(iou.max_iou)
energy_pointing_game = with_checked_masks(pointing.energy_pointing_game)
pointing_game = with_checked_masks(pointing.pointing_game)
pointing_game_15px = with_checked_masks(pointing.pointing_game_15px)
average_precision = with_checked_masks(ranking_curves.average_precision)
roc_auc = with_checked_masks(ranking_curves.roc_auc)
relevance_mass = with_checked_masks(relevance.relevance_mass)
relevance_rank = with_checked_masks(relevance.relevance_rank)
top_k_intersection = with_checked_masks(relevance.top_k_intersection)
