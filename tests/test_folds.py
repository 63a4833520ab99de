"""The folds: no image of a test view is in training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from an8flower import An8Flower
from an8flower.folds import fold_of, in_split
from an8flower.protocol import FOLDS

VIEWS = np.arange(1, 41)


@pytest.mark.parametrize("scheme", ["interleaved", "blocks"])
def test_every_view_is_tested_once_and_folds_are_equal(scheme):
    folds = fold_of(VIEWS, scheme)
    assert np.bincount(folds).tolist() == [8] * FOLDS
    for fold in range(FOLDS):
        test, train = in_split(VIEWS, fold, "test", scheme), in_split(VIEWS, fold, "train", scheme)
        assert (test ^ train).all()


def test_blocks_are_neighbours():
    assert fold_of(VIEWS, "blocks").tolist() == sorted(fold_of(VIEWS, "blocks").tolist())


@pytest.mark.parametrize("scheme", ["interleaved", "blocks"])
def test_no_derivative_of_a_test_view_of_any_class_is_in_training(data, tiny, scheme):
    folds = range(FOLDS) if scheme == "interleaved" else [0]
    for fold in folds:
        splits = {}
        for split in ("train", "test"):
            try:
                table = An8Flower(data, tiny.name, fold=fold, split=split, scheme=scheme).table
            except ValueError:  # blocks: all 5 views are in the first block
                assert (scheme, split) == ("blocks", "train")
                continue
            splits[split] = table
            assert len(table) == 25 * len(tiny.classes) * table["view"].nunique()
        for a, b in itertools.combinations(splits.values(), 2):
            assert not set(a["view"]) & set(b["view"])
            assert not set(a["image_path"]) & set(b["image_path"])
            assert not set(a["image_sha256"]) & set(b["image_sha256"])


@pytest.mark.parametrize(
    ("fold", "split", "scheme", "message"),
    [
        (9, "test", "interleaved", "fold 9 does not exist: there are 5, from 0 to 4"),
        (None, "train", "interleaved", "fold None does not exist"),
        (0, "validation", "interleaved", "unknown split 'validation'"),
        (0, "test", "random", "unknown fold scheme 'random'"),
    ],
)
def test_bad_requests_say_what_there_is(fold, split, scheme, message):
    with pytest.raises(ValueError, match=message):
        in_split(VIEWS, fold, split, scheme)
