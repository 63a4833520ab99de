"""The figures of what a mean hides: scores by class, and what another recipe of training changes."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmark.board.columns import OF_CLASS
from benchmark.board.recipes import RecipeComparison
from benchmark.board.rows import Leaderboard
from benchmark.report.panel import Panel
from benchmark.report.score_panels import titles_of
from benchmark.report.svg import FAINT, INK, METHOD, MUTED, inline, printable, sentence, sized

SHOWN = 24  # methods, the best ones
WIDE_PX = 860
ROW_PX = 19


def class_panel(board: Leaderboard, key: str) -> Panel:
    """Draw the scores by class as a table of shaded cells, one row per method."""
    about = ("classes", "Scores by class")
    names = [name for name in board.rows if name.startswith(OF_CLASS)]
    rows = board.rows[(board.rows["role"] == "method") & board.rows["iou_auc"].notna()].head(SHOWN)
    rows = rows.dropna(subset=names) if names else rows.head(0)
    if rows.empty:
        missing = "the records are of an older release, which kept no scores by class; measure them again."
        return Panel(*about, "", missing=missing)
    most = max(float(rows[names].to_numpy().max()), 1e-9)
    numbers = {name: k for k, name in enumerate(board.rows["explainer"])}

    def draw() -> Figure:
        figure = sized(ROW_PX * len(rows) + 70, WIDE_PX)
        axes = figure.subplots()
        for line, row in enumerate(rows.to_dict("records")):
            for place, name in enumerate(names):
                axes.barh(
                    line, 0.96, 0.9, left=place - 0.48, color=METHOD, alpha=0.75 * row[name] / most, lw=0
                )
                axes.text(place, line, f"{row[name]:.1f}", ha="center", va="center", color=INK,
                          gid=f"row{numbers[row['explainer']]}")  # fmt: skip
        axes.set_yticks(range(len(rows)), [printable(name) for name in rows["explainer"]])
        labels = [printable(name.removeprefix(OF_CLASS)) for name in names]
        axes.set_xticks(range(len(names)), [label.replace(" ", "\n", 1) for label in labels])
        axes.xaxis.tick_top()
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-0.5, len(names) - 0.5))
        axes.tick_params(colors=INK)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        return figure

    worst = rows[names].mean().idxmin().removeprefix(OF_CLASS)
    caption = (
        f"IoU-AUC on the images of each class, in percent, of the {len(rows)} best methods. On average the "
        f"lowest scores are those of {printable(worst)}. A class that the models know by what is missing "
        "hides in the mean over all images."
    )
    label = f"Scores of {len(rows)} methods by class, {len(names)} classes; lowest on average: {worst}."
    titles = titles_of(board.rows)
    return Panel(*about, caption, inline(draw, f"{key}-classes", sentence(label), titles), wide=True)


def recipe_panels(board: Leaderboard, compared: RecipeComparison | None, key: str) -> list[Panel]:
    """Draw each method's score on the models of both recipes; no panel if there is no other board."""
    if compared is None:
        return []
    rows = compared.rows[(compared.rows["role"] == "method") & compared.rows["difference"].notna()].head(
        SHOWN
    )
    if rows.empty:
        return []
    numbers = {name: k for k, name in enumerate(board.rows["explainer"])}

    def draw() -> Figure:
        figure = sized(ROW_PX * len(rows) + 60, WIDE_PX)
        axes = figure.subplots()
        for line, row in enumerate(rows.to_dict("records")):
            axes.plot([row["other"], row["score"]], [line, line], color=FAINT, lw=2, zorder=1)
            axes.plot(row["other"], line, "o", color=MUTED, ms=5, zorder=2)
            axes.plot(row["score"], line, "o", color=METHOD, ms=6, zorder=3,
                      gid=f"row{numbers[row['explainer']]}")  # fmt: skip
        axes.set_yticks(range(len(rows)), [printable(name) for name in rows["explainer"]])
        axes.tick_params(axis="y", colors=INK)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="IoU-AUC, %")
        axes.grid(axis="y", visible=False)
        return figure

    agreed, orders = compared.agreement, ""
    if agreed is not None:
        orders = (
            f" Kendall's \N{GREEK SMALL LETTER TAU} of the two orders of {agreed.methods} methods: "
            f"{agreed.tau:.2f} ({agreed.low:.2f} to {agreed.high:.2f})."
        )
    caption = (
        f"IoU-AUC on models of the recipe {printable(compared.recipe)} (blue) and "
        f"{printable(compared.other)} (grey).{orders}"
    )
    title = f"What the recipe changes: {printable(compared.recipe)} and {printable(compared.other)}"
    label = f"Scores of {len(rows)} methods on models of two recipes.{orders}"
    titles = titles_of(board.rows)
    svg = inline(draw, f"{key}-recipes", sentence(label), titles)
    return [Panel("recipes", title, caption, svg, wide=True)]
