"""The gate: maps of known models move, or do not; its file; its column on a board."""

from __future__ import annotations

import json
from dataclasses import replace

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
from benchmark.gates.moving import _apart, gate
from benchmark.gates.records import gate_path, read_gate, read_gates, write_gate
from benchmark.gates.rows import Gate, GateRow
from benchmark.store import ResultsError
from explainers import explainer, registry
from explainers.isolation import RemoteMethod

ABOUT = {"variant": "single-6c", "model": "an8net", "recipe": "cheat_patch", "honest": "certified", "fold": 0}
NAN = float("nan")
FOUND = Gate(
    300, 0.98, 0.01,
    (GateRow("vebi", 0.02, 0.9), GateRow("grad_cam", 0.1, 0.45), GateRow("sobel", NAN, NAN, "it broke")),
)  # fmt: skip


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

    told = []
    with registry.temporarily():
        explainer(source="tests")(test_gradient)
        explainer(source="tests")(test_broken)
        named = [methods.get(name) for name in ("test_gradient", "sobel", "test_broken")]
        found = gate(honest, cheating, patched, (patched, patched), named, images=20, done=told.append)
    assert (found.images, found.follows, found.honest_follows, len(told)) == (4, 1.0, 0.0, 3)
    moves, stays, fails = found.rows
    assert moves.honest < 0.05 and moves.cheating > 0.95 and moves.passed
    assert stays.moved == pytest.approx(0, abs=1e-9) and not stays.passed
    assert fails.reason == "RuntimeError: it broke" and not fails.passed


def test_a_foreign_method_runs_in_a_process_of_its_own():
    foreign = methods.get("captum:Saliency")
    with _apart(foreign, None, None) as apart:
        assert isinstance(apart.method, RemoteMethod)
    own = methods.get("gradient")
    with _apart(own, None, None) as same:
        assert same is own


def test_a_gate_is_read_as_written(tmp_path):
    path = gate_path(tmp_path, "single-6c", "an8net", "cheat_patch")
    write_gate(path, FOUND, ABOUT)
    found, about = read_gate(path)
    assert found.rows[:2] == FOUND.rows[:2] and found.rows[2].reason == "it broke"
    assert np.isnan(found.rows[2].moved) and (found.follows, about["honest"]) == (0.98, "certified")


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
    path = gate_path(tmp_path, "single-6c", "an8net", "cheat_patch")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(change(write_gate(path, FOUND, ABOUT))))
    with pytest.raises(ResultsError, match=reason) as caught:
        read_gate(path)
    assert "\n" not in str(caught.value)
    assert read_gates(tmp_path, "single-6c", "an8net")[1] == (str(caught.value),)


def test_a_gate_of_other_models_is_not_used(tmp_path):
    path = gate_path(tmp_path, "single-6c", "an8net", "cheat_pot")
    write_gate(path, FOUND, ABOUT)
    with pytest.raises(ResultsError, match="is the gate of other models"):
        read_gate(path)


def test_a_gate_that_was_not_measured_hides_no_other(tmp_path):
    names = {"cheat_patch": float("nan"), "cheat_pot": 0.75}
    for recipe, cheating in names.items():
        found = replace(FOUND, rows=(GateRow("vebi", 0.25, cheating),))
        write_gate(gate_path(tmp_path, "single-6c", "an8net", recipe), found, ABOUT | {"recipe": recipe})
    rows, notes = with_gates(pd.DataFrame({"explainer": ["vebi"]}), tmp_path, "single-6c", "an8net")
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
    write_gate(gate_path(tmp_path, "single-6c", "an8net", "cheat_patch"), found, ABOUT)
    rows, (note,) = with_gates(pd.DataFrame({"explainer": ["vebi"]}), tmp_path, "single-6c", "an8net")
    assert "gate" not in rows and reason in note and FOUND.fault == ""


def test_a_board_shows_the_gate(tmp_path):
    write_one_board(tmp_path, ["vebi", "grad_cam", "sobel", "random"])
    assert "gate" not in leaderboard(tmp_path, "single-6c").rows
    write_gate(gate_path(tmp_path, "single-6c", "an8net", "cheat_patch"), FOUND, ABOUT)
    pot = replace(FOUND, rows=(GateRow("vebi", 0.1, 0.7),))
    write_gate(gate_path(tmp_path, "single-6c", "an8net", "cheat_pot"), pot, ABOUT | {"recipe": "cheat_pot"})
    board = leaderboard(tmp_path, "single-6c")
    gates = board.rows.set_index("explainer")["gate"]
    assert gates["vebi"] == pytest.approx(60) and gates["grad_cam"] == pytest.approx(35)
    assert gates[["sobel", "random"]].isna().all()
    text = to_markdown(board, "an8flower leaderboard")
    assert "| 60 ✓ |" in text and "| 35 ✗ |" in text
    gate_path(tmp_path, "single-6c", "an8net", "cheat_pot").write_text("[")
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
