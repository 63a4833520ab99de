"""Texts of strangers (names, reasons, layers) stay texts: on the terminal, in Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
from synthetic_results import write_one_board

from benchmark import leaderboard, store
from benchmark.board.figures import curves
from benchmark.board.text import to_csv, to_json, to_markdown, write_board
from benchmark.cli import boards
from benchmark.record import Record
from benchmark.report.page import write_report
from benchmark.store import Cell

CONTROLS = {
    "colour": "\x1b[31mred",
    "title of the window": "\x1b]0;mine\x07",
    "clears the screen": "\x1b[2J\x1b[H",
    "C1 control": "\x9b31mred",
    "carriage return": "100.0\rgone",
    "backspace": "abc\b\b\bxyz",
    "right to left": "a\u202egnp.exe",
    "no width": "ve\u200bbi",
    "surrogate": "half \ud83d of a pair",
    "null": "a\x00b",
}
MARKUP = {
    "script": "<script>hurt()</script>",
    "picture of HTML": "<img src=x onerror=hurt()>",
    "picture": "![x](https://example.org/track.png)",
    "link": "[click](javascript:hurt)",
    "code": "`</code><script>hurt()</script>`",
    "cells": "a | b | c",
    "entity": "&lt;script&gt;",
    "backslash": "\\[click](javascript:hurt)",
    "rich": "[red]red[/red] [link=https://example.org]here[/link]",
    "mathematics": "costs $x_{$ in _total",
}
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", " =1+1", "\r\n=1+1", "\uff1d1+1", "=HYPERLINK(0)"]


def add(results, name="mine", **changes: Any) -> None:
    """Add a row to a board, as a release that checks no text would have written it."""
    known = store.read_record(Cell(results, "single-6c", "an8net", "vebi", 0).record_path)
    identity = known.identity | {"explainer": name}
    fields = {name: getattr(known, name) for name in known.__dataclass_fields__} | {
        "explainer": name, "identity": identity, "key": store.key(identity), **changes,
    }  # fmt: skip
    store.write(Cell(results, "single-6c", "an8net", name, 0), Record(**fields), None)


def failing(reason: str) -> dict[str, Any]:
    return {"status": "failed", "cause": "raised", "reason": reason}


def unseen(text: str) -> list[str]:
    """The signs that change what is around them, or are no characters."""
    kinds = {"Cc", "Cf", "Cs", "Co"}
    return [sign for sign in text if unicodedata.category(sign) in kinds and sign not in "\n\t"]


@dataclass(frozen=True)
class Shown:
    """A board in all forms."""

    where: str
    texts: list[str]
    terminal: str
    markdown: str
    csv: str
    json: str
    page: str
    rows: int


def shown(folder, texts, where) -> Shown:
    """Show a board with a row for each text as its reason, name or layer."""
    results = write_one_board(folder / "results", ["vebi", "oracle"])
    names = [f"{text}" if where == "name" else f"row{k}" for k, text in enumerate(texts)]
    for name, text in zip(names, texts, strict=True):
        add(
            results,
            name,
            **{"reason": failing(f"ValueError: {text}"), "layer": {"layer": text}}.get(where, {}),
        )
    board = leaderboard(results, "single-6c")
    write_board(board, results, "an8flower leaderboard")  # which encodes the texts
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font does not have
        curves(board, folder / "curves.png")
    page = write_report(results, folder / "page.html", gallery=False).path.read_text()
    with pytest.MonkeyPatch.context() as patched:
        printed = io.StringIO()
        patched.setattr(boards, "out", type(boards.out)(file=printed, width=200))
        patched.setattr(boards, "notes", type(boards.notes)(file=printed, width=200))
        boards.say_boards([board], [], False)
    return Shown(
        where,
        [*texts],
        printed.getvalue(),
        to_markdown(board, "x"),
        to_csv(board),
        to_json(board, "x"),
        page,
        len(board.rows),
    )


SURROGATES = {"surrogate"}  # no path holds one, so no name of a record does


@pytest.fixture(scope="module", params=["reason", "name", "layer"])
def controls(request, tmp_path_factory):
    texts = [text for name, text in CONTROLS.items() if request.param != "name" or name not in SURROGATES]
    return shown(tmp_path_factory.mktemp("controls"), texts, request.param)


@pytest.fixture(scope="module", params=["reason", "name", "layer"])
def markup(request, tmp_path_factory):
    return shown(tmp_path_factory.mktemp("markup"), MARKUP.values(), request.param)


@pytest.fixture(scope="module", params=["name", "layer"])
def formulas(request, tmp_path_factory):
    return shown(tmp_path_factory.mktemp("formulas"), FORMULAS, request.param)


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json", "page"])
def test_no_control_character_reaches_any_form(controls, form):
    assert unseen(getattr(controls, form)) == []


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS)
@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_control_characters_are_shown_as_escapes(controls, form, text):
    if text not in controls.texts:
        return
    escaped = "".join(
        sign.encode("unicode_escape", "surrogatepass").decode() if unseen(sign) else sign for sign in text
    )
    written = re.sub(r"\\([\\\[\]])", r"\1", getattr(controls, form))
    assert escaped in written or escaped.replace("\\r", " ") in written


@pytest.mark.parametrize("text", [re.escape(one) for one in ("<script", "<img", "](")])
def test_markdown_has_no_html_and_no_links_of_strangers(markup, text):
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", markup.markdown))
    assert not re.search(text, outside)


def test_a_text_adds_no_cell_to_a_table(markup):
    table = [line for line in markup.markdown.splitlines() if line.startswith("|")][: 2 + markup.rows]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_an_entity_is_shown_as_it_was_written(markup):
    assert "&amp;lt;script&gt;" in markup.markdown or "&amp;lt;script&amp;gt;" in markup.markdown


def test_the_page_runs_nothing_of_strangers(markup):
    assert "<script>hurt" not in markup.page and "<img src=x" not in markup.page


def test_the_terminal_shows_signs_of_markup_as_they_are(markup):
    # It shows no layers.
    assert "[red]red[/red]" in markup.terminal or "layer" in markup.where


def test_no_cell_of_the_csv_is_computed(formulas):
    rows = list(csv.DictReader(io.StringIO(formulas.csv)))
    assert len(rows) == formulas.rows
    named = ("explainer", "layer", "role", "origin", "failed", "group")
    texts = [row[name] for row in rows for name in named]
    assert sum(text.startswith("'") for text in texts) >= len(FORMULAS) - 1  # \\r is shown as an escape
    assert not [text for text in texts if unicodedata.normalize("NFKC", text.strip()[:1]) in set("=+-@")]


def test_numbers_of_the_csv_stay_numbers(tmp_path):
    board = leaderboard(write_one_board(tmp_path / "results", ["vebi", "random"]), "single-6c")
    board.rows.loc[0, "difference"] = -1.5
    (row, _) = csv.DictReader(io.StringIO(to_csv(board)))
    assert float(row["difference"]) == -1.5


def test_a_reason_of_ten_megabytes_is_shortened(tmp_path):
    form = shown(tmp_path, ["x" * 10_000_000], "reason")
    assert "fold 0: ValueError: xxx" in form.terminal
    for text in (form.terminal, form.markdown, form.csv, form.json):
        assert len(text) < 100_000


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\u202eb", "\x9b2J"], ids=ascii)
@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_an_error_that_quotes_a_text_shows_it_as_escapes(tmp_path, called, command, text):
    done = called(command, "--variant", text, "--results", tmp_path / "none")
    assert done.returncode == 1 and done.stderr.startswith("an8flower: no records")
    assert unseen(done.stderr) == [] and ascii(text)[1:-1] in done.stderr


def test_json_for_programs_holds_the_text_itself(markup):
    rows = json.loads(markup.json)["rows"]
    assert any("<script>hurt()</script>" in str(row) for row in rows)
