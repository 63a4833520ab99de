"""The certificate: an honest model passes, one that cheats does not, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import RECIPE, TINY, VIEWS
from torch import nn
from typer.testing import CliRunner

from an8flower.ground.digest import with_digest
from an8flower.manifest import DataFolderError, read_manifest
from benchmark import running
from benchmark.certificate import (
    Twinned,
    answers,
    certify,
    judged,
    passing,
    read_certificates,
    shares,
    swap,
    verdict,
)
from benchmark.certificate.answers import KEPT, WITHOUT
from benchmark.certificate.certifying import certify_all, draw_twins
from benchmark.certificate.judging import expected_necessity, shares_by_view
from benchmark.certificate.pictures import Pictures, partner_of
from benchmark.certificate.records import COLUMNS, IMAGE, record_path
from benchmark.cli import app
from benchmark.covers import rim_px
from benchmark.experiments.evidence.cheating import paint, patch_colours, study
from benchmark.plan import Plan
from benchmark.running import carry_out
from benchmark.setups import Setup
from benchmark.store import ResultsError
from benchmark.training.recipes import recipes
from benchmark.training.trainer import train
from benchmark.training.weights import load_model, weights_path

CLASSES = ["red petals", "blue petals"]


@pytest.fixture(scope="module")
def patched(twinned, once):
    """The dataset with twins, and a class-coloured patch in the background. Not to be changed."""
    return once("patched", lambda root: paint(twinned, TINY.name, root))


@pytest.fixture(scope="module")
def cheating(patched, once):
    """Folder with a model that was trained on the patched images of fold 0."""
    return once(
        "cheating",
        lambda folder: train(patched, TINY.name, fold=0, checkpoints=folder, recipe=RECIPE),
    )


@pytest.fixture(scope="module")
def taught(twinned, once):
    """Folder with a model of fold 0 that was trained by the certified recipe. Not to be changed."""
    recipe = replace(recipes.get("certified"), epochs=8, batch=25, learning_rate=0.03, decay=0.75)
    return once("taught", lambda folder: train(twinned, TINY.name, fold=0, checkpoints=folder, recipe=recipe))


@pytest.fixture
def without_covers(monkeypatch):
    """Leave out covers in colours near red and blue: here, training shows no colours between the two."""
    kept = [one for one in answers.INTERVENTIONS if one.name not in ("pot_texture", "foreign_colour")]
    monkeypatch.setattr(answers, "INTERVENTIONS", tuple(kept))
    monkeypatch.setattr(answers, "WITHOUT", ("all_but_part", "inpainted"))


def pictures(root):
    return Twinned.of(root, TINY.name, fold=0, size_px=112)


def plan(root, checkpoints, results, **more):
    return Plan(
        variants=(TINY.name,), folds=(0,), root=root, checkpoints=checkpoints, results=results,
        viewpoints=tuple(VIEWS), certificate=True, explainers=("centre",), **more,
    )  # fmt: skip


class Eye(nn.Module):
    """Goes by how much red and how much blue there is in the upper half, where the flower is."""

    def forward(self, images):
        red, green, blue = images[:, :, :60].unbind(1)
        reds, blues = (red - green - 0.45).relu(), (blue - 1.5 * green - 0.05).relu()
        return torch.stack([reds.sum((1, 2)) + 1e-3, blues.sum((1, 2))], 1)


class Corner(nn.Module):
    """Goes by the colour of the patch in the corner; the first class if there is none."""

    def forward(self, images):
        colours = torch.from_numpy(patch_colours(2)).float() / 255
        near = ((images[:, None, :, 5, 5] - colours) ** 2).sum(-1) < 0.01
        return near.float() + torch.tensor([1e-3, 0])


class Stubborn(nn.Module):
    """Always says the first class."""

    def forward(self, images):
        return torch.tensor([9.0, 0.0]).repeat(len(images), 1)


class Memory(nn.Module):
    """Knows images and twins by heart, and what to answer to each; takes all else for the first class."""

    def __init__(self, shown: Pictures, labels: torch.Tensor):
        super().__init__()
        self.known = torch.cat([shown.image, shown.part_only, shown.all_but_part]).flatten(1)
        right = 9 * torch.eye(2)[labels]
        self.answers = torch.cat([right, right, torch.zeros_like(right)])

    def forward(self, images):
        # An image with the part of another class differs a little from the image of that class.
        distances, nearest = torch.cdist(images.flatten(1), self.known).min(1)
        return torch.where((distances < 1)[:, None], self.answers[nearest], torch.tensor([9.0, 0.0]))


def test_a_model_that_knows_the_twins_by_heart_does_not_pass(twinned):
    tested = pictures(twinned)
    (group,) = tested.batches(len(tested.images))
    labels = torch.tensor([label - 1 for label in tested.images.table["class"]])
    given = certify(Memory(group, labels), tested)
    assert shares(given.flags, 2).passed == 1  # the shares of older releases do not notice it
    failed = [text.partition(":")[0] for text in given.verdict(CLASSES).failures]
    assert failed == [one.name for one in answers.INTERVENTIONS if one.expects == "class"] + [
        one.name for one in answers.INTERVENTIONS if one.expects == "no class"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "model", "necessity", "default", "sufficiency", "swapped", "passed", "fails"),
    [
        ("twinned", Eye(), 0.5, 0.5, 1.0, 1.0, 1.0, []),
        # Its probabilities say little without the patch, and nearly as little with it.
        ("patched", Corner(), 0.0, 0.0, 0.5, 0.0, 0.0, KEPT),
        ("twinned", Stubborn(), 0.0, 1.0, 1.0, 0.5, 0.5, ["swapped", *WITHOUT]),
    ],
)
def test_models_that_go_by_known_things(
    request, where, model, necessity, default, sufficiency, swapped, passed, fails
):
    told = []
    given = certify(model, pictures(request.getfixturevalue(where)), batch=20, done=told.append)
    assert told == [20, 20, 10]
    found = shares(given.flags, 2)
    got = (found.images, found.necessity, found.default, found.sufficiency, found.swap, found.passed)
    assert got == (50, necessity, default, sufficiency, swapped, passed)
    assert [text.partition(":")[0] for text in given.verdict(CLASSES).failures] == list(fails)


def test_flags_of_answers_by_hand():
    base = {"view": 1, "crop": 1, "rotation": 1, "p_without_part": 0.9}
    rows = [  # the third place: without the part the second class by default, and the first is lost
        {**base, "class": 1, "predicted": 0, "without_part": 0, "part_only": 0, "swapped": 1, "partner": 1},
        {**base, "class": 2, "predicted": 1, "without_part": 1, "part_only": 0, "swapped": 0, "partner": 0},
        {**base, "view": 2, "class": 1, "predicted": 0, "without_part": 1, "part_only": 0, "swapped": 0,
         "partner": 1},
        {**base, "view": 2, "class": 2, "predicted": 1, "without_part": 1, "part_only": 1, "swapped": 0,
         "partner": 0},
    ]  # fmt: skip
    flags = judged(pd.DataFrame(rows), 2)
    assert flags["lost"].tolist() == [False, False, True, False]
    assert flags["default"].tolist() == [False, False, True, True]
    assert flags["undecided"].tolist() == [False] * 4
    assert flags["kept"].tolist() == [True, False, True, True]
    assert flags["follows"].tolist() == [True, True, False, True]
    assert flags["passed"].tolist() == [False, False, False, True]
    found = shares(flags, 2)
    assert (found.necessity, found.default, found.sufficiency, found.swap) == (0.25, 0.25, 0.75, 0.75)
    assert shares_by_view(flags) == {
        "view": [1, 2], "images": [2, 2], "necessity": [0.0, 0.5], "sufficiency": [0.5, 1.0],
        "swap": [1.0, 0.5], "passed": [0.0, 0.5],
    }  # fmt: skip
    # Which class is a little more probable than the others says nothing.
    close = judged(pd.DataFrame([{**row, "p_without_part": 0.51} for row in rows]), 2)
    assert close["passed"].tolist() == [True, False, False, True]


def test_the_verdict_follows_from_the_answers():
    images = 200
    flags = pd.DataFrame({
        "class": np.repeat([1, 2], images // 2), "kept": True, "follows": True, "p_part_only": 0.99,
        "p_swapped": 0.98, "p_without_part": 0.5, "same_shifted": True, "p_shifted": 0.95, "p_covered": 0.5,
    })  # fmt: skip
    without = {"all_but_part": np.array([0.5, 0.5]), "covered": np.array([0.4, 0.6])}
    kept = ("part_only", "swapped", "shifted")
    found = verdict(flags, without, kept, CLASSES)
    assert found.failures == ()
    assert [(one.picture, one.held_out) for one in found.kept] == [
        ("part_only", False), ("swapped", False), ("shifted", True)
    ]  # fmt: skip
    assert [two.held_out for two in found.without] == [False, True]

    lost = flags.assign(same_shifted=[False] * 3 + [True] * (images - 3))
    (reason,) = verdict(lost, without, kept, CLASSES).failures
    assert reason == (
        "shifted: the class of the part is predicted for 98.5% of the images, less than 99% "
        "(fails for red petals: 3%)"
    )
    (reason,) = verdict(flags, without | {"covered": np.array([0.2, 0.8])}, kept, CLASSES).failures
    assert "without the part the class 'blue petals' has a mean probability of 0.80" in reason
    # Each class keeps its own images, so no class has more than its share of all of them.
    (reason,) = verdict(flags.assign(p_covered=0.9), without, kept, CLASSES).failures
    assert "the image's own class has a mean probability of 0.90, more than 0.75" in reason
    low = flags.assign(p_part_only=np.linspace(0, 1, images))
    assert verdict(low, without, kept, CLASSES).kept[0].probability_5 == pytest.approx(0.05, abs=0.01)


def test_swaps_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    images, donors = (torch.from_numpy(rng.random((3, 3, 30, 30), np.float32)) for _ in range(2))
    masks, others = (torch.from_numpy(rng.random((3, 30, 30)) < 0.01) for _ in range(2))
    slow, rim = images.clone(), rim_px(30)
    for n in range(3):
        for y in range(30):
            for x in range(30):
                window = np.s_[n, max(y - rim, 0) : y + rim + 1, max(x - rim, 0) : x + rim + 1]
                if masks[window].any() or others[window].any():
                    slow[n, :, y, x] = donors[n, :, y, x]
    assert torch.equal(swap(images, masks, donors, others), slow)
    assert not torch.equal(slow, images) and not torch.equal(slow, donors)


@pytest.mark.parametrize("classes", [2, 6, 12])
def test_every_other_class_has_its_turn(classes):
    places = [(view, crop, turn) for view in (2, 7, 12) for crop in range(1, 6) for turn in range(1, 6)]
    for own in range(1, classes + 1):
        given = [partner_of(own, classes, *place) for place in places]
        counts = np.bincount(given, minlength=classes + 1)[1:]
        assert counts[own - 1] == 0
        others = np.delete(counts, own - 1)
        assert others.max() - others.min() <= 3  # a view has 25 pictures, which 11 does not divide


def test_a_swap_leaves_nothing_of_the_own_part(twinned):
    # Only the petals differ between the classes: with the other's part an image is the other's image.
    asked = pictures(twinned)
    whole = next(asked.batches(50))
    others = torch.stack([asked.images[int(row)][0] for row in asked.partners])
    assert (whole.partner == 1 - np.repeat([0, 1], 25)).all()
    assert (whole.swapped - others).abs().max() < 8 / 255 < (whole.image - others).abs().max()
    for image, bare, alone in zip(whole.image, whole.all_but_part, whole.part_only, strict=True):
        assert not torch.equal(image, bare) and not torch.equal(image, alone)


@pytest.mark.slow
def test_a_model_of_the_certified_recipe_is_certified(twinned, taught, without_covers):
    model = load_model(weights_path(taught, TINY.name, "an8net", 0, recipe="certified")).model
    case = study(model, twinned, TINY.name, fold=0, size_px=112, explained_by=["guided_grad_cam"])
    assert case.wrong == [] and case.shares.necessity == expected_necessity(2) and case.shares.passed > 0.9
    assert case.follows_patch < 0.1 and case.scores["guided_grad_cam"] > 0.15


@pytest.mark.slow
def test_a_cheating_model_is_not_and_a_heatmap_true_to_it_scores_low(patched, cheating):
    model = train(patched, TINY.name, fold=0, checkpoints=cheating, recipe=RECIPE).model
    case = study(model, patched, TINY.name, fold=0, size_px=112, explained_by=["grad_cam"])
    assert case.accuracy == 1  # which tells nothing
    assert case.shares.necessity < 0.1 and case.shares.swap < 0.2 and case.shares.passed < 0.1
    failed = {text.partition(":")[0] for text in case.wrong}
    assert {"swapped", "all_but_part"} <= failed and any(
        "something else tells it" in text for text in case.wrong
    )
    # The patch decides: with another one, and all else as it was, the prediction is another.
    assert case.follows_patch > 0.9
    # So a heatmap on the patch tells the truth, and the mask says it is wrong; Grad-CAM goes the same way.
    assert case.on_patch["patch"] == 1 and case.scores["patch"] == 0
    assert case.on_patch["grad_cam"] > 2 * case.scores["grad_cam"]


@pytest.mark.slow
def test_certificates_are_kept_and_read(twinned, checkpoints, tmp_path):
    asked = plan(twinned, checkpoints, tmp_path)
    assert list(read_certificates(tmp_path, TINY.name, "an8net").columns) == COLUMNS
    with pytest.raises(ResultsError, match="run 'an8flower certify --variant tiny-2c --model an8net"):
        passing(tmp_path, TINY.name, "an8net")
    (record,) = certify_all(asked)
    path = record_path(tmp_path, Setup(TINY.name, "an8net", seed=0, fold=0))
    assert record == json.loads(path.read_text()) and record["schema_version"] == 3
    assert record["identity"]["dataset_digest"] == read_manifest(twinned, TINY.name).digest
    assert record["views"]["view"] == [5] and record["views"]["images"] == [50]
    (row,) = read_certificates(tmp_path, TINY.name, "an8net").to_dict("records")
    assert row["certified"] == (row["reason"] == "") and row["images"] == 50
    part = next(one for one in record["kept"] if one["picture"] == "part_only")
    assert (row["probability"], row["probability_5"]) == (part["probability"], part["probability_5"])
    assert row["held_out"] == min(one["share"] for one in record["kept"] if one["held_out"])
    assert row["without"] == max(max(one["own"], one["largest"]) for one in record["without"])
    assert (row["necessity"], row["necessity_expected"], row["swap"]) == (0.5, 0.5, 1.0)
    assert passing(tmp_path, TINY.name, "an8net", {row["weights_sha256"]}).equals(
        passed := passing(tmp_path, TINY.name, "an8net")
    )
    with pytest.raises(ResultsError, match="no certificates of these models"):
        passing(tmp_path, TINY.name, "an8net", {"of another model"})
    assert list(passed.columns) == IMAGE and len(passed) == round(50 * row["passed"])
    assert passed["view"].eq(5).all() and not passed.duplicated().any()

    stamp = path.stat().st_mtime_ns
    assert certify_all(asked) == [record] and path.stat().st_mtime_ns == stamp
    path.with_suffix(".parquet").unlink()
    with pytest.raises(ResultsError, match=r"fold0.parquet is missing; run 'an8flower certify"):
        passing(tmp_path, TINY.name, "an8net")
    assert certify_all(asked) == [record]  # a board needs no table
    (again,) = certify_all(asked.with_(tables=True))
    assert path.stat().st_mtime_ns > stamp and again["shares"] == record["shares"]
    path.write_text(json.dumps(again | {"key": "of other weights", "reason": "old"}))
    assert certify_all(asked)[0]["reason"] == record["reason"]
    # An older certificate is read, but its limits were wider.
    older = {name: value for name, value in record.items() if name not in ("kept", "without", "digest")}
    path.write_text(json.dumps(with_digest(older | {"schema_version": 2, "certified": True, "reason": ""})))
    (row,) = read_certificates(tmp_path, TINY.name, "an8net").to_dict("records")
    assert not row["certified"] and "older release" in row["reason"] and np.isnan(row["held_out"])
    path.write_text("{}")
    with pytest.raises(ResultsError, match="is not a valid certificate"):
        read_certificates(tmp_path, TINY.name, "an8net")


def test_without_twins_it_says_what_to_run(data, checkpoints, tmp_path):
    with pytest.raises(DataFolderError, match=r"has no twins .* run 'an8flower generate .* --twins'"):
        certify_all(plan(data, checkpoints, tmp_path))


def test_twins_are_drawn_of_just_what_is_there(data, twinned, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "benchmark.certificate.certifying.generate", lambda *given, **more: asked.append((given, more))
    )
    draw_twins(twinned, TINY.name, workers=2)
    assert asked == []  # it has them
    draw_twins(data, TINY.name, workers=0)
    ((given, more),) = asked
    assert given == (data, TINY.name) and more["twins"] and more["workers"] == 1
    assert (more["viewpoints"], more["seed"], more["factors"]) == (VIEWS, 0, {})


@pytest.mark.slow
def test_a_run_certifies_if_the_plan_says_so(twinned, taught, without_covers, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "train_all", lambda *_, **__: {})
    monkeypatch.setattr(running, "measure_all", lambda *_, **__: [])
    monkeypatch.setattr(running, "_board", lambda *_: None)
    monkeypatch.setattr(running, "_pictures", lambda *_: ([], []))
    asked = plan(twinned, taught, tmp_path, recipes=("certified",))
    done = carry_out(asked)
    assert [record["certified"] for record in done.certificates] == [True]
    assert done.certificates[0]["recipe"] == "certified"
    assert list(done.seconds) == ["draw", "train", "certify", "measure", "picture"]
    done = carry_out(asked.with_(certificate=False))
    assert done.certificates == [] and "certify" not in done.seconds


@pytest.mark.slow
def test_the_command_exits_with_1_for_a_model_that_cheats(
    twinned, taught, patched, cheating, without_covers, tmp_path, monkeypatch
):
    # In this process, which knows what the fixture leaves out.
    monkeypatch.setattr("benchmark.cli.certifying.processes", lambda *_: 0)

    def certified(root, weights, *more):
        asked = ["--variant", TINY.name, "--root", str(root), "--checkpoints", str(weights), "--folds", "0"]
        folders = ["--results", str(tmp_path / root.name), *more]
        return CliRunner().invoke(app, ["certify", *asked, *folders])

    done = certified(patched, cheating)
    assert done.exit_code == 1, done.output
    assert "fold 0 is not certified: swapped: the class of the part is predicted for" in done.stdout
    assert "by picture, worst fold" in done.stdout and "- all_but_part" in done.stdout
    assert "certify tiny-2c an8net: 50/50 images" in done.stderr
    told = json.loads(certified(patched, cheating, "--json").stdout)
    assert told["certified"] is False and told["certificates"][0]["shares"]["necessity"] == 0
    done = certified(twinned, taught, "--recipe", "certified")
    assert done.exit_code == 0 and "yes" in done.stdout and "not certified" not in done.stdout
