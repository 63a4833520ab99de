"""The command that builds a leaderboard, and how boards are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.console import notes, out, say
from benchmark.cli.options import JSON, MODEL, RECIPE, RESULTS, VARIANT

if TYPE_CHECKING:
    from benchmark.board.rows import Leaderboard


def leaderboard(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    recipe: RECIPE = "plain",
    certified_only: Annotated[
        bool, typer.Option("--certified-only", help="Score only images that pass the certificate.")
    ] = False,
    model_set: Annotated[
        str | None,
        typer.Option(
            "--model-set",
            metavar="NAME",
            show_default="the set with the most explainers",
            help="Set of trained models, if the records are of several; the command prints their names.",
        ),
    ] = None,
    add_digests: Annotated[
        bool,
        typer.Option(
            "--add-digests",
            help="First write records and certificates of older releases again, unchanged but with a digest.",
        ),
    ] = False,
    results: RESULTS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Build a leaderboard from the records.

    It is printed, and written as CSV, Markdown and JSON, with a picture of
    the IoU curves.

    Example: an8flower leaderboard --variant single-6c --model an8net
    """
    from benchmark import leaderboard as build
    from benchmark.board.figures import curves
    from benchmark.board.text import board_command, write_board
    from benchmark.certificate.records import add_digests as add_to_certificates
    from benchmark.setups import model_name
    from benchmark.store import add_digests as add_to_records

    if add_digests:
        name = model_name(model, recipe)
        count = add_to_records(results, variant, name) + add_to_certificates(results, variant, name)
        notes.print(f"{count} files have a digest now")
    board = build(results, variant, model, recipe=recipe, certified_only=certified_only, models=model_set)
    written: list[Path] = []
    problems = []
    try:
        written += write_board(board, results, board_command(board, results, model_set))
        if not certified_only:  # curves are of all images
            written.append(curves(board, results / variant / board.model / "curves.png"))
    except OSError as error:  # the board is printed even so
        problems.append(f"the board could not be written: {error.filename or results}: {error.strerror}")
    say_boards([board], written, as_json, problems=problems)
    raise typer.Exit(int(bool(problems)))


def say_boards(
    boards: list[Leaderboard],
    written: list[Path],
    as_json: bool,
    *,
    seconds: dict[str, float] | None = None,
    problems: Sequence[str] = (),
) -> None:
    """Print boards with what belongs to them.

    Args:
        boards: to print.
        written: files that were written.
        as_json: print JSON instead of tables.
        seconds: wall time by stage of a run, in seconds.
        problems: one line for each file that could not be written.
    """
    from benchmark.board.published import published
    from benchmark.board.terminal import to_table
    from benchmark.board.text import left_out, summary
    from benchmark.setups import parse_model_name

    if as_json:
        rows = [
            {
                "variant": board.variant,
                **dict(zip(("model", "recipe"), parse_model_name(board.model), strict=True)),
                **row,
            }
            for board in boards
            for row in json.loads(board.rows.to_json(orient="records"))
        ]
        notices = [line for board in boards for line in left_out(board)] + list(problems)
        files = [str(path) for path in written]
        say({"rows": rows, "files": files, "seconds": seconds, "left_out": notices}, True, "")
        return
    for board in boards:
        theirs = published(board)
        out.print(to_table(board, out.width, published=theirs))
        for line in [*summary(board), *([theirs.relation] if theirs else [])]:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        for line in left_out(board):
            notes.print(line, markup=False, soft_wrap=True)
        for row in board.rows.itertuples():
            if row.failed:
                notes.print(f"failed: {row.explainer}: {row.failed}", markup=False, soft_wrap=True)
    for line in problems:
        notes.print(line, markup=False, soft_wrap=True)
    if written:
        listed = "wrote " + "\n      ".join(str(path) for path in written)
        out.print(listed, markup=False, highlight=False, soft_wrap=True)
    if seconds:
        stages = ", ".join(f"{stage} {time:.0f} s" for stage, time in seconds.items())
        out.print(f"took {sum(seconds.values()):.0f} s: {stages}", highlight=False)
