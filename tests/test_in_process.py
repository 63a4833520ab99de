"""Each module is imported, and the commands run once in this process: a quick look at all that exists."""

from __future__ import annotations

import importlib
import json
import pkgutil

import pytest
from conftest import RECIPE, VIEWS
from typer.testing import CliRunner

import an8flower
import benchmark
import explainers
from an8flower.variants import variants
from benchmark.cli import app
from benchmark.plan import Plan
from benchmark.preview import preview
from benchmark.running import carry_out

MODULES = [
    module.name
    for package in (an8flower, explainers, benchmark)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported_and_says_what_it_is(name):
    assert importlib.import_module(name).__doc__


@pytest.fixture
def plan(data, checkpoints, tiny, tmp_path):
    """Two explainers on the two trained folds of the tiny variant."""
    with variants.temporarily(tiny):
        yield Plan().with_(
            variants=tiny.name, explainers=("grad_cam", "random"), folds=(0, 1),
            viewpoints=VIEWS, root=data,
            checkpoints=checkpoints, results=tmp_path,
        )  # fmt: skip


def test_a_plan_is_previewed_carried_out_and_shown(plan, monkeypatch):
    for module in ("running", "preview"):  # the shared models are trained with few epochs
        monkeypatch.setattr(f"benchmark.{module}.Recipe", lambda: RECIPE)
    before = preview(plan).cells
    assert before["new"].sum() == 4
    done = carry_out(plan)
    assert {record.status for record in done.records} == {"ok"} and not done.notes
    assert all(path.is_file() for path in done.files)
    assert preview(plan).cells["done"].sum() == 4
    where = ("--results", str(plan.results))
    shown = CliRunner().invoke(app, ["leaderboard", "--variant", plan.variants[0], *where, "--json"])
    assert shown.exit_code == 0 and {row["explainer"] for row in json.loads(shown.output)["rows"]} == {
        "grad_cam", "random",
    }  # fmt: skip
    assert CliRunner().invoke(app, ["report", *where, "--no-gallery"]).exit_code == 0
    assert (plan.results / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "explainers"], "grad_cam"),
        (["list", "variants"], "single-6c"),
        (["check", "gradient"], "gradient"),
        (["certify", "--help"], "--tables"),
        (["submit", "--help"], "--authors"),
        (["board", "list", "--help"], "--results"),
    ],
)
def test_a_command_answers(arguments, said):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and said in done.output


def test_a_dataset_is_verified_drawn_as_a_sheet_and_exported(data, tiny, tmp_path):
    with variants.temporarily(tiny):
        where = ("--root", str(data), "--variant", tiny.name)
        assert "every file is as recorded" in CliRunner().invoke(app, ["verify", *where]).output
        out = ("--out", str(tmp_path / "out"))
        assert CliRunner().invoke(app, ["gallery", *where, *out]).exit_code == 0
        target = ("--to", "imagefolder", "--out", str(tmp_path / "folder"))
        assert CliRunner().invoke(app, ["export", *where, *target]).exit_code == 0
    assert list((tmp_path / "out").glob("*.png")) and list((tmp_path / "folder").rglob("*.png"))
