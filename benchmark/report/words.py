"""The sentences of the page: which method is first, by how much, and whether that is significant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from an8flower.ground.deprecated import renamed
from benchmark.board.rows import Leaderboard

__getattr__ = renamed(__name__, {"Part": "Piece", "SURE": "SIGNIFICANT"})
SIGNIFICANT = 0.05  # a difference with a smaller p-value is called significant


@dataclass(frozen=True)
class Piece:
    """A piece of a sentence.

    Args:
        text: its text.
        kind: "name" of a method, "figure" for an important number, or "" for plain text.
    """

    text: str
    kind: Literal["", "name", "figure"] = ""

    @property
    def together(self) -> str:
        """The text with no-break spaces where a line must not be broken."""
        if self.kind == "name":
            return self.text
        joined = self.text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
            "IoU-AUC", "IoU\N{NON-BREAKING HYPHEN}AUC"
        )
        return re.sub(r"(\w) ([=<]) ", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", joined)


Sentence = tuple[Piece, ...]


def verdict(board: Leaderboard) -> Sentence:
    """Return which method is first, by how much, with its interval, and whether that is significant."""
    rows = board.rows
    ranked = rows[(rows["role"] == "method") & rows["iou_auc"].notna()]
    if ranked.empty:
        return (Piece("No method has a score yet."),)
    best = ranked.iloc[0]
    pieces = [
        Piece(best["explainer"], "name"),
        Piece(f" is first of {len(ranked)} methods with an IoU-AUC of " if len(ranked) > 1 else " scores "),
        Piece(f"{best['iou_auc']:.1f} %", "figure"),
        Piece(_interval(best)),
    ]
    if best["origin"] == "self-reported":
        pieces.append(Piece(", as reported by its authors and not verified"))
    if len(ranked) == 1:
        return (*pieces, Piece("; it is the only method measured."))
    second = ranked.iloc[1]
    ahead = best["iou_auc"] - second["iou_auc"]
    pieces += [
        Piece(", "),
        Piece(f"{ahead:.1f} points", "figure"),
        Piece(" ahead of "),
        Piece(second["explainer"], "name"),
        Piece(". "),
    ]
    return (*pieces, *_significance(ranked))


def _significance(ranked: pd.DataFrame) -> Sentence:
    """Return whether the lead is significant, by the groups: they allow for the choice of the best method."""
    best, second = ranked.iloc[0], ranked.iloc[1]
    if not best["group"] or not second["group"]:
        return (Piece("Whether the lead is significant is unknown: the test needs scores per view."),)
    tied = int((ranked["group"] == best["group"]).sum()) - 1
    if not tied:
        return (
            Piece("The lead is "),
            Piece("significant", "figure"),
            Piece(f" (paired by view, corrected over all pairs, p < {SIGNIFICANT})."),
        )
    lead = "This lead is" if second["group"] == best["group"] else "The lead over other methods is"
    others = "one other method does" if tied == 1 else f"{tied} other methods do"
    return (
        Piece(f"{lead} "),
        Piece("not significant", "figure"),
        Piece(f": {others} not differ significantly from it (paired by view, corrected over all pairs)."),
    )


def further(board: Leaderboard) -> list[Sentence]:
    """Return one sentence on the paper's methods, one on the floors, and one on the certificate."""
    sentences = (_of_paper(board), _of_floors(board), _of_certificate(board))
    return [sentence for sentence in sentences if sentence]


def _of_paper(board: Leaderboard) -> Sentence:
    first, paper = board.first, board.paper
    pieces: list[Piece] = []
    if not first.empty:
        near = first.sort_values("difference").iloc[0]
        significant = near["p_holm"] < SIGNIFICANT
        pieces += [
            Piece("Of the methods in the paper, "),
            Piece(str(first.attrs["best"]), "name"),
            Piece(" is first, "),
            Piece(f"{near['difference']:.1f} points", "figure"),
            Piece(f" (95 % interval {near['low']:.1f} to {near['high']:.1f}) ahead of "),
            Piece(str(near.name), "name"),
            Piece(f" ({'' if significant else 'not significant, '}{p_text(near['p_holm'])}). "),
        ]
    if paper is not None and not np.isnan(paper.rho):
        pieces += [
            Piece("Rank correlation with the paper's order: "),
            Piece(f"\N{GREEK SMALL LETTER RHO} = {paper.rho:.2f}", "figure"),
            Piece(f" ({p_text(paper.p)})."),
        ]
    return tuple(pieces)


def _of_floors(board: Leaderboard) -> Sentence:
    rows = board.rows.dropna(subset=["iou_auc"])
    floors, methods = rows[rows["role"] == "floor"], rows[rows["role"] == "method"]
    if floors.empty or methods.empty:
        return ()
    floor = floors.loc[floors["iou_auc"].idxmax()]
    below = int((methods["iou_auc"] <= floor["iou_auc"]).sum())
    count = f"{below} of {len(methods)} methods do not beat "
    return (
        Piece("Every method beats " if not below else count),
        Piece(floor["explainer"], "name"),
        Piece(f", the best floor ({floor['iou_auc']:.1f} %)."),
    )


def _of_certificate(board: Leaderboard) -> Sentence:
    table = board.certificate
    if table.empty:
        return ()
    good = int(table["certified"].sum())
    least = 100 * table[["necessity", "sufficiency", "swap"]].min()
    return (
        Piece(f"{good} of {len(table)} models are certified", "figure"),
        Piece(
            f" to use the part. At least {least['necessity']:.0f} % of the images lose their class without "
            f"the part, {least['sufficiency']:.0f} % keep it with the part alone, and {least['swap']:.0f} % "
            "get the class of an inserted part."
        ),
    )


def p_text(p: float) -> str:
    """Return a p-value as text.

    >>> p_text(0.031), p_text(0.00002)
    ('p = 0.031', 'p < 0.001')
    """
    if np.isnan(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _interval(row: pd.Series) -> str:
    if np.isnan(row["iou_auc_low"]):
        return ""
    return f" (95 % interval {row['iou_auc_low']:.1f} to {row['iou_auc_high']:.1f})"
