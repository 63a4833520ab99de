"""Write a board as CSV, Markdown and JSON, and summarise it in a few lines."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from benchmark.board.columns import (
    columns_of,
)
from benchmark.board.foreign_text import as_code, in_csv, in_markdown
from benchmark.board.recipes import RecipeComparison, compared_with_plain
from benchmark.board.rows import Leaderboard
from benchmark.board.sections import (
    certificate_text,
    class_text,
    paper_text,
    recipe_text,
    statistics_text,
    strict_summary,
    table,
)
from benchmark.plan import Plan
from benchmark.setups import model_options, parse_model_name

__getattr__ = renamed(__name__, {"SURE": "SIGNIFICANT"})
SCHEMA_VERSION = 1
SIGNIFICANT = 0.05  # a difference with a smaller p-value is called significant


def write_board(board: Leaderboard, results: str | Path, command: str) -> list[Path]:
    """Write leaderboard.csv, .md and .json next to the records and return their paths."""
    folder = Path(results) / board.variant / board.model
    stem = "leaderboard-certified" if board.certified_only else "leaderboard"
    compared = compared_with_plain(board, results)
    contents = {
        "csv": to_csv(board),
        "md": to_markdown(board, command, compared),
        "json": to_json(board, command, compared),
    }
    for suffix, content in contents.items():
        files.write(folder / f"{stem}.{suffix}", content.encode())
    return [folder / f"{stem}.{suffix}" for suffix in contents]


def board_command(board: Leaderboard, results: str | Path, models: str | None = None) -> str:
    """Return the command that builds the board from the records in `results`."""
    chosen = f"--variant {shlex.quote(board.variant)} {model_options(board.model)}"
    options = []
    if Path(results) != Plan.results:
        options += ["--results", str(results)]
    if models:
        options += ["--model-set", models]
    if board.certified_only:
        options += ["--certified-only"]
    return " ".join(["an8flower leaderboard", chosen, *map(shlex.quote, options)])


def to_csv(board: Leaderboard) -> str:
    """Return the board as CSV, one line per row, numbers with four decimals.

    A text that a spreadsheet would compute as a formula gets an apostrophe in front.
    """
    texts = board.rows.select_dtypes(exclude="number")
    rows = board.rows.assign(**{name: texts[name].map(in_csv) for name in texts})
    return str(rows.to_csv(index=False, float_format="%.4f"))


def to_json(board: Leaderboard, command: str, compared: RecipeComparison | None = None) -> str:
    """Return the whole board as JSON; missing numbers are null."""
    paper, friedman, models = board.paper, board.friedman, board.source.models
    content = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "variant": board.variant,
        "model": parse_model_name(board.model)[0],
        "recipe": parse_model_name(board.model)[1],
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
        "compared": compared
        and {
            "recipe": compared.other,
            "agreement": compared.agreement and asdict(compared.agreement),
            "rows": _plain(compared.rows),
        },
    }
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def to_markdown(board: Leaderboard, command: str, compared: RecipeComparison | None = None) -> str:
    """Return the board as Markdown, with the command that builds it.

    Args:
        board: to write.
        command: that builds it.
        compared: with a board of another recipe.
    """
    accuracy = (
        f"Test accuracy of the models: {100 * min(board.accuracy):.2f} % on the worst fold."
        if board.accuracy
        else "No fold was measured."
    )
    parts = [
        f"# {in_markdown(f'{board.variant}, {board.model}')}"
        + (", certified images only" if board.certified_only else ""),
        f"Created by {as_code(command)}.\n{accuracy}\nScores are in percent, mean ± standard deviation over "
        "folds. 95 %: confidence interval, by bootstrap over views. Group: methods with the same letter do "
        "not differ significantly from the best of that group (paired by view, corrected over all pairs, "
        "p < 0.05). Normalised: 0 is the best floor, 100 the best ceiling. Passes and times are per image.",
        table(columns_of(board.rows), board.rows.to_dict("records")),
        *(
            f"Failed: {as_code(row.explainer)}: {in_markdown(row.failed)}"
            for row in board.rows.itertuples()
            if row.failed
        ),
        *(in_markdown(f"{line[0].upper()}{line[1:]}.") for line in left_out(board)),
        *class_text(board),
        *recipe_text(compared),
        *certificate_text(board),
        *paper_text(board),
        *statistics_text(board),
    ]
    return "\n\n".join(parts) + "\n"


def left_out(board: Leaderboard) -> list[str]:
    """Return a line for each set of records that the board does not show: which, why, and what to do."""
    lines = [str(reason) for reason in board.source.left_out]
    for other in board.source.others:
        rows = f"{other.rows} explainer{'' if other.rows == 1 else 's'}"
        places = f"{other.places} trained model{'' if other.places == 1 else 's'}"
        lines.append(
            f"the folder also holds {rows} measured on {places} of another set, {other.models.name}; "
            f"to show that board, add --model-set {other.models.name}"
        )
    return [*lines, *board.notes]


def summary(board: Leaderboard) -> list[str]:
    """Return the results of the statistics, one line each."""
    lines = []
    if not board.first.empty:
        best, most = board.first.attrs["best"], float(board.first["p_holm"].max())
        near = board.first.sort_values("difference").iloc[0]
        lines.append(
            f"best of the paper's methods: {best}, {near['difference']:.1f} points above {near.name} "
            f"({near['low']:.1f} to {near['high']:.1f}); largest p-value of its differences {most:.2g} (Holm)"
            + ("" if most < SIGNIFICANT else ": not significant")
        )
    if board.paper and board.paper.count > 2:
        lines.append(
            f"Spearman's rho with the paper's order of {board.paper.count} methods: {board.paper.rho:.2f} "
            f"(p = {board.paper.p:.2g})"
        )
    if not board.certificate.empty:
        shares = board.certificate[["necessity", "sufficiency", "swap"]].min() * 100
        good = int(board.certificate["certified"].sum())
        lines.append(
            f"certificate: {good} of {len(board.certificate)} models certified; lowest shares: "
            f"necessity {shares['necessity']:.1f} %, sufficiency {shares['sufficiency']:.1f} %, "
            f"swap {shares['swap']:.1f} %" + strict_summary(board.certificate)
        )
    return lines


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
