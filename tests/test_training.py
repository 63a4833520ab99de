"""Training and the weights on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import safetensors
import torch
from conftest import copy_dataset
from torch import nn
from waiting import until

from an8flower import An8Flower
from an8flower.ground import files
from an8flower.ground.digest import with_digest
from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import read_manifest
from benchmark.models import ModelSpec, SubtractMean, models
from benchmark.training import fitting, trainer
from benchmark.training.figure import training_curves
from benchmark.training.fitting import accuracy, fit_and_validation
from benchmark.training.recipes import Recipe
from benchmark.training.state import partial_path
from benchmark.training.trainer import train, trained_record
from benchmark.training.weights import WeightsError, load_model, weights_path

# Never enough, so that all epochs are trained.
THREE = Recipe(epochs=3, batch=25, enough_loss=0)


def test_learns_and_records_how(trained, test_set):
    record = trained.record
    assert record["test_accuracy"] == accuracy(trained.model, test_set) >= 0.995
    assert 1 <= record["epochs"] == len(record["curve"]) <= 12
    assert record["curve"][-1]["train_loss"] < record["curve"][0]["train_loss"] or record["epochs"] == 1
    assert record["identity"]["seed"] == 0 and record["identity"]["recipe"]["epochs"] == 12
    assert record["versions"]["torch"] and len(record["weights_sha256"]) == 64
    assert not trained.model.training


def test_the_mean_is_that_of_the_training_fold(trained, data, tiny):
    training = An8Flower(data, tiny.name, fold=0, split="train", size_px=112)
    images = torch.cat([batch.images for batch in training.batches(50)])
    torch.testing.assert_close(trained.model.mean.mean, images.mean(0), rtol=0, atol=1e-5)


def test_loads_what_was_saved(trained, data, tiny, checkpoints, test_set):
    loaded = load_model(weights_path(checkpoints, tiny.name, "an8net", 0))
    batch = next(test_set.batches(5))
    torch.testing.assert_close(loaded.model(batch.images), trained.model(batch.images))
    assert loaded.record == trained.record


@pytest.mark.slow
def test_done_work_is_kept_and_other_work_is_not(trained, data, tiny, checkpoints, tmp_path):
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    path = weights_path(tmp_path, tiny.name, "an8net", 0)
    stamp = path.stat().st_mtime_ns
    train(
        data, tiny.name, fold=0, checkpoints=tmp_path, recipe=Recipe(**trained.record["identity"]["recipe"])
    )
    assert path.stat().st_mtime_ns == stamp
    other = train(data, tiny.name, fold=0, checkpoints=tmp_path, recipe=Recipe(epochs=1))
    assert path.stat().st_mtime_ns > stamp
    assert other.record["epochs"] == 1


def test_another_seed_lies_beside(trained, data, tiny, checkpoints, tmp_path):
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    before = weights_path(tmp_path, tiny.name, "an8net", 0).read_bytes()
    one = train(data, tiny.name, fold=0, checkpoints=tmp_path, recipe=Recipe(epochs=1), seed=1)
    path = weights_path(tmp_path, tiny.name, "an8net", 0, seed=1)
    assert load_model(path).record == one.record
    assert one.record["identity"]["seed"] == 1
    assert weights_path(tmp_path, tiny.name, "an8net", 0).read_bytes() == before
    manifest = read_manifest(data, tiny.name)
    known = trained_record(path, manifest, "an8net", fold=0, seed=1, recipe=Recipe(epochs=1))
    assert known == one.record
    assert trained_record(path, manifest, "an8net", fold=0, seed=1) is None
    assert trained_record(path.with_stem("fold3"), manifest, "an8net", fold=3) is None


@pytest.mark.slow
def test_same_seed_same_weights_and_no_global_randomness(data, tiny, tmp_path):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    hashes = []
    for name in ("a", "b"):
        one = train(data, tiny.name, fold=2, checkpoints=tmp_path / name, recipe=Recipe(epochs=1))
        hashes.append(one.record["weights_sha256"])
    assert hashes[0] == hashes[1]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_altered_weights_and_records_are_refused(data, tiny, checkpoints, tmp_path):
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    path = weights_path(tmp_path, tiny.name, "an8net", 0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not the file that its record describes"):
        load_model(path)
    record = path.with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema_version": 7}))
    with pytest.raises(WeightsError, match="another schema version than 1 to 2"):
        load_model(path)
    record.write_text("{")
    with pytest.raises(WeightsError, match="is not a valid record of the weights"):
        load_model(path)
    with pytest.raises(WeightsError, match="run 'an8flower train' first"):
        load_model(tmp_path / "nothing.safetensors")


def test_unknown_model_is_named(data, tiny, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown model 'an8nett'; did you mean 'an8net'"):
        train(data, tiny.name, "an8nett", fold=0, checkpoints=tmp_path)


class Stop(BaseException):
    """Not one that anybody catches, like Ctrl-C."""


def stopped_after(monkeypatch, steps):
    """Raise in the middle of training, after so many steps."""
    step, left = torch.optim.SGD.step, iter(range(steps))

    def counted(self, *arguments):
        if next(left, None) is None:
            raise Stop
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", counted)


class Drawing(nn.Sequential):
    """A network with layers that draw, and layers that keep a running state."""

    def __init__(self, classes):
        super().__init__(
            SubtractMean(32), nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5),
            nn.Flatten(), nn.Linear(6 * 14 * 14, classes),
        )  # fmt: skip


@pytest.fixture
def drawing():
    """A registered model with dropout and batch norm."""
    spec = ModelSpec("drawing", Drawing, 32, source="tests")
    with models.temporarily(spec):
        yield spec.name


@pytest.fixture(params=["an8net", "mnistnet", "drawing"])
def undisturbed(request, drawing, data, tiny, tmp_path):
    """Three epochs at a stretch: the model's name, its weights as bytes, its record."""
    folder = tmp_path / "undisturbed"
    one = train(data, tiny.name, request.param, fold=2, checkpoints=folder, recipe=THREE)
    return request.param, weights_path(folder, tiny.name, request.param, 2).read_bytes(), one.record


@pytest.mark.slow
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(undisturbed, data, tiny, tmp_path, monkeypatch):
    name, weights, record = undisturbed
    path = weights_path(tmp_path, tiny.name, name, 2)
    steps = record["identity"]["recipe"]["epochs"] * 6  # 150 images of 3 views, 25 a step
    done = []
    for stop in (steps // 6, steps // 3 + 1):  # in the first epoch, and in the second one from there on
        with monkeypatch.context() as patched, pytest.raises(Stop):
            stopped_after(patched, stop)
            train(
                data,
                tiny.name,
                name,
                fold=2,
                checkpoints=tmp_path,
                recipe=THREE,
                report=lambda epochs: done.append(1) if epochs == int(epochs) else None,
            )
    assert partial_path(path).exists() and not path.exists()
    assert len(done) == 1
    train(
        data,
        tiny.name,
        name,
        fold=2,
        checkpoints=tmp_path,
        recipe=THREE,
        report=lambda epochs: done.append(1) if epochs == int(epochs) else None,
    )
    assert len(done) == 3
    assert path.read_bytes() == weights
    assert json.loads(path.with_suffix(".json").read_text()) == record
    assert not partial_path(path).exists()


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(data, tiny, tmp_path):
    code = (
        "import sys, torch; from benchmark.training import Recipe, train; torch.set_num_threads(1)\n"
        "train(*sys.argv[1:3], 'mnistnet', fold=2, checkpoints=sys.argv[3], "
        "recipe=Recipe(epochs=int(sys.argv[4]), batch=5, enough_loss=0, patience=99))"
    )

    def command(folder):
        return [sys.executable, "-c", code, str(data), tiny.name, str(tmp_path / folder), "15"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    path, whole = (
        weights_path(tmp_path / folder, tiny.name, "mnistnet", 2) for folder in ("killed", "whole")
    )
    with subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL) as process:
        until(partial_path(path).exists, process)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not path.exists()
    # As if it had been killed while writing.
    left_behind = path.with_name(f".{path.name}.1{files.TEMPORARY}")
    left_behind.write_bytes(b"half")
    subprocess.run(command("killed"), check=True, capture_output=True)
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(one.name for one in path.parent.iterdir()) == [
        ".locks",
        path.with_suffix(".json").name,
        path.name,
    ]


@pytest.mark.slow
def test_killed_between_weights_and_record(data, tiny, tmp_path, monkeypatch):
    arguments = {"fold": 2, "checkpoints": tmp_path, "recipe": Recipe(epochs=1)}
    path = weights_path(tmp_path, tiny.name, "an8net", 2)

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(files, "write_json", stop)
        train(data, tiny.name, **arguments)
    weights = path.read_bytes()
    done = []
    train(
        data, tiny.name, **arguments, report=lambda epochs: done.append(1) if epochs == int(epochs) else None
    )
    assert not done  # the epoch was done, and is not done again
    assert load_model(path).record["epochs"] == 1
    assert path.read_bytes() == weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is not readable"),
        (lambda path: path.write_bytes(b""), "is not readable"),
        (lambda path: safetensors.torch.save_file({"x": torch.zeros(1)}, path), "has another schema version"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "was altered"),
        (lambda path: None, "belongs to a training with another identity"),
    ],
)
def test_a_state_of_no_use_is_replaced(data, tiny, tmp_path, monkeypatch, caplog, spoil, reason):
    path = weights_path(tmp_path, tiny.name, "mnistnet", 2)
    begun = THREE if "identity" not in reason else Recipe(epochs=3, batch=50, enough_loss=0)
    with monkeypatch.context() as patched, pytest.raises(Stop):
        stopped_after(patched, 7)
        train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path, recipe=begun)
    spoil(partial_path(path))
    done = []
    train(
        data,
        tiny.name,
        "mnistnet",
        fold=2,
        checkpoints=tmp_path,
        recipe=THREE,
        report=lambda epochs: done.append(1) if epochs == int(epochs) else None,
    )
    assert len(done) == 3
    (warning,) = (one.getMessage() for one in caplog.records if one.name == "benchmark.training.state")
    assert warning.startswith(f"{partial_path(path)} {reason}")
    assert warning.endswith("training starts from the beginning")
    assert not partial_path(path).exists()


def test_one_process_a_fold(data, tiny, tmp_path):
    path = weights_path(tmp_path, tiny.name, "mnistnet", 2)
    with files.locked(path.parent / ".locks" / path.stem):
        with pytest.raises(BlockingIOError, match="is being written by another process"):
            train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path, recipe=Recipe(epochs=1))
        train(data, tiny.name, "mnistnet", fold=1, checkpoints=tmp_path, recipe=Recipe(epochs=1))
    assert not path.exists()


@pytest.mark.slow
def test_no_test_view_is_seen(data, tiny, tmp_path):
    """Whatever the test images show, the weights and the curve are the same."""
    first = train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path / "a", recipe=THREE)
    copy_dataset(data, tmp_path / "data")
    test = An8Flower(data, tiny.name, fold=2, split="test").table
    every = An8Flower(tmp_path / "data", tiny.name, size_px=112)
    array = every.manifest.folder / "cache" / "112px" / "image.npy"
    images = np.load(array)
    images[every.table["image_path"].isin(test["image_path"]).to_numpy()] = 0
    np.save(array, images)
    marker = json.loads(array.with_suffix(".json").read_text())
    marker["sha256"] = hashlib.sha256(array.read_bytes()).hexdigest()
    files.write_json(array.with_suffix(".json"), with_digest(marker))
    other = train(tmp_path / "data", tiny.name, "mnistnet", fold=2, checkpoints=tmp_path / "b", recipe=THREE)
    assert other.record["weights_sha256"] == first.record["weights_sha256"]
    assert other.record["curve"] == first.record["curve"]
    assert other.record["test_accuracy"] == 0.5  # of two classes that look alike now


def test_validation_is_a_part_of_the_training_views(data, tiny):
    training = An8Flower(data, tiny.name, fold=2, split="train", size_px=112)
    fit, validation = fit_and_validation(training, Recipe(validation_every=3))
    assert set(validation.table["view"]) == {1, 5}
    assert set(fit.table["view"]) == {3, 4}
    one = training.where(training.table["view"] == 3)
    with pytest.raises(ValueError, match="needs at least two views"):
        fit_and_validation(one, Recipe())


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.09], True),  # enough
        ([0.5, 0.3, 0.4], False),
        ([0.5, 0.3, 0.4, 0.35], True),  # not fallen for two epochs
        ([0.5, 0.3, 0.4, 0.2], False),
        ([0.9, 0.8, 0.7, 0.6, 0.5], True),  # all epochs
    ],
)
def test_when_training_stops(losses, ended):
    curve = [{"validation_loss": loss} for loss in losses]
    assert fitting._ended(curve, Recipe(epochs=5, patience=2, enough_loss=0.1)) is ended


def test_the_epoch_with_the_lowest_validation_loss_is_kept(data, tiny, tmp_path):
    recipe = Recipe(epochs=4, batch=25, learning_rate=0.03, enough_loss=0, patience=9)
    trained = train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path, recipe=recipe)
    losses = [epoch["validation_loss"] for epoch in trained.record["curve"]]
    training = An8Flower(data, tiny.name, fold=2, split="train", size_px=112)
    batch = next(fit_and_validation(training, recipe)[1].batches(1000))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(trained.model(batch.images), batch.labels).item()
    assert loss == pytest.approx(min(losses), rel=1e-3, abs=1e-6)


def test_a_loss_that_is_no_number_is_told(data, tiny, tmp_path):
    with pytest.raises(
        ValueError, match=r"diverged in epoch \d: the loss is NaN or infinite; try a learning rate below"
    ):
        train(
            data,
            tiny.name,
            "mnistnet",
            fold=2,
            checkpoints=tmp_path,
            recipe=Recipe(epochs=3, learning_rate=1e20),
        )


def test_a_batch_too_large_for_memory_is_gone_through_in_parts(data, tiny, tmp_path, monkeypatch):
    recipe = Recipe(epochs=1, batch=50)
    whole = train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path / "a", recipe=recipe)
    forward, seen = SubtractMean.forward, []

    def small(self, images):
        if self.training:
            seen.append(len(images))
            if len(images) > 20:
                raise torch.OutOfMemoryError("out of memory")
        return forward(self, images)

    monkeypatch.setattr(SubtractMean, "forward", small)
    parts = train(data, tiny.name, "mnistnet", fold=2, checkpoints=tmp_path / "b", recipe=recipe)
    assert seen[:3] == [50, 25, 12] and max(seen[3:]) == 12
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_layers_that_draw_leave_the_global_generator(drawing, data, tiny, tmp_path):
    state = torch.get_rng_state()
    hashes = []
    for folder in ("a", "b"):
        one = train(data, tiny.name, drawing, fold=2, checkpoints=tmp_path / folder, recipe=Recipe(epochs=1))
        hashes.append(one.record["weights_sha256"])
    assert hashes[0] == hashes[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_an_earlier_record_is_still_known(trained, data, tiny, checkpoints, tmp_path):
    """What schema 1 held before it told of device and threads."""
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    path = weights_path(tmp_path, tiny.name, "an8net", 0)
    record = json.loads(path.with_suffix(".json").read_text())
    earlier = {
        name: value for name, value in record.items() if name not in ("device", "threads", "digest")
    } | {"schema_version": 1}
    path.with_suffix(".json").write_text(json.dumps(earlier))
    recipe = Recipe(**record["identity"]["recipe"])
    assert train(data, tiny.name, fold=0, checkpoints=tmp_path, recipe=recipe).record == earlier


def test_curves_are_drawn_from_the_records_alone(checkpoints, tiny, tmp_path):
    folder = tmp_path / tiny.name / "an8net"
    folder.mkdir(parents=True)
    for fold in (0, 1):
        path = weights_path(checkpoints, tiny.name, "an8net", fold)
        shutil.copy(path.with_suffix(".json"), folder)
        (folder / path.name).touch()
    both = training_curves(tmp_path, tiny.name, "an8net", tmp_path / "both.png")
    one = training_curves(tmp_path, tiny.name, "an8net", tmp_path / "one.png", folds=[1])
    again = training_curves(tmp_path, tiny.name, "an8net", tmp_path / "again.png", folds=[0, 1])
    assert cv2.imread(str(both)).shape[:2] == (504, 1248)
    assert both.read_bytes() == again.read_bytes() != one.read_bytes()
    with pytest.raises(WeightsError, match="run 'an8flower train' first"):
        training_curves(tmp_path, tiny.name, "an8net", tmp_path / "none.png", seed=1)
    with pytest.raises(WeightsError, match="fold3"):
        training_curves(tmp_path, tiny.name, "an8net", tmp_path / "none.png", folds=[0, 3])


@pytest.mark.slow
def test_without_test_images_no_training_begins(data, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "fit", lambda *arguments: pytest.fail("it was trained in vain"))
    with pytest.raises(ValueError, match=r"no image of .* is in split 'test' of fold 1"):
        train(data, tiny.name, fold=1, checkpoints=tmp_path, scheme="blocks")


def test_a_model_with_fixed_weights_is_stored_untrained(data, tiny, tmp_path):
    trained = train(data, tiny.name, "colour_max", fold=0, checkpoints=tmp_path)
    assert (trained.record["epochs"], trained.record["curve"]) == (0, [])
    path = weights_path(tmp_path, tiny.name, "colour_max", 0)
    fixed = models.get("colour_max").build(len(tiny.classes)).state_dict()
    assert all(
        torch.equal(tensor, fixed[name]) for name, tensor in load_model(path).model.state_dict().items()
    )
    assert train(data, tiny.name, "colour_max", fold=0, checkpoints=tmp_path).record == trained.record
    assert training_curves(tmp_path, tiny.name, "colour_max", tmp_path / "curves.png").exists()
