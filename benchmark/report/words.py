"""What the page says in sentences: who is first, by how much, and how sure that is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from benchmark.board.rows import Leaderboard

SURE = 0.05  # below it a difference is called significant


@dataclass(frozen=True)
class Part:
    """A piece of a sentence.

    Args:
        text: as it is read.
        kind: "name" of a method, a "figure", or plain words.
    """

    text: str
    kind: Literal["", "name", "figure"] = ""

    @property
    def together(self) -> str:
        """The text with all that must not be parted at a line's end kept together."""
        if self.kind == "name":
            return self.text
        joined = self.text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
            "IoU-AUC", "IoU\N{NON-BREAKING HYPHEN}AUC"
        )
        return re.sub(r"(\w) ([=<]) ", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", joined)


Sentence = tuple[Part, ...]


def verdict(board: Leaderboard) -> Sentence:
    """Who is first, by how much, with its interval, significant or not."""
    rows = board.rows
    ranked = rows[(rows["role"] == "method") & rows["iou_auc"].notna()]
    if ranked.empty:
        return (Part("No method has a score yet."),)
    best = ranked.iloc[0]
    said = [
        Part(best["explainer"], "name"),
        Part(f" is first of {len(ranked)} methods with an IoU-AUC of " if len(ranked) > 1 else " scores "),
        Part(f"{best['iou_auc']:.1f} %", "figure"),
        Part(_interval(best)),
    ]
    if best["origin"] == "self-reported":
        said.append(Part(", by its authors' own account alone"))
    if len(ranked) == 1:
        return (*said, Part("; it is the only method measured."))
    second = ranked.iloc[1]
    ahead = best["iou_auc"] - second["iou_auc"]
    said += [
        Part(", "),
        Part(f"{ahead:.1f} points", "figure"),
        Part(" ahead of "),
        Part(second["explainer"], "name"),
        Part(". "),
    ]
    return (*said, *_sureness(ranked))


def _sureness(ranked: pd.DataFrame) -> Sentence:
    """By groups, which allow for the best row being picked from the same scores."""
    best, second = ranked.iloc[0], ranked.iloc[1]
    if not best["group"] or not second["group"]:
        return (Part("Whether that is more than chance is not known: it takes scores of every viewpoint."),)
    tied = int((ranked["group"] == best["group"]).sum()) - 1
    if not tied:
        return (
            Part("The lead is "),
            Part("significant", "figure"),
            Part(f" (paired by viewpoint, corrected over all pairs, p < {SURE})."),
        )
    lead = "That lead is" if second["group"] == best["group"] else "Yet its lead over others is"
    count = "one other method is" if tied == 1 else f"{tied} other methods are"
    return (
        Part(f"{lead} "),
        Part("not significant", "figure"),
        Part(f": {count} not told apart from it (paired by viewpoint, corrected over all pairs)."),
    )


def further(board: Leaderboard) -> list[Sentence]:
    """A sentence each on the paper's rows, the floors, and the certificate."""
    return [said for said in (_of_paper(board), _of_floors(board), _of_certificate(board)) if said]


def _of_paper(board: Leaderboard) -> Sentence:
    first, paper = board.first, board.paper
    said: list[Part] = []
    if not first.empty:
        near = first.sort_values("difference").iloc[0]
        sure = near["p_holm"] < SURE
        said += [
            Part("Of the paper's rows "),
            Part(str(first.attrs["best"]), "name"),
            Part(" is first, "),
            Part(f"{near['difference']:.1f} points", "figure"),
            Part(f" ({near['low']:.1f} to {near['high']:.1f}) ahead of "),
            Part(str(near.name), "name"),
            Part(f" ({'' if sure else 'not significant, '}{p_text(near['p_holm'])}). "),
        ]
    if paper is not None and not np.isnan(paper.rho):
        said += [
            Part("Their order agrees with the paper's by "),
            Part(f"\N{GREEK SMALL LETTER RHO} = {paper.rho:.2f}", "figure"),
            Part(f" ({p_text(paper.p)})."),
        ]
    return tuple(said)


def _of_floors(board: Leaderboard) -> Sentence:
    rows = board.rows.dropna(subset=["iou_auc"])
    floors, methods = rows[rows["role"] == "floor"], rows[rows["role"] == "method"]
    if floors.empty or methods.empty:
        return ()
    floor = floors.loc[floors["iou_auc"].idxmax()]
    below = int((methods["iou_auc"] <= floor["iou_auc"]).sum())
    count = f"{below} of {len(methods)} methods do not beat "
    return (
        Part("Every method beats " if not below else count),
        Part(floor["explainer"], "name"),
        Part(f", the best floor ({floor['iou_auc']:.1f} %)."),
    )


def _of_certificate(board: Leaderboard) -> Sentence:
    table = board.certificate
    if table.empty:
        return ()
    good = int(table["certified"].sum())
    least = 100 * table[["necessity", "sufficiency", "swap"]].min()
    return (
        Part(f"{good} of {len(table)} models are certified", "figure"),
        Part(
            f" to go by the part: without it at least {least['necessity']:.0f} % of the images lose their "
            f"class, with it alone {least['sufficiency']:.0f} % keep it, and {least['swap']:.0f} % follow "
            "when it is swapped."
        ),
    )


def p_text(p: float) -> str:
    """A p value as people write it.

    >>> p_text(0.031), p_text(0.00002)
    ('p = 0.031', 'p < 0.001')
    """
    if np.isnan(p):
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _interval(row: pd.Series) -> str:
    if np.isnan(row["iou_auc_low"]):
        return ""
    return f" (95 % interval {row['iou_auc_low']:.1f} to {row['iou_auc_high']:.1f})"
