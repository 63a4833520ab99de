"""Each module is imported, and the commands run once in this process: a quick look at all that exists."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil

import pytest
from conftest import RECIPE, VIEWS
from submissions import content, plugin, written
from typer.testing import CliRunner

import an8flower
import benchmark
import explainers
from an8flower.ground.registry import UnknownNameError
from an8flower.variants import variants
from benchmark.cli import app
from benchmark.plan import Plan
from benchmark.preview import preview
from benchmark.running import carry_out
from benchmark.submission import rerunning
from benchmark.submission.file import read_submission
from benchmark.training.weights import weights_path

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


def test_an_image_is_explained(data, checkpoints, tiny, tmp_path):
    weights = weights_path(checkpoints, tiny.name, "an8net", 0)
    for path in (weights, weights.with_suffix(".json")):  # selections are written next to them
        shutil.copy(path, tmp_path)
    image = data / tiny.name / "images/class1/class1_img5_p2_r3.png"
    where = (
        "--checkpoint",
        str(tmp_path / weights.name),
        "--root",
        str(data),
        "--out",
        str(tmp_path / "why"),
    )
    done = CliRunner().invoke(app, ["explain", str(image), *where])
    assert done.exit_code == 0 and f"{image}: red petals, " in done.output
    assert (tmp_path / "why" / image.name).is_file()


def test_certificates_are_shown(monkeypatch):
    shares = {
        "images": 50,
        "necessity": 0,
        "necessity_expected": 0.5,
        "sufficiency": 1,
        "swap": 1,
        "passed": 0,
    }
    kept = {"picture": "part_only", "share": 1, "probability": 1, "probability_5": 1, "held_out": False}
    without = {"picture": "all_but_part", "own": 0, "largest": 0, "limit": 0.75, "held_out": False}
    record = {"fold": 3, "certified": False, "reason": "necessity is low", "shares": shares}
    record |= {"kept": [kept], "without": [without]}
    asked = []
    place = "benchmark.certificate.certifying"
    monkeypatch.setattr(f"{place}.draw_twins", lambda root, variant, **_: asked.append(variant))
    monkeypatch.setattr(f"{place}.certify_all", lambda plan, **_: asked.append(plan) or [record])
    done = CliRunner().invoke(app, ["certify", "--variant", "part-2c", "--folds", "3"])
    assert done.exit_code == 1 and "fold 3 is not certified: necessity is low" in done.output
    assert asked[0] == "part-2c" and asked[1].folds == (3,) and asked[1].certificate
    record["certified"] = True
    assert CliRunner().invoke(app, ["certify", "--json"]).exit_code == 0


def test_bad_names_reach_the_command(tmp_path):
    for command, name in (("evaluate", "--explainer"), ("train", "--model")):
        done = CliRunner().invoke(app, [command, name, "nothing", "--root", str(tmp_path)])
        assert isinstance(done.exception, UnknownNameError)


def test_a_submission_is_opened_and_its_run_reported(tmp_path):
    path = written(tmp_path / "a.an8sub.safetensors", content(plugin(), {}))
    done = CliRunner().invoke(app, ["verify-submission", str(path), "--show-code"])
    assert done.exit_code == 0 and "the file holds no script" in done.output
    claim = read_submission(path).form.claims[0]
    assert rerunning._outcome(claim, {}, tmp_path, 3) == "its run ended with status 3 and without a result"
