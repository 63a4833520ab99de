"""Table 1 of the paper, and the comparison of our scores with it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from an8flower.ground.deprecated import renamed
from benchmark.statistics import spearman

# Area under the IoU curve, mean and standard deviation over 5 folds, in percent, for the authors' plant.
# Source: Oramas et al. 2019, arXiv 1712.06302, table 1.
TABLE_1: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "vebi": ("Ours (VEBI)", {"single-6c": (22.5, 0.82), "double-12c": (23.2, 0.60)}),
    "deconv_gb": ("Deconv + guided backprop", {"single-6c": (21.3, 0.77), "double-12c": (21.9, 0.72)}),
    "guided_grad_cam": ("Guided Grad-CAM", {"single-6c": (19.9, 0.61), "double-12c": (19.4, 0.34)}),
    "guided_grad_cam_pp": ("Guided Grad-CAM++", {"single-6c": (19.6, 0.65), "double-12c": (19.7, 0.27)}),
    "grad_cam": ("Grad-CAM", {"single-6c": (17.5, 0.25), "double-12c": (14.8, 0.16)}),
    "upsampled_activations": (
        "Upsampled activations",
        {"single-6c": (16.8, 2.63), "double-12c": (16.1, 1.30)},
    ),
    "grad_cam_pp": ("Grad-CAM++", {"single-6c": (15.6, 0.57), "double-12c": (14.6, 0.12)}),
}


@dataclass(frozen=True)
class PaperComparison:
    """The paper's scores compared with ours.

    Args:
        rows: one row per method, in the paper's order, best first: name (in the paper), explainer, paper,
            paper_std, ours, ours_std; scores in percent, NaN where we have none.
        rho: Spearman's rank correlation of the two orders, over the methods that both have.
        p: exact p-value of the correlation, by permutations.
        count: number of methods that both have.
    """

    rows: pd.DataFrame
    rho: float
    p: float
    count: int


def compare_with_paper(rows: pd.DataFrame, variant: str) -> PaperComparison | None:
    """Compare the rows of a board with table 1 of the paper.

    Args:
        rows: with explainer, iou_auc and iou_auc_std in percent.
        variant: name of the variant.
    Returns:
        None if the paper has no scores for the variant.
    """
    ours = rows.set_index("explainer")
    table = pd.DataFrame(
        [
            {
                "name": name,
                "explainer": explainer,
                "paper": figures[variant][0],
                "paper_std": figures[variant][1],
                "ours": ours["iou_auc"].get(explainer, float("nan")),
                "ours_std": ours["iou_auc_std"].get(explainer, float("nan")),
            }
            for explainer, (name, figures) in TABLE_1.items()
            if variant in figures
        ]
    )
    if table.empty:
        return None
    table = table.sort_values("paper", ascending=False, ignore_index=True)
    by_name = table.set_index("explainer").dropna()
    rho, p, count = spearman(by_name["ours"], by_name["paper"])
    return PaperComparison(table, rho, p, count)


__getattr__ = renamed(__name__, {"beside_paper": "compare_with_paper"})
