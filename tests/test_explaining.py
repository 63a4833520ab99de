"""`explain` and `interpret` on a trained model, from Python and from the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import explainers
from an8flower import An8Flower
from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import DataFolderError
from benchmark import explain_with_features as explain
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import load_model, weights_path
from benchmark.why import interpretation_of, selection_of


@pytest.fixture(scope="module")
def checkpoint(checkpoints, tiny, tmp_path_factory):
    """Weights of fold 0, in a folder of their own: selections are written beside them."""
    source = weights_path(checkpoints, tiny.name, "an8net", 0)
    folder = tmp_path_factory.mktemp("explained")
    for path in (source, source.with_suffix(".json")):
        shutil.copy(path, folder)
    return folder / source.name


@pytest.fixture(scope="module")
def paths(data, tiny):
    images = data / tiny.name / "images"
    return [images / f"class{c}/class{c}_img5_p2_r3.png" for c in (1, 2)]


@pytest.mark.slow
def test_explains_as_the_explainer_on_the_dataset_does(data, tiny, checkpoint, paths, trained, test_set):
    explained = explain(paths, checkpoint, root=data)
    train = An8Flower(data, tiny.name, fold=0, split="train", size_px=112)
    vebi = explainers.get("vebi").fit(trained.model, TrainingBatches(train))
    table = test_set.table
    for k in range(2):
        chosen = (table["class"] == k + 1) & (table["crop"] == 2) & (table["rotation"] == 3)
        batch = next(test_set.where(chosen.to_numpy()).batches(1))
        assert torch.equal(explained.images[k], batch.images[0])
        assert torch.equal(explained.masks[k], batch.masks[0])
        with torch.no_grad():
            logits = trained.model(batch.images)
        predicted = logits.argmax(1)
        expected = vebi(trained.model, batch.images, predicted)[0]
        torch.testing.assert_close(explained.explanation.combined[k], expected, rtol=1e-4, atol=1e-5)
        facts = explained[k].facts()[0]
        assert facts["predicted"] == facts["target"] == explained.classes[int(predicted)]
        assert facts["confidence"] == pytest.approx(float(logits.softmax(1).max()))
        assert all(feature["relevance"] > 0 for feature in facts["features"])
    assert explained[-1].paths == (paths[1],) and len(explained.figure().axes) == 2 * 5


def test_selection_is_kept_beside_the_weights_and_made_again_for_others(data, checkpoint, paths, tmp_path):
    explain(paths[0], checkpoint, root=data)
    kept = checkpoint.with_suffix(".selection.json")
    before = kept.stat().st_mtime_ns
    explain(paths[0], checkpoint, root=tmp_path)  # no dataset needed any more
    assert kept.stat().st_mtime_ns == before
    for damage in ("{", json.dumps(json.loads(kept.read_text()) | {"weights_sha256": "other"})):
        kept.write_text(damage)
        with pytest.raises(UnknownNameError, match="unknown variant 'tiny-2c'"):  # it is not in tmp_path
            explain(paths[0], checkpoint, root=tmp_path)
        assert selection_of(load_model(checkpoint), checkpoint, data).features
        explain(paths[0], checkpoint, root=tmp_path)


def test_another_class_can_be_asked_for_by_name_or_number(data, checkpoint, paths):
    by_name = explain(paths[0], checkpoint, root=data, target="blue petals")
    by_number = explain(str(paths[0]), checkpoint, root=data, target=1)
    assert by_name.facts() == by_number.facts()
    assert by_name.facts()[0]["target"] != by_name.facts()[0]["predicted"]
    with pytest.raises(
        ValueError, match="unknown class 'pink'; known are red petals, blue petals, or the numbers 0 to 1"
    ):
        explain(paths[0], checkpoint, root=data, target="pink")
    with pytest.raises(ValueError, match="'grad_cam' does not explain through selected features; these do"):
        explain(paths[0], checkpoint, root=data, explainer="grad_cam")


def test_pictures_of_any_size_and_kind_are_taken(data, checkpoint, paths, tmp_path):
    with Image.open(paths[0]) as picture:
        wide = Image.new("RGB", (400, 250), "gray")
        wide.paste(picture, (75, 0))
        wide.save(tmp_path / "wide.png")
        picture.convert("RGBA").save(tmp_path / "alpha.png")
        picture.convert("L").save(tmp_path / "gray.jpg")
    plain = explain(paths[0], checkpoint, root=data)
    taken = explain(
        [tmp_path / name for name in ("wide.png", "alpha.png", "gray.jpg")], checkpoint, root=data
    )
    assert torch.equal(taken.images[0], plain.images[0]) and torch.equal(taken.images[1], plain.images[0])
    assert taken.masks == (None, None, None) and plain.masks[0] is not None
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataFolderError, match=r"text\.png is not a readable image"):
        explain(tmp_path / "text.png", checkpoint, root=data)
    with pytest.raises(DataFolderError, match=r"image .*nothing\.png does not exist"):
        explain(tmp_path / "nothing.png", checkpoint, root=data)


def test_command_writes_a_picture_and_facts_for_each_image(called, data, checkpoint, paths, tmp_path):
    done = called(
        "explain", *paths, "--checkpoint", checkpoint, "--root", data, "--out", tmp_path / "why", "--json"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["explanations"]
    assert [fact["image"] for fact in facts] == [str(path) for path in paths]
    names = {path.name for path in (tmp_path / "why").iterdir()}
    assert names == {f"{p.stem}.{kind}" for p in paths for kind in ("png", "json")} | {"all.png"}
    written = json.loads((tmp_path / "why" / f"{paths[0].stem}.json").read_text())
    assert written["features"] == facts[0]["features"]
    with Image.open(tmp_path / "why/all.png") as sheet:
        assert np.asarray(sheet).std() > 10


def test_command_says_what_is_wrong_in_one_line(called, data, checkpoint, paths, tmp_path):
    done = called("explain", paths[0], "--checkpoint", tmp_path / "none.safetensors", "--root", data)
    assert done.returncode == 1 and "no trained model at" in done.stderr
    assert done.stderr.count("\n") == 1
    done = called("explain", paths[0], "--checkpoint", checkpoint, "--root", data, "--target", "7")
    assert done.returncode == 1 and "unknown class '7'" in done.stderr


def test_command_draws_what_features_look_for(called, data, checkpoint, tmp_path):
    out = tmp_path / "seen"
    done = called("interpret", "--checkpoint", checkpoint, "--root", data, "--top-images", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        "overview.png", "selection.png", "class1.png", "class2.png", "features.json",
    }  # fmt: skip
    features = json.loads((out / "features.json").read_text())["features"]
    found, selection, classes = interpretation_of(checkpoint, root=data, top=5)
    assert len(features) == len(found) == len(selection.features)
    assert {row["class"] for row in features} == set(classes)
    assert [row["images"] for row in features] == [list(one.images) for one in found]
    assert all(len(row["images"]) == 5 for row in features)
