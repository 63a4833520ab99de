"""Recipes of training: names, places, identities, and boards of two recipes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from synthetic_results import CLASSES, MEANS, write_one_board
from typer.testing import CliRunner

from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import DataFolderError
from benchmark.board.recipes import compare, compared_with_plain
from benchmark.board.rows import boards_in, leaderboard
from benchmark.board.text import write_board
from benchmark.cli import app
from benchmark.plan import Plan, PlanError, read_plan
from benchmark.report import write_report
from benchmark.setups import Setup, model_options
from benchmark.statistics import agreement
from benchmark.store import cell_at, read_record
from benchmark.training import Recipe, load_model, recipes
from benchmark.training.recipes import Lesson
from benchmark.training.trainer import train
from benchmark.training.weights import path_of

METHODS = ("vebi", "deconv_gb", "grad_cam", "grad_cam_pp", "random", "oracle")


@pytest.fixture
def results(tmp_path):
    """Boards of two recipes: on certified models, grad_cam is the best."""
    write_one_board(tmp_path, METHODS)
    return write_one_board(tmp_path, METHODS, recipe="certified", means=MEANS | {"grad_cam": 0.4})


def test_plain_training_has_the_identity_of_older_releases():
    older = {"epochs", "batch", "learning_rate", "momentum", "weight_decay"}
    older |= {"validation_every", "enough_loss", "patience"}
    assert set(Recipe().identity()) == set(recipes.get("plain").identity()) == older


def test_every_recipe_has_its_own_identity():
    identities = [json.dumps(recipes.get(name).identity()) for name in recipes.names()]
    assert len(set(identities)) == len(identities) >= 5


def test_names_of_models_lead_to_places_and_back(tmp_path):
    plan = Plan(recipes=("plain", "certified"), models=("an8net", "mnistnet"), folds=(0, 3), results=tmp_path)
    assert [name for _, name in plan.boards()] == [
        "an8net", "an8net+certified", "mnistnet", "mnistnet+certified"
    ]  # fmt: skip
    for setup in plan.setups():
        assert Setup.of(setup.variant, setup.model_name, setup.seed, setup.fold) == setup
        assert path_of("c", setup).parts[2] == setup.model_name
        cell = plan.cell(setup, "grad_cam@conv1")
        assert cell_at(cell.record_path) == cell
        assert (f"--recipe {setup.recipe}" in model_options(setup.model_name)) == (setup.recipe != "plain")


def test_recipes_with_factors_have_data_of_their_own(tmp_path):
    plan = Plan(recipes=("plain", "certified", "cheat_patch"), root=tmp_path)
    assert plan.datasets() == [("single-6c", "plain"), ("single-6c", "cheat_patch")]
    assert plan.data_root("certified") == tmp_path
    assert plan.data_root("cheat_patch") == tmp_path / "cheat_patch"
    assert plan.twins and not Plan().twins


def test_an_unknown_recipe_is_one_clear_line(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown recipe 'certifed'; did you mean 'certified'"):
        Plan(recipes=("certifed",))
    with pytest.raises(PlanError, match="recipes is empty"):
        Plan(recipes=())
    (tmp_path / "plan.toml").write_text('recipes = "certified"\n')
    with pytest.raises(PlanError, match="recipes is 'certified'; it must be a list"):
        read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize("name", ["a+b", "a/b", "..", "a b", "", ".hidden", 1, None])
def test_a_name_that_cannot_be_that_of_a_folder_is_refused(name):
    with pytest.raises(ValueError, match="a recipe's name must have only letters"):
        Recipe(name=name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1; got 0"),
        ({"batch": 2.5}, "batch must be a whole number from 1; got 2.5"),
        ({"validation_every": 1}, "validation_every must be a whole number from 2; got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0; got nan"),
        ({"decay": -1}, "decay must be a number above 0; got -1"),
        ({"momentum": "0.9"}, "momentum must be a number from 0; got '0.9'"),
        ({"lessons": ()}, "at least one lesson must have the target 'label'; none has it"),
        ({"lessons": (Lesson("image", "uniform"),)}, "at least one lesson must have the target 'label'"),
        ({"lessons": ("image",)}, r"lessons must be a tuple of Lesson; got \('image',\)"),
        ({"lessons": [Lesson("image", "label")]}, "lessons must be a tuple of Lesson"),
        ({"factors": "cheat=patch"}, "factors must be a tuple of str; got 'cheat=patch'"),
    ],
)
def test_a_wrong_entry_of_a_recipe_is_named(wrong, message):
    with pytest.raises(ValueError, match=f"recipe 'mine': {message}"):
        Recipe(name="mine", **wrong)


def test_a_wrong_lesson_or_factor_is_named():
    with pytest.raises(ValueError, match="the weight of a lesson must be a number above 0; got 0"):
        Lesson("image", "label", weight=0)
    with pytest.raises(ValueError, match="target of a lesson must be one of label, uniform; got 'labl'"):
        Lesson("image", "labl")
    with pytest.raises(UnknownNameError, match="unknown factor 'chet'; did you mean 'cheat'"):
        Recipe(name="mine", factors=("chet=patch",))


@pytest.mark.parametrize(
    ("recipe", "factors"), [("cheat_patch", ("cheat=pot",)), ("cheat_patch_80", ("cheat=patch",))]
)
def test_a_plan_does_not_set_the_factors_of_its_recipe(recipe, factors):
    with pytest.raises(PlanError, match=f"do not go with those of the recipe '{recipe}'.*cheat is set twice"):
        Plan(recipes=("plain", recipe), factors=factors)


def test_a_model_is_not_chosen_by_its_recipe_alone(tmp_path):
    with pytest.raises(ValueError, match="by its recipe, pass variant and fold"):
        load_model(tmp_path / "fold0.safetensors", recipe="certified")


def test_recipes_are_listed():
    listed = json.loads(CliRunner().invoke(app, ["list", "recipes", "--json"]).stdout)["recipes"]
    assert {"plain", "certified", "cheat_patch"} <= {row["name"] for row in listed}
    assert all("image" in row["trained on"] for row in listed)


def test_a_record_in_the_folder_of_another_recipe_is_not_read(results):
    stray = results / "single-6c/an8net/records/vebi/fold0.json"
    stray.write_bytes((results / "single-6c/an8net+certified/records/vebi/fold0.json").read_bytes())
    with pytest.raises(
        ValueError, match=r"is the record of another cell \(single-6c an8net\+certified fold 0"
    ):
        read_record(stray)
    board = leaderboard(results, "single-6c")
    assert "another cell" in board.rows.set_index("explainer")["failed"]["vebi"]


def test_a_record_whose_identity_is_of_another_recipe_is_not_read(results):
    from an8flower.ground.digest import with_digest
    from benchmark.record_checks import key

    path = results / "single-6c/an8net+certified/records/vebi/fold0.json"
    content = json.loads(path.read_text())
    del content["identity"]["recipe"]
    path.write_text(json.dumps(with_digest(content | {"key": key(content["identity"])})))
    with pytest.raises(ValueError, match="it is of recipe 'certified', its identity of 'plain'"):
        read_record(path)


def test_boards_do_not_mix_recipes(results):
    assert boards_in(results) == [("single-6c", "an8net"), ("single-6c", "an8net+certified")]
    for recipe, best in (("plain", "vebi"), ("certified", "grad_cam")):
        board = leaderboard(results, "single-6c", "an8net", recipe=recipe)
        assert {record.recipe for record in board.source.records} == {recipe}
        assert board.rows["explainer"][0] == best


def test_a_board_has_the_score_of_each_class_and_their_mean(results):
    rows = leaderboard(results, "single-6c").rows.set_index("explainer")
    of_class = [rows.loc["vebi", f"iou_auc of {name}"] for name in CLASSES]
    assert of_class == pytest.approx([rows.loc["vebi", "iou_auc"] * factor for factor in CLASSES.values()])
    assert rows.loc["vebi", "iou_auc_macro"] == pytest.approx(np.mean(of_class))


def test_two_recipes_are_compared_row_by_row(results):
    ours, theirs = (
        leaderboard(results, "single-6c", recipe=name).rows.set_index("explainer")
        for name in ("certified", "plain")
    )
    compared = compared_with_plain(leaderboard(results, "single-6c", recipe="certified"), results)
    assert compared_with_plain(leaderboard(results, "single-6c"), results) is None
    rows = compared.rows.set_index("explainer")
    for name in METHODS:
        difference = ours.loc[name, "iou_auc"] - theirs.loc[name, "iou_auc"]
        assert rows.loc[name, "difference"] == pytest.approx(difference)
        assert rows.loc[name, "low"] <= difference + 1e-9 and difference <= rows.loc[name, "high"] + 1e-9
    assert rows.loc["grad_cam", ["rank", "other_rank"]].tolist() == [1, 3]
    assert rows.loc["grad_cam", "low"] > 20 and pd.isna(rows.loc["oracle", "rank"])
    # Four methods, of which one has moved past two others: 2 of the 6 pairs are in another order.
    assert compared.agreement.tau == pytest.approx((4 - 2) / 6)
    assert compared.agreement.methods == 4
    command = "an8flower leaderboard"
    markdown = write_board(leaderboard(results, "single-6c", recipe="certified"), results, command)[
        1
    ].read_text()
    assert "## Compared with the recipe `plain`" in markdown and "## By class" in markdown
    written = json.loads((results / "single-6c/an8net+certified/leaderboard.json").read_text())
    assert (written["model"], written["recipe"]) == ("an8net", "certified")
    assert written["compared"]["agreement"]["tau"] == pytest.approx(1 / 3)


def test_recipes_are_compared_on_the_views_of_both(results, tmp_path):
    """One board lacks a fold: a difference is within its interval, and one board differs from itself by 0."""
    shutil.copytree(results, tmp_path / "less")
    for path in (tmp_path / "less/single-6c/an8net+certified/records").rglob("fold4.json"):
        path.unlink()
    less = leaderboard(tmp_path / "less", "single-6c", recipe="certified")
    rows = compared_with_plain(less, tmp_path / "less").rows
    assert ((rows["low"] <= rows["difference"] + 1e-9) & (rows["difference"] <= rows["high"] + 1e-9)).all()
    same = compare(less, leaderboard(results, "single-6c", recipe="certified")).rows
    assert same["difference"].abs().max() < 1e-9
    assert same["score"].tolist() == pytest.approx(less.rows["iou_auc"].tolist())


def test_the_report_shows_both_recipes(results):
    report = write_report(results, gallery=False)
    assert report.boards == (("single-6c", "an8net+certified"), ("single-6c", "an8net"))
    page = report.path.read_text()
    assert "What the recipe changes: certified and plain" in page and "Scores by class" in page
    only = write_report(results, gallery=False, recipes=["plain"])
    assert only.boards == (("single-6c", "an8net"),)


def test_agreement_equals_a_slow_count_of_pairs():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([[0, 1], range(6)], names=["fold", "view"])
    first, second = (pd.DataFrame(rng.random((12, 5)), index, list("abcde")) for _ in range(2))
    second["e"] = np.nan
    found = agreement(first, second, rng=np.random.default_rng(1), resamples=200)
    means = first.mean(), second.mean()
    signs = [
        np.sign(means[0][a] - means[0][b]) * np.sign(means[1][a] - means[1][b])
        for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")
    ]
    assert found.tau == pytest.approx(np.mean(signs)) and found.low <= found.tau <= found.high
    assert (found.methods, found.views) == (4, 12)
    same = agreement(first, first, rng=np.random.default_rng(1), resamples=50)
    assert (same.tau, same.low, same.high) == pytest.approx((1, 1, 1))
    with pytest.raises(ValueError, match="at least 2 methods and 2 views that both boards have; got 1"):
        agreement(first[["a"]], second, rng=np.random.default_rng(1))


def test_images_without_the_factors_of_the_recipe_are_refused(data, tmp_path):
    (tmp_path / "mine").symlink_to(data)
    recipe = Recipe(name="mine", factors=("cheat=patch",))
    reason = "was drawn without cheat=patch, which the recipe 'mine' needs"
    with pytest.raises(DataFolderError, match=reason) as told:
        train(tmp_path, TINY.name, fold=0, recipe=recipe, checkpoints=tmp_path / "weights")
    assert str(told.value).endswith("--factor cheat=patch'")
    assert not (tmp_path / "weights").exists()
