"""Scores of heatmaps against masks: pure functions, one file a family."""

from benchmark.metrics.base import Case, MetricSpec, metrics
from benchmark.metrics.iou import iou_auc, iou_curve, max_iou

__all__ = ["Case", "MetricSpec", "iou_auc", "iou_curve", "max_iou", "metrics"]
