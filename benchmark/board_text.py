"""A board for people and programs: on a terminal, as CSV, Markdown and JSON."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from an8flower import files
from benchmark.board import Leaderboard
from benchmark.plan import Plan
from benchmark.published import Published

SCHEMA_VERSION = 1
SURE = 0.05  # below it a difference is called significant
NAMES = 26  # columns of a terminal that explainers' names should have


def write_board(board: Leaderboard, results: str | Path, command: str) -> list[Path]:
    """Write leaderboard.csv, .md and .json beside the records; returns their paths."""
    folder = Path(results) / board.variant / board.model
    stem = "leaderboard-certified" if board.certified_only else "leaderboard"
    contents = {"csv": to_csv(board), "md": to_markdown(board, command), "json": to_json(board, command)}
    for suffix, content in contents.items():
        files.write(folder / f"{stem}.{suffix}", content.encode())
    return [folder / f"{stem}.{suffix}" for suffix in contents]


def board_command(board: Leaderboard, results: str | Path, models: str | None = None) -> str:
    """The command that makes a board from the records in `results`."""
    options = ["--variant", board.variant, "--model", board.model]
    if Path(results) != Plan.results:
        options += ["--results", str(results)]
    if models:
        options += ["--models", models]
    if board.certified_only:
        options += ["--certified-only"]
    return shlex.join(["an8flower", "leaderboard", *options])


def to_csv(board: Leaderboard) -> str:
    """One line a row, figures unrounded but for noise."""
    return str(board.rows.to_csv(index=False, float_format="%.4f"))


def to_json(board: Leaderboard, command: str) -> str:
    """All of it, numbers as numbers and null where there is none."""
    paper, friedman, models = board.paper, board.friedman, board.source.models
    content = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "variant": board.variant,
        "model": board.model,
        "certified_only": board.certified_only,
        "models": {
            "name": models.name,
            "dataset_digest": models.dataset_digest,
            "folds": models.scheme,
            "protocol_version": models.protocol_version,
            "weights_sha256": [
                {"fold": fold, "seed": seed, "sha256": digest}
                for (fold, seed), digest in sorted(models.weights.items())
            ],
        },
        "left_out": left_out(board),
        "accuracy": list(board.accuracy),
        "rows": _plain(board.rows),
        "certificate": _plain(board.certificate),
        "paper": paper and {"rows": _plain(paper.rows), "spearman_rho": paper.rho, "p": paper.p},
        "table_1": {
            "first": board.first.attrs.get("best"),
            "others": _plain(board.first.rename_axis("explainer").reset_index()),
        },
        "friedman": friedman
        and {
            "statistic": friedman.statistic,
            "p": friedman.p,
            "critical_difference": friedman.critical_difference,
            "average_ranks": friedman.ranks.to_dict(),
        },
        "stability": _plain(board.stability),
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def to_markdown(board: Leaderboard, command: str) -> str:
    """Tables for people, with the command that makes them."""
    accuracy = (
        f"Test accuracy of the model: {100 * min(board.accuracy):.2f} % on its worst fold."
        if board.accuracy
        else "No fold was measured."
    )
    parts = [
        f"# {board.variant}, {board.model}" + (", certified images only" if board.certified_only else ""),
        f"Made by `{command}`.\n{accuracy}\nScores in percent, mean ± standard deviation over folds; 95 % "
        "interval by bootstrap over viewpoints; methods that share a group's letter are not told apart from "
        "its best (paired by viewpoint, corrected over all pairs, p < 0.05); normalised: percent of the way "
        "from the best floor to the best ceiling; passes and milliseconds an image.",
        _table(_columns(board.rows), board.rows.to_dict("records")),
        *(f"Failed: `{row.explainer}`: {row.failed}" for row in board.rows.itertuples() if row.failed),
        *(f"{line[0].upper()}{line[1:]}." for line in left_out(board)),
        *_certificate_text(board),
        *_paper_text(board),
        *_statistics_text(board),
    ]
    return "\n\n".join(parts) + "\n"


def to_table(board: Leaderboard, width: int = 80, *, published: Published | None = None) -> Table:
    """For the terminal: methods, floors and ceilings in sections, what went wrong in red.

    Args:
        board: what to show.
        width: columns of the terminal. Where they are few, the table has fewer columns, and names are broken
            after a sign, never within a word that fits.
        published: the project's scores, for a column of their own.
    """
    only = ", certified images only" if board.certified_only else ""
    table = Table(
        title=f"{board.variant}, {board.model}{only}: mean ± std over folds, 95 % over viewpoints",
        title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    rows = board.rows.to_dict("records")
    for row in rows:
        score = (published.scores if published else {}).get(row["explainer"])
        row["published"] = "" if score is None else f"{score[0]:.1f}"
    columns, room = _that_fit(_columns(board.rows, published=bool(published)), rows, width)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    last = None
    for row in rows:
        if last not in (None, row["role"]):
            table.add_section()
        last = row["role"]
        cells = (
            escape(broken(column.text(row), room) if column.name == "explainer" else column.text(row))
            for column in columns
        )
        table.add_row(*cells, style="red" if row["failed"] else None)
    return table


def _that_fit(
    columns: Sequence[_Column], rows: Sequence[dict[str, Any]], width: int
) -> tuple[list[_Column], int]:
    """The columns for a terminal of some width, and how much of it is left for names."""
    kept = sorted((column for column in columns if column.terminal), key=lambda column: column.terminal)
    names = max((len(str(row["explainer"])) for row in rows), default=0)
    while True:
        others = [column for column in kept if column.name != "explainer"]
        taken = sum(max(len(text) for text in [one.heading, *map(one.text, rows)]) + 2 for one in others)
        room = width - taken - 1
        if room >= min(names, NAMES) or kept[-1].terminal == 1:
            return [column for column in columns if column in kept], max(room, 8)
        kept.pop()


def broken(name: str, room: int) -> str:
    """A method's name in lines of at most `room` characters, each but the last ending in a sign.

    >>> broken("captum:IntegratedGradients?n_steps=20", 30)
    'captum:IntegratedGradients?\\nn_steps=20'
    """
    lines = [""]
    for part in re.findall(r"[^@?&:_=./]*[@?&:_=./]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    # A word longer than a line is cut, there being no better place.
    return "\n".join(line[k : k + room] for line in lines for k in range(0, len(line), room))


def left_out(board: Leaderboard) -> list[str]:
    """What the folder holds and the board does not show, why, and what to do about it: a line each."""
    lines = [str(one) for one in board.source.left_out]
    lines += [
        f"of other trained models, called {one.models.name}, there are {one.rows} explainers on {one.places} "
        f"{'model' if one.places == 1 else 'models'}; the option --models {one.models.name} shows their board"
        for one in board.source.others
    ]
    return [*lines, *board.notes]


def summary(board: Leaderboard) -> list[str]:
    """What the statistics say, a line each."""
    lines = []
    if not board.first.empty:
        best, most = board.first.attrs["best"], float(board.first["p_holm"].max())
        near = board.first.sort_values("difference").iloc[0]
        lines.append(
            f"first of the paper's rows: {best}, {near['difference']:.1f} points above {near.name} "
            f"({near['low']:.1f} to {near['high']:.1f}); largest p of all its differences {most:.2g} (Holm)"
            + ("" if most < SURE else ": not significant")
        )
    if board.paper and board.paper.count > 2:
        lines.append(
            f"Spearman's rho with the paper's order of {board.paper.count} rows: {board.paper.rho:.2f} "
            f"(p = {board.paper.p:.2g})"
        )
    if not board.certificate.empty:
        shares = board.certificate[["necessity", "sufficiency", "swap"]].min() * 100
        good = int(board.certificate["certified"].sum())
        lines.append(
            f"certificate: {good} of {len(board.certificate)} models certified; at least "
            f"necessity {shares['necessity']:.1f} %, sufficiency {shares['sufficiency']:.1f} %, "
            f"part swap {shares['swap']:.1f} %"
        )
    return lines


def _certificate_text(board: Leaderboard) -> list[str]:
    if board.certificate.empty:
        return []
    columns = (
        _counted("fold", "fold"),
        _counted("seed", "seed"),
        _counted("images", "images"),
        _share("necessity", "necessity"),
        _share("necessity_expected", "at most expected"),
        _share("sufficiency", "sufficiency"),
        _share("swap", "part swap"),
        _share("passed", "images that pass all"),
        _Column("certified", "certified", _verdict, left=True),
    )
    return [
        "## Certificate: does the model use the part?",
        "In percent of test images: the predicted class is lost without the part, kept with the part "
        "alone, and follows when the part is swapped.",
        _table(columns, board.certificate.to_dict("records")),
    ]


def _paper_text(board: Leaderboard) -> list[str]:
    if board.paper is None:
        return []
    columns = (
        _named("name", "row of table 1", left=True),
        _named("explainer", "explainer", left=True),
        _scored("paper", "paper"),
        _scored("ours", "here"),
    )
    return [
        "## Beside the paper",
        f"Spearman's rho between the two orders: {board.paper.rho:.2f} (p = {board.paper.p:.2g}, "
        f"{board.paper.count} rows). The plant is another one, so orders compare and scores do not.",
        _table(columns, [{**row, "failed": ""} for row in board.paper.rows.to_dict("records")]),
    ]


def _statistics_text(board: Leaderboard) -> list[str]:
    parts = []
    if not board.first.empty:
        columns = (
            _named("explainer", "explainer", left=True),
            _Column(
                "difference",
                "behind by",
                lambda row: f"{row['difference']:.1f} ({row['low']:.1f} to {row['high']:.1f})",
            ),
            _Column("p_holm", "p (Holm, if named beforehand)", lambda row: f"{row['p_holm']:.2g}"),
        )
        rows = board.first.sort_values("difference").rename_axis("explainer").reset_index().to_dict("records")
        parts += [
            "## Is the first of table 1's rows first?",
            f"`{board.first.attrs['best']}` beside each other row, paired by viewpoint, 95 % interval.",
            _table(columns, rows),
        ]
    if board.friedman is not None:
        parts.append(
            f"Friedman's test over {len(board.friedman.ranks)} methods: χ² = {board.friedman.statistic:.1f}, "
            f"p = {board.friedman.p:.2g}; Nemenyi's critical difference of average ranks "
            f"{board.friedman.critical_difference:.2f}."
        )
    if not board.stability.empty:
        orders = (
            _named("over", "orders of the methods over", left=True),
            _counted("orders", "orders"),
            _measured("tau_mean", "Kendall's tau, mean", 2),
            _measured("tau_least", "least", 2),
        )
        parts += ["## Does the order hold?", _table(orders, board.stability.to_dict("records"))]
    return parts


@dataclass(frozen=True)
class _Column:
    """How people see a column of the rows.

    Args:
        name: of the board's column.
        heading: what stands above it.
        text: what a row shows.
        left: aligned to the left.
        terminal: 0 for a column that the terminal has no room for; else those with a larger number go first
            where it is narrow, and those with 1 stay.
    """

    name: str
    heading: str
    text: Callable[[dict[str, Any]], str]
    left: bool = False
    terminal: int = 0


def _table(columns: tuple[_Column, ...] | list[_Column], rows: list[dict[str, Any]]) -> str:
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "".join("---|" if column.left else "---:|" for column in columns),
        *("| " + " | ".join(_in_cell(column.text(row)) for column in columns) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _columns(rows: pd.DataFrame, *, published: bool = False) -> list[_Column]:
    """Those that were measured; whose word it is only where it is not ours."""
    there = [
        column for column in _COLUMNS if column.name in rows or (published and column.name == "published")
    ]
    return [column for column in there if column.name != "origin" or rows["origin"].any()]


def _named(name: str, heading: str, *, left: bool = False, terminal: int = 0) -> _Column:
    return _Column(name, heading, lambda row: str(row[name] or ""), left, terminal)


def _counted(name: str, heading: str, *, terminal: int = 0) -> _Column:
    return _Column(name, heading, lambda row: "" if pd.isna(row[name]) else str(row[name]), terminal=terminal)


def _scored(name: str, heading: str, *, terminal: int = 0) -> _Column:
    def text(row: dict[str, Any]) -> str:
        if np.isnan(row[name]):
            return "failed" if row["failed"] else "-"
        spread = row[f"{name}_std"]
        return f"{row[name]:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")

    return _Column(name, heading, text, terminal=terminal)


def _measured(name: str, heading: str, digits: int, *, terminal: int = 0) -> _Column:
    def text(row: dict[str, Any]) -> str:
        return "" if np.isnan(row[name]) else f"{row[name]:.{digits}f}"

    return _Column(name, heading, text, terminal=terminal)


def _share(name: str, heading: str) -> _Column:
    return _Column(name, heading, lambda row: "" if np.isnan(row[name]) else f"{100 * row[name]:.1f}")


def _verdict(row: dict[str, Any]) -> str:
    return "yes" if row["certified"] else f"no: {row['reason']}"


def _interval(row: dict[str, Any]) -> str:
    low, high = row["iou_auc_low"], row["iou_auc_high"]
    return "" if np.isnan(low) else f"{low:.1f} to {high:.1f}"


_COLUMNS = (
    _counted("rank", "#", terminal=1),
    _named("explainer", "explainer", left=True, terminal=1),
    _named("role", "role", left=True),  # the terminal's sections tell
    _named("layer", "layer", left=True),
    _named("origin", "submission", left=True),
    _scored("iou_auc", "IoU-AUC", terminal=1),
    _Column("iou_auc_low", "95 %", _interval, terminal=1),
    _named("group", "group", terminal=1),
    _named("published", "published", terminal=2),
    _measured("normalised", "normalised", 1),
    _scored("max_iou", "max-IoU"),
    _scored("iou_auc_rank", "by rank"),
    _scored("pointing_game", "pointing"),
    _scored("relevance_mass", "mass"),
    _scored("average_precision", "AP"),
    _scored("roc_auc", "ROC-AUC"),
    _counted("folds", "folds"),
    _counted("images", "images"),
    _counted("invalid", "invalid"),
    _measured("ms_per_image", "ms/image", 2, terminal=3),
    _measured("forward_passes", "forward", 1),
    _measured("backward_passes", "backward", 1),
    _measured("peak_mib_per_image", "MiB/image", 1),
)


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows


def _finite(value: Any) -> Any:
    """The same with None for what JSON cannot say."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
