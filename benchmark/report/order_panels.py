"""The figures of orders: average ranks with the critical difference, and the comparison with the paper."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmark.board.rows import Leaderboard
from benchmark.report.panel import Panel
from benchmark.report.score_panels import titles_of
from benchmark.report.svg import INK, METHOD, SERIES, inline, printable, sentence, sized
from benchmark.report.words import p_text
from benchmark.statistics import critical_difference_diagram

_DOWN = SERIES[1]  # a method that ranks lower here than in the paper


def _too_few(board: Leaderboard) -> str:
    """Return why there are fewer than three methods to rank."""
    default = [record for record in board.source.records if record.role == "method"]
    default = [record for record in default if "@" not in record.explainer and not record.library]
    failed = {record.explainer for record in default if record.status == "failed"}
    older = {record.explainer for record in default if record.views is None} - failed
    methods = {record.explainer for record in default} - failed - older
    reasons = ["needs three methods, in default settings, with scores for at least two views"]
    reasons.append(f"the board has {len(methods)}")
    if failed:
        reasons.append(f"not counted because a fold failed: {len(failed)}, for the reasons in their rows")
    if older:
        reasons.append(
            f"not counted because records of schema versions before 3 have no scores per view: {len(older)}; "
            "measure them again"
        )
    return "; ".join(reasons) + "."


def ranks_panel(board: Leaderboard, key: str) -> Panel:
    """Draw the critical-difference diagram."""
    about = ("ranks", "Critical differences")
    test = board.friedman
    if test is None:
        return Panel(*about, "", missing=_too_few(board))
    label = (
        f"Critical-difference diagram of {len(test.ranks)} methods by average rank, best "
        f"{test.ranks.index[0]} with {test.ranks.iloc[0]:.1f}; critical difference "
        f"{test.critical_difference:.2f}."
    )

    def draw() -> Figure:
        figure = critical_difference_diagram(test)
        for axes in figure.axes:
            axes.set_title("")
            axes.grid(False)
            for text in axes.texts:
                text.set_color(INK)
        return figure

    caption = (
        "Average rank over views, best on the left. A bar connects methods that do not differ significantly "
        f"by Nemenyi's test (critical difference {test.critical_difference:.2f}). Friedman's test: "
        f"χ² = {test.statistic:.0f}, {p_text(test.p)}. Only methods with their default settings."
    )
    return Panel(*about, caption, inline(draw, f"{key}-ranks", sentence(label), {}), wide=True)


def paper_panel(board: Leaderboard, key: str) -> Panel:
    """Draw the paper's order on the left, ours on the right, one line per method."""
    about = ("paper", "Comparison with the paper")
    paper = board.paper
    if paper is None:
        return Panel(*about, "", missing=f"the paper has no scores for {printable(board.variant)}.")
    rows = paper.rows.dropna(subset=["ours"])
    if len(rows) < 2:
        return Panel(*about, "", missing="fewer than two methods of the paper's table 1 were measured.")
    rows = rows.assign(
        there=rows["paper"].rank(ascending=False, method="first"),
        here=rows["ours"].rank(ascending=False, method="first"),
    )
    numbers = {name: k for k, name in enumerate(board.rows["explainer"])}

    def draw() -> Figure:
        figure = sized(26 * len(rows) + 50)
        axes = figure.subplots()
        for row in rows.itertuples():
            falls = row.here > row.there
            axes.plot([0, 1], [row.there, row.here], "o-", color=_DOWN if falls else METHOD, lw=1.8, ms=5,
                      gid=f"row{numbers[row.explainer]}")  # fmt: skip
            axes.text(
                -0.06, row.there, f"{_short(row.name)}  {row.paper:.1f}", ha="right", va="center", color=INK
            )
            axes.text(
                1.06, row.here, f"{row.ours:.1f}  {_short(row.name)}", ha="left", va="center", color=INK
            )
        axes.text(-0.06, 0.2, "paper, %", ha="right", va="center", color=INK, weight="bold")
        axes.text(1.06, 0.2, "here, %", ha="left", va="center", color=INK, weight="bold")
        axes.set(xlim=(-2.35, 3.35), ylim=(len(rows) + 0.5, -0.3))
        axes.axis("off")
        return figure

    ranks = "; ".join(f"{row.name}: {row.there:.0f} there, {row.here:.0f} here" for row in rows.itertuples())
    caption = (
        f"Spearman's \N{GREEK SMALL LETTER RHO} = {paper.rho:.2f} ({p_text(paper.p)}, "
        f"{paper.count} methods). The paper uses another plant, so compare the orders, not the scores. "
        "Vermilion: ranked lower here than in the paper."
    )
    label = sentence(f"Ranks of the paper's methods. {ranks}")
    svg = inline(draw, f"{key}-paper", label, titles_of(board.rows))
    return Panel(*about, caption, svg)


def _short(name: str) -> str:
    shorter = {
        "Deconv + guided backprop": "Deconv + GB", "Upsampled activations": "Upsampled act.",
        "Guided Grad-CAM": "Guided G-CAM", "Guided Grad-CAM++": "Guided G-CAM++", "Ours (VEBI)": "VEBI",
    }  # fmt: skip
    return shorter.get(name, printable(name))
