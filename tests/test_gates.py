"""The gate: maps of known models move, or do not; its file; its column on a board."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from synthetic_results import write_one_board
from torch import nn
from typer.testing import CliRunner

import explainers as methods
from an8flower import An8Flower, generate
from benchmark.board.gates import with_gates
from benchmark.board.rows import leaderboard
from benchmark.board.text import to_markdown
from benchmark.cli import app
from benchmark.gates.moving import Pair, _apart, measured, opened
from benchmark.gates.records import gate_path, read_gate, read_gates, write_gate
from benchmark.gates.rows import Gate, GateRow
from benchmark.setups import Setup
from benchmark.store import ResultsError
from explainers import explainer, registry
from explainers.isolation import RemoteMethod

CODE = "2" * 64  # of the methods of `write_one_board`, too
NAN = float("nan")
FOUND = Gate(
    300, 0.98, 0.01, 290,
    (
        GateRow("vebi", 0.02, 0.9, CODE), GateRow("grad_cam", 0.1, 0.45, CODE),
        GateRow("sobel", NAN, NAN, CODE, "it broke"),
    ),
)  # fmt: skip


def written(folder, found=FOUND, recipe="cheat_patch", fold=0, at=None):
    """Write a gate, and return its path and content."""
    cheating = Setup("single-6c", "an8net", 0, fold, recipe)
    identity = {
        **asdict(cheating), "honest": "certified", "weights_sha256": "a" * 64,
        "honest_weights_sha256": "b" * 64, "dataset_digest": "d" * 64,
    }  # fmt: skip
    path = gate_path(folder, at or cheating)
    return path, write_gate(path, found, identity, {"command": "an8flower gate"})


class Sees(nn.Module):
    """Tells the class from the mean colour of the pixels of a square, which is where its gradient is."""

    def __init__(self, colours, place):
        super().__init__()
        self.register_buffer("colours", torch.tensor(colours, dtype=torch.float32) / 255)
        self.place = place

    def forward(self, images):
        top, bottom, left, right = self.place
        seen = images[:, :, top:bottom, left:right].flatten(2).mean(2)
        return -((seen[:, None] - self.colours) ** 2).sum(2)


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    root = tmp_path_factory.mktemp("patched")
    generate(root, TINY, viewpoints=[1, 6], factors={"cheat": "patch"}, workers=1)
    whole = An8Flower(root, TINY.name, size_px=112, target=("label", "plant", "cheat"))
    # In one crop and rotation, the patch is at the same place in all images.
    return whole.where((whole.table["crop"] == 5) & (whole.table["rotation"] == 1))


@pytest.mark.slow
def test_a_map_of_what_the_model_sees_moves_and_a_map_of_the_image_does_not(patched):
    batch = next(patched.batches(len(patched)))
    cheat, part = batch.cheat_masks.float().mean(0), batch.masks.float().mean(0)

    def place(mask):
        rows, columns = (torch.nonzero(mask.amax(axis) > 0.5).flatten() for axis in (1, 0))
        return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1

    def colours(masks):
        return [
            (255 * (batch.images * masks[:, None])[batch.labels == k].sum((0, 2, 3))
             / masks[batch.labels == k].sum()).tolist()
            for k in range(2)
        ]  # fmt: skip

    honest = Sees(colours(batch.masks), place(part))
    cheating = Sees(colours(batch.cheat_masks), place(cheat))

    def test_gradient(model, images, targets):
        images = images.clone().requires_grad_()
        model(images).gather(1, targets[:, None]).sum().backward()
        return images.grad.abs().amax(1)

    def test_broken(model, images, targets):
        raise RuntimeError("it broke")

    pair = Pair(honest, cheating, patched, patched, patched)
    found, rows = opened(pair, images=20)
    assert (found.images, found.follows, found.honest_follows, found.explained) == (4, 1.0, 0.0, 4)

    def test_even(model, images, targets):
        return torch.ones(images[:, 0].shape)

    with registry.temporarily():
        for function in (test_gradient, test_even, test_broken):
            explainer(source="tests")(function)
        moves, stays, even, fails = (
            measured(methods.get(name), pair, rows)
            for name in ("test_gradient", "sobel", "test_even", "test_broken")
        )
    assert moves.honest < 0.05 and moves.cheating > 0.95 and moves.passed
    assert stays.moved == pytest.approx(0, abs=1e-9) and not stays.passed
    assert fails.reason == "RuntimeError: it broke" and not fails.passed
    # A map that is equal everywhere prefers neither, although one has more pixels than the other.
    sizes = batch.masks.sum() / batch.cheat_masks.sum()
    assert abs(sizes - 1) > 0.1
    assert even.honest == pytest.approx(0.5) and even.cheating == pytest.approx(0.5)


def test_a_foreign_method_runs_in_a_process_of_its_own():
    foreign = methods.get("captum:Saliency")
    with _apart(foreign, None, None) as apart:
        assert isinstance(apart.method, RemoteMethod)
    own = methods.get("gradient")
    with _apart(own, None, None) as same:
        assert same is own


def test_a_gate_is_read_as_written(tmp_path):
    found, identity = read_gate(written(tmp_path)[0])
    assert found.rows[:2] == FOUND.rows[:2] and found.rows[2].reason == "it broke"
    assert np.isnan(found.rows[2].moved) and (found.follows, identity["honest"]) == (0.98, "certified")
    assert found.explained == 290


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content | {"follows": 0.5}, "digest"),
        (lambda content: {name: v for name, v in content.items() if name != "rows"}, "not a valid gate"),
        (lambda content: [], "schema version"),
        (lambda content: content | {"schema_version": 9}, "schema version"),
    ],
)
def test_an_altered_gate_is_one_line(tmp_path, change, reason):
    path, content = written(tmp_path)
    path.write_text(json.dumps(change(content)))
    with pytest.raises(ResultsError, match=reason) as caught:
        read_gate(path)
    assert "\n" not in str(caught.value)
    assert read_gates(tmp_path, "single-6c", "an8net")[1] == (str(caught.value),)


def test_a_gate_of_other_models_is_not_used(tmp_path):
    path, _ = written(tmp_path, at=Setup("single-6c", "an8net", 0, 0, "cheat_pot"))
    with pytest.raises(ResultsError, match="is the gate of other models"):
        read_gate(path)


def shown(folder, code=CODE):
    """The row of vebi with its gate."""
    records = [SimpleNamespace(explainer="vebi", identity={"code_sha256": code})]
    return with_gates(pd.DataFrame({"explainer": ["vebi"]}), records, folder, "single-6c", "an8net")


def test_a_gate_is_the_mean_of_folds_and_only_of_the_present_code(tmp_path):
    for fold, cheating in enumerate((0.8, 0.6)):
        written(tmp_path, replace(FOUND, rows=(GateRow("vebi", 0.2, cheating, CODE),)), fold=fold)
    assert shown(tmp_path)[0]["gate"].tolist() == [pytest.approx(50)]
    assert "gate" not in shown(tmp_path, code="e" * 64)[0]


def test_a_gate_that_was_not_measured_hides_no_other(tmp_path):
    names = {"cheat_patch": float("nan"), "cheat_pot": 0.75}
    for recipe, cheating in names.items():
        written(tmp_path, replace(FOUND, rows=(GateRow("vebi", 0.25, cheating, CODE),)), recipe)
    rows, notes = shown(tmp_path)
    assert (rows["gate"].tolist(), notes) == ([50.0], ())


@pytest.mark.parametrize(
    ("follows", "honest_follows", "reason"),
    [
        (0.2, 0, "cheating model follows the cheat on only 20%"),
        (0.9, 0.6, "honest model follows the cheat on 60%"),
    ],
)
def test_models_that_are_no_test_judge_no_method(tmp_path, follows, honest_follows, reason):
    found = replace(FOUND, follows=follows, honest_follows=honest_follows)
    written(tmp_path, found)
    rows, (note,) = shown(tmp_path)
    assert "gate" not in rows and reason in note and FOUND.fault == ""


def test_a_board_shows_the_gate(tmp_path):
    write_one_board(tmp_path, ["vebi", "grad_cam", "sobel", "random"])
    assert "gate" not in leaderboard(tmp_path, "single-6c").rows
    written(tmp_path)
    pot, _ = written(tmp_path, replace(FOUND, rows=(GateRow("vebi", 0.1, 0.7, CODE),)), "cheat_pot")
    board = leaderboard(tmp_path, "single-6c")
    gates = board.rows.set_index("explainer")["gate"]
    assert gates["vebi"] == pytest.approx(60) and gates["grad_cam"] == pytest.approx(35)
    assert gates[["sobel", "random"]].isna().all()
    text = to_markdown(board, "an8flower leaderboard")
    assert "| 60 ✓ |" in text and "| 35 ✗ |" in text
    pot.write_text("[")
    board = leaderboard(tmp_path, "single-6c")
    assert board.rows.set_index("explainer")["gate"]["vebi"] == pytest.approx(88)
    assert any("left out: a gate: " in note for note in board.notes)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--recipe", "plain"], "the recipe 'plain' has no cheat; those that have are cheat_patch"),
        (["--recipe", "suppressor"], "no cheat; those that have are cheat_patch, cheat_patch_80, cheat_pot"),
        (["--honest", "cheat_pot"], "the recipe 'cheat_pot' of the honest model has a cheat; those without"),
        (["--recipe", "cheat_path"], "unknown recipe 'cheat_path'; did you mean 'cheat_patch'"),
    ],
)
def test_a_recipe_without_a_cheat_is_one_clear_line(arguments, reason):
    outcome = CliRunner().invoke(app, ["gate", *arguments])
    assert reason in str(outcome.exception)
