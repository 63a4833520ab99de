"""Training and the weights on disk."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from an8flower import An8Flower
from an8flower.manifest import DataFolderError
from an8flower.registry import UnknownNameError
from benchmark.training import Recipe, accuracy, load_model, train, weights_path


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


def test_done_work_is_kept_and_other_work_is_not(trained, data, tiny, checkpoints, tmp_path):
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    path = weights_path(tmp_path, tiny.name, "an8net", 0)
    stamp = path.stat().st_mtime_ns
    train(
        data, tiny.name, fold=0, checkpoints=tmp_path, recipe=Recipe(**trained.record["identity"]["recipe"])
    )
    assert path.stat().st_mtime_ns == stamp
    again = train(data, tiny.name, fold=0, checkpoints=tmp_path, recipe=Recipe(epochs=1), seed=1)
    assert path.stat().st_mtime_ns > stamp
    assert again.record["identity"]["seed"] == 1


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
    with pytest.raises(DataFolderError, match="not the file that its record describes"):
        load_model(path)
    record = path.with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema_version": 7}))
    with pytest.raises(DataFolderError, match="another schema version"):
        load_model(path)
    record.write_text("{")
    with pytest.raises(DataFolderError, match="not readable"):
        load_model(path)
    with pytest.raises(DataFolderError, match="run 'an8flower train' first"):
        load_model(tmp_path / "nothing.safetensors")


def test_unknown_model_is_named(data, tiny, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown model 'an8nett'; did you mean 'an8net'"):
        train(data, tiny.name, "an8nett", fold=0, checkpoints=tmp_path)
