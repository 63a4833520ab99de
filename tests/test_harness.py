"""The measuring loop, its records and the board built from them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import explainers
from an8flower import An8Flower
from an8flower.ground.digest import with_digest
from an8flower.ground.registry import UnknownNameError
from benchmark import evaluate, leaderboard
from benchmark.board.figures import curves, heatmap_grid
from benchmark.board.text import to_markdown, write_board
from benchmark.metrics import iou_auc, iou_curve
from benchmark.record import to_json
from benchmark.store import ResultsError, key, read_record
from explainers.base import ExplainerSpec
from explainers.conformance.limits import PrintedWarning

FOLDS = [0, 1]
FLOORS = ["grad_cam", "random", "oracle"]


@pytest.fixture
def go(data, tiny, checkpoints, tmp_path):
    """evaluate() with the shared data and models; returns its records."""

    def evaluated(names=FLOORS, **arguments):
        arguments = {"folds": FOLDS, "results": tmp_path, "checkpoints": checkpoints, **arguments}
        return evaluate(data, tiny.name, explainers=names, **arguments)

    return evaluated


@pytest.fixture
def plugged():
    """Register explainers for one test."""
    with ExitStack() as stack:

        def plug(name, build, **declared):
            spec = ExplainerSpec(name, build, "tests", **declared)
            stack.enter_context(explainers.registry.temporarily(spec))

        yield plug


@pytest.mark.slow
def test_a_record_and_a_table_a_cell(go, tmp_path, tiny, trained, test_set):
    records = go()
    assert [(record.explainer, record.fold) for record in records] == [(e, f) for e in FLOORS for f in FOLDS]
    record = records[0]
    assert record.status == "ok" and record.layer == "relu3" and record.images == 50
    assert record.invalid == record.undefined == 0
    assert record.identity["weights_sha256"] == trained.record["weights_sha256"]
    assert record.identity["parameters"] == {"layer": "last_conv"}
    assert record.cost["ms_per_image"] > 0 and record.cost["forward_passes"] == 1 and record.versions["torch"]

    scores = pd.read_parquet(tmp_path / tiny.name / "an8net/scores/grad_cam/fold0.parquet")
    maps, masks = [], []
    for batch in test_set.batches(7):  # another batch size, the same scores
        predicted = trained.model(batch.images).argmax(1)
        maps.append(explainers.get("grad_cam")(trained.model, batch.images, predicted))
        masks.append(batch.masks)
    maps, masks = torch.cat(maps).numpy(), torch.cat(masks).numpy()
    np.testing.assert_allclose(scores["iou_auc"], iou_auc(maps, masks), atol=1e-5)
    assert record.scores["iou_auc"] == pytest.approx(scores["iou_auc"].mean(), abs=1e-12)
    np.testing.assert_allclose(record.curve, iou_curve(maps, masks).mean(axis=0), atol=1e-4)
    assert (scores["view"] == 5).all() and sorted(scores["class"].unique()) == [1, 2]
    assert records[-1].scores["iou_auc"] == 1


def test_every_field_of_a_record_is_documented(go):
    documented = set(re.findall(r"`(\w+)`", (Path(__file__).parents[1] / "docs/results.md").read_text()))
    (record,) = go(["grad_cam"], folds=[0])
    fields = {*to_json(record), *record.identity, *record.cost, *record.timing, *record.host}
    assert fields - documented == set()


@pytest.mark.slow
def test_done_cells_are_kept_and_changed_ones_redone(go, tmp_path, tiny, checkpoints, monkeypatch):
    first = go()
    assert [record.finished for record in go()] == [record.finished for record in first]
    monkeypatch.setattr("benchmark.measuring.identity.PROTOCOL_VERSION", 2)
    changed = go(["oracle"])
    assert changed[0].key != first[-2].key
    monkeypatch.undo()
    go(["oracle"])
    (tmp_path / tiny.name / "an8net/scores/oracle/fold1.parquet").unlink()
    kept = go(["oracle"])[1]  # a board needs no table
    assert not (tmp_path / tiny.name / "an8net/scores/oracle/fold1.parquet").exists()
    again = go(["oracle"], tables=True)[1]
    assert (tmp_path / tiny.name / "an8net/scores/oracle/fold1.parquet").exists()
    assert again.scores == kept.scores
    # Other weights, other keys.
    other = tmp_path / "checkpoints"
    shutil.copytree(checkpoints, other)
    record = other / tiny.name / "an8net/fold0.json"
    weights = other / tiny.name / "an8net/fold1.safetensors"
    (other / tiny.name / "an8net/fold0.safetensors").write_bytes(weights.read_bytes())
    content = json.loads(record.read_text())
    content["weights_sha256"] = json.loads(weights.with_suffix(".json").read_text())["weights_sha256"]
    record.write_text(json.dumps(with_digest(content)))
    assert go(["random"], checkpoints=other, folds=[0])[0].key != first[2].key


@pytest.mark.slow
def test_one_failing_explainer_does_not_lose_the_others(go, plugged, tmp_path, tiny):
    def raises(model, images, targets):
        raise RuntimeError("out of\nideas")

    def wrong_shape(model, images, targets):
        return torch.zeros(len(images), 3, 3)

    def not_a_number(model, images, targets):
        heatmaps = images.mean(1)
        heatmaps[::2, 0, 0] = float("nan")
        return heatmaps

    plugged("raises", raises)
    plugged("wrong_shape", wrong_shape)
    plugged("not_a_number", not_a_number)
    records = {(r.explainer, r.fold): r for r in go(["raises", "wrong_shape", "not_a_number", "random"])}
    assert records["raises", 0].status == records["wrong_shape", 1].status == "failed"
    assert records["raises", 1].reason == "RuntimeError: out of ideas"
    reason = "explainer 'wrong_shape' fails 'shape': it returned (32, 3, 3), not (32, 112, 112)"  # a piece
    assert records["wrong_shape", 0].reason == reason
    assert records["not_a_number", 0].invalid == 25
    assert records["random", 1].status == "ok"

    board = leaderboard(tmp_path, tiny.name)
    rows = board.rows.set_index("explainer")
    assert rows.loc["raises", "folds"] == 0 and "out of" in rows.loc["raises", "failed"]
    assert rows.loc["not_a_number", "invalid"] == 50
    assert "| raises | method |  | failed |" in to_markdown(board, "x")
    # A failed cell waits to be asked for again, unless what determines it has changed.
    plugged("raises", lambda model, images, targets: images.mean(1))
    assert go(["raises"])[0].status == "failed"
    assert go(["raises"], retry_failed=True)[0].status == "ok"


@pytest.mark.slow
def test_methods_that_hang_exit_or_take_all_memory_are_named_and_the_others_go_on(go, plugged):
    def hangs(model, images, targets):
        while True:
            time.sleep(0.01)

    def leaves(model, images, targets):
        sys.exit(3)

    def prunes(model, images, targets):
        model.conv1.weight.data.mul_(0.5)
        return images.mean(1)

    def swells(model, images, targets):
        return torch.zeros(len(images), 4 * 2**30)

    bad = {
        "hangs": "time",
        "prunes": "model",
        "swells": "memory",
        "leaves": "it called sys.exit(3)",
    }
    for build in (hangs, leaves, prunes, swells):
        plugged(build.__name__, build)
    records = {r.explainer: r for r in go([*bad, "grad_cam"], folds=[0], limit_s=5, limit_gib=2)}
    assert records.pop("grad_cam").status == "ok"
    for name, record in records.items():
        assert record.status == "failed" and bad[name] in record.reason, record.reason


def test_a_method_that_prints_is_measured_with_a_warning(go, plugged, capsys, monkeypatch):
    monkeypatch.setattr("explainers.conformance.limits._warned", set())

    def prints(model, images, targets):
        print("hello")  # noqa: T201
        return images.mean(1)

    plugged("prints", prints)
    with pytest.warns(PrintedWarning, match="explainer 'prints' printed 'hello'; use logging") as warned:
        (record,) = go(["prints"], folds=[0])
    assert record.status == "ok" and len(warned) == 1
    assert "hello" not in capsys.readouterr().out


@pytest.mark.slow
def test_one_name_stands_for_all_layers_with_a_map(go):
    records = go(["grad_cam@all", "random"], folds=[0])
    spatial = ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "pool3"]
    assert [r.explainer for r in records] == [*(f"grad_cam@{layer}" for layer in spatial), "random"]
    assert [r.layer for r in records[:-1]] == spatial
    named = go(["grad_cam@relu3", "grad_cam"], folds=[0])
    assert named[0].scores == named[1].scores and named[0].key == records[7].key


@pytest.mark.slow
def test_floors_and_ceilings_are_handed_the_truth(go, data, tiny):
    names = ["train_mean_mask", "plant_mask", "oracle_lowres", "oracle", "random"]
    records = {r.explainer: r for r in go(names, folds=[0])}
    scores = {name: record.scores["iou_auc"] for name, record in records.items()}
    train = An8Flower(data, tiny.name, fold=0, split="train", size_px=112)
    test = An8Flower(data, tiny.name, fold=0, split="test", target="plant", size_px=112)
    masks = next(test.batches(50)).masks
    mean = next(train.batches(200)).masks.float().mean(0).expand(50, -1, -1).numpy()
    assert scores["train_mean_mask"] == pytest.approx(iou_auc(mean, masks.numpy()).mean(), abs=1e-6)
    plants = torch.stack([test[k][1] for k in range(50)])
    shared = (plants & masks).sum((1, 2)) / (plants | masks).sum((1, 2))
    assert scores["plant_mask"] == pytest.approx(float(shared.mean()), abs=1e-6)
    assert scores["random"] < scores["train_mean_mask"] < scores["oracle_lowres"] < scores["oracle"] == 1
    assert records["oracle_lowres"].layer == "relu3" and records["oracle_lowres"].resize


@pytest.mark.slow
def test_a_method_that_learns_sees_the_training_fold_alone(go, plugged, data, tiny):
    class mean_map:  # noqa: N801
        def __init__(self, *, power: float = 1.0):
            self.power = power

        def fit(self, model, loader):
            images = torch.cat([images for images, _ in loader])
            assert len(images) == len(torch.cat([labels for _, labels in loader])) == 200
            self.mean = images.mean((0, 1)) ** self.power
            return self

        def __call__(self, model, images, targets):
            return self.mean.expand(len(images), -1, -1)

    plugged("mean_map", mean_map, needs_fit=True)
    records = go(["mean_map"])
    assert [record.status for record in records] == ["ok", "ok"]
    for fold, record in enumerate(records):
        train, test = (
            next(An8Flower(data, tiny.name, fold=fold, split=split, size_px=112).batches(200))
            for split in ("train", "test")
        )
        maps = train.images.mean((0, 1)).expand(50, -1, -1)
        expected = iou_auc(maps.numpy(), test.masks.numpy()).mean()
        assert record.scores["iou_auc"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.slow
def test_board_is_mean_and_sample_deviation_over_folds(go, tmp_path, tiny):
    records = go()
    board = leaderboard(tmp_path, tiny.name)
    assert board.rows["explainer"].tolist() == ["grad_cam", "random", "oracle"]
    scores = [100 * r.scores["iou_auc"] for r in records if r.explainer == "grad_cam"]
    row = board.rows.iloc[0]
    assert row["iou_auc"] == pytest.approx(np.mean(scores))
    assert row["iou_auc_std"] == pytest.approx(abs(scores[0] - scores[1]) / np.sqrt(2))
    assert row["images"] == 100 and row["folds"] == 2 and row["layer"] == "relu3"
    oracle, chance = board.rows.iloc[2], board.rows.iloc[1]
    assert oracle["iou_auc"] == 100 and chance["iou_auc"] < row["iou_auc"] < oracle["iou_auc"]
    assert len(board.accuracy) == 2

    csv, markdown, _ = write_board(board, tmp_path, "an8flower leaderboard")
    assert pd.read_csv(csv)["iou_auc"].tolist() == pytest.approx(board.rows["iou_auc"].tolist(), abs=1e-4)
    assert f"| grad_cam | method | relu3 | {row['iou_auc']:.1f} ± " in markdown.read_text()
    assert "`an8flower leaderboard`" in markdown.read_text()


@pytest.mark.slow
def test_pictures_are_drawn(go, data, tiny, checkpoints, tmp_path):
    from skimage.io import imread

    go()
    drawn = [
        curves(leaderboard(tmp_path, tiny.name), tmp_path / "curves.png"),
        heatmap_grid(data, tiny.name, "an8net", tmp_path / "grid.png", checkpoints=checkpoints, rows=3),
    ]
    for path in drawn:
        image = imread(path)
        assert min(image.shape[:2]) > 300 and len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 50


@pytest.mark.slow
def test_a_disk_that_is_full_is_nobodys_failed_row(go, monkeypatch):
    def full(cell, record, scores):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmark.store.write", full)
    with pytest.raises(OSError, match="No space left"):
        go(["random"])


def test_bad_requests_are_told(go, data, tiny, checkpoints, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown explainer 'gradcam'; did you mean 'grad_cam'"):
        go(["gradcam"])
    with pytest.raises(UnknownNameError, match="unknown parameter of explainer 'grad_cam': 'layers'"):
        explainers.get("grad_cam", layers="conv1")
    with pytest.raises(ValueError, match="fold 7 does not exist"):
        go(folds=[7])
    with pytest.raises(ResultsError, match=r"no records of an8net .*; run 'an8flower evaluate"):
        leaderboard(tmp_path, tiny.name)


def test_weights_of_other_folds_or_data_are_refused(go):
    with pytest.raises(ResultsError, match="trained on other data or folds; run 'an8flower train"):
        go(scheme="blocks", folds=[0])


@pytest.mark.slow
def test_broken_or_mixed_records_are_told(go, tmp_path, tiny):
    go()
    record = tmp_path / tiny.name / "an8net/records/random/fold0.json"
    content = json.loads(record.read_text())
    content["identity"]["dataset_digest"] = "f" * 64
    record.write_text(json.dumps(with_digest(content | {"key": key(content["identity"])})))
    board = leaderboard(tmp_path, tiny.name)
    assert board.rows.set_index("explainer")["folds"].to_dict() == {"grad_cam": 2, "random": 1, "oracle": 2}
    assert [(one.what, one.folds, one.reason) for one in board.source.left_out] == [
        (("random",), " (fold 0)", "measured on other data")
    ]
    record.write_text(json.dumps({**content, "schema_version": 0}))
    with pytest.raises(ResultsError, match="schema_version must be from 1 to 4"):
        read_record(record)
    record.write_text("[")
    failed = leaderboard(tmp_path, tiny.name).rows.set_index("explainer")["failed"]
    assert f"{record} is not a valid record" in failed["random"] and failed["oracle"] == ""
