"""The paper's table 1, and how our order of its rows compares with its own."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmark.statistics import spearman

# Mean and standard deviation over 5 folds of the area under the IoU curve, in percent, on the authors' plant.
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
    """The paper's rows beside ours.

    Args:
        rows: a row a method, the paper's best first: name (the paper's), explainer, paper, paper_std, ours,
            ours_std, in percent; NaN where we have none.
        rho: Spearman's rank correlation of the two orders, over the rows both have.
        p: of that correlation under independence, exact by permutations.
        count: rows both have.
    """

    rows: pd.DataFrame
    rho: float
    p: float
    count: int


def beside_paper(rows: pd.DataFrame, variant: str) -> PaperComparison | None:
    """A board's rows beside the paper's.

    Args:
        rows: with explainer, iou_auc and iou_auc_std in percent.
        variant: None comes back for one that the paper has no table of.
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
