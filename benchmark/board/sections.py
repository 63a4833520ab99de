"""Sections of a board in Markdown: scores by class, certificates, comparisons, statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.board.certificates import failed_tests
from benchmark.board.columns import (
    OF_CLASS,
    Column,
    Row,
    class_columns,
    counted,
    measured,
    named,
    scored,
)
from benchmark.board.foreign_text import as_code, in_markdown
from benchmark.board.recipes import RecipeComparison
from benchmark.board.rows import Leaderboard


def strict_summary(certificate: pd.DataFrame) -> str:
    """Return the least and largest values of the tests that certificates of older releases do not have."""
    if certificate["held_out"].isna().all():
        return ""
    return (
        f", held out {100 * certificate['held_out'].min():.1f} %; largest probability of a class without the "
        f"part {100 * certificate['without'].max():.1f} % (limit {100 * certificate['limit'].min():.1f} %)"
    )


def recipe_text(compared: RecipeComparison | None) -> list[str]:
    """Return how the board differs from that of another recipe."""
    if compared is None:
        return []
    agreed = compared.agreement
    lines = [
        f"## Compared with the recipe {as_code(compared.other)}",
        f"Difference: IoU-AUC on models of the recipe {as_code(compared.recipe)} minus that on models of "
        f"{as_code(compared.other)}, in percentage points, with its 95 % interval (paired by view). The "
        "columns of the classes are the same difference on the images of one class.",
    ]
    if agreed is not None:
        lines.append(
            f"Kendall's tau between the two orders of {agreed.methods} methods: {agreed.tau:.2f} (95 % "
            f"interval {agreed.low:.2f} to {agreed.high:.2f}, by bootstrap over {agreed.views} views)."
        )
    columns = [
        counted("rank", "#"),
        counted("other_rank", f"# {compared.other}"),
        named("explainer", "explainer", left=True),
        measured("score", compared.recipe, 1),
        measured("other", compared.other, 1),
        Column("difference", "difference", _difference),
        *(
            measured(name, name.removeprefix(OF_CLASS), 1)
            for name in compared.rows
            if name.startswith(OF_CLASS)
        ),
    ]
    return [*lines, table(columns, compared.rows.to_dict("records"))]


def _difference(row: Row) -> str:
    if np.isnan(row["difference"]):
        return ""
    bounds = "" if np.isnan(row["low"]) else f" ({row['low']:+.1f} to {row['high']:+.1f})"
    return f"{row['difference']:+.1f}{bounds}"


def class_text(board: Leaderboard) -> list[str]:
    """Return the scores by class; nothing if the records have none."""
    columns = class_columns(board.rows)
    if not columns:
        return []
    return [
        "## By class",
        "IoU-AUC of the images of each class, in percent. A class that the models know by what is missing "
        "hides in the mean over all images.",
        table(columns, board.rows.to_dict("records")),
    ]


def certificate_text(board: Leaderboard) -> list[str]:
    """Return the certificates of the models; nothing if they have none."""
    if board.certificate.empty:
        return []
    columns = (
        counted("fold", "fold"),
        counted("seed", "seed"),
        counted("images", "images"),
        _share("necessity", "necessity"),
        _share("necessity_expected", "highest possible"),
        _share("sufficiency", "sufficiency"),
        _share("swap", "swap"),
        _share("passed", "pass all three"),
        _share("held_out", "held out"),
        _share("without", "without"),
        _share("limit", "limit"),
        Column("certified", "certified", _verdict, left=True),
    )
    return [
        "## Certificate: does the model use the part?",
        "Percent of the test images for which the prediction changes without the part (necessity), stays the "
        "same with the part alone (sufficiency), and becomes the class of an inserted part (swap). Held out: "
        "the least share for which it stays the same in pictures that show the part and that no training "
        "shows. Without: the largest mean probability of a class in pictures without the part, which must "
        "not exceed the limit.",
        table(columns, board.certificate.to_dict("records")),
    ]


def paper_text(board: Leaderboard) -> list[str]:
    """Return the comparison with the paper, for its variants."""
    if board.paper is None:
        return []
    columns = (
        named("name", "method in table 1", left=True),
        named("explainer", "explainer", left=True),
        scored("paper", "paper"),
        scored("ours", "here"),
    )
    return [
        "## Comparison with the paper",
        f"Spearman's rho between the two orders: {board.paper.rho:.2f} (p = {board.paper.p:.2g}, "
        f"{board.paper.count} methods). The paper uses another plant, so compare the orders, not the scores.",
        table(columns, [{**row, "failed": ""} for row in board.paper.rows.to_dict("records")]),
    ]


def statistics_text(board: Leaderboard) -> list[str]:
    """Return tests of the differences, and how stable the order is."""
    parts = []
    if not board.first.empty:
        columns = (
            named("explainer", "explainer", left=True),
            Column(
                "difference",
                "lower by",
                lambda row: f"{row['difference']:.1f} ({row['low']:.1f} to {row['high']:.1f})",
            ),
            Column("p_holm", "p (Holm, valid if chosen beforehand)", lambda row: f"{row['p_holm']:.2g}"),
        )
        rows = board.first.sort_values("difference").rename_axis("explainer").reset_index().to_dict("records")
        parts += [
            "## Is the best method of table 1 significantly better?",
            f"{as_code(board.first.attrs['best'])} compared with each other method of table 1: paired by "
            "view, with 95 % intervals.",
            table(columns, rows),
        ]
    if board.friedman is not None:
        parts.append(
            f"Friedman's test over {len(board.friedman.ranks)} methods: χ² = {board.friedman.statistic:.1f}, "
            f"p = {board.friedman.p:.2g}; Nemenyi's critical difference of average ranks "
            f"{board.friedman.critical_difference:.2f}."
        )
    if not board.stability.empty:
        orders = (
            named("over", "orders of the methods by", left=True),
            counted("orders", "orders"),
            measured("tau_mean", "Kendall's tau, mean", 2),
            measured("tau_least", "smallest", 2),
        )
        parts += ["## Stability of the order", table(orders, board.stability.to_dict("records"))]
    return parts


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "".join("---|" if column.left else "---:|" for column in columns),
        *("| " + " | ".join(in_markdown(column.text(row)) for column in columns) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _share(name: str, heading: str) -> Column:
    return Column(name, heading, lambda row: "" if np.isnan(row[name]) else f"{100 * row[name]:.1f}")


def _verdict(row: Row) -> str:
    return "yes" if row["certified"] else f"no: {failed_tests(row['reason'])}"
