"""Scores of heatmaps against masks: pure functions, one file a family."""

from benchmark.metrics.base import MetricSpec, metrics
from benchmark.metrics.iou import iou_auc, iou_curve, max_iou

__all__ = ["MetricSpec", "iou_auc", "iou_curve", "max_iou", "metrics"]
