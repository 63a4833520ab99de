"""The PyTorch dataset."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from an8flower import An8Flower
from an8flower.augment import resize_image, resize_mask
from an8flower.manifest import DataFolderError
from an8flower.png import decode

EVERYTHING = ("label", "mask", "parts", "view")


@pytest.fixture
def copied(data, tiny, tmp_path):
    shutil.copytree(data / tiny.name, tmp_path / tiny.name)
    return tmp_path


def test_items_are_as_documented(data, tiny):
    dataset = An8Flower(data, variant=tiny.name, target=EVERYTHING)
    assert len(dataset) == 250 and dataset.classes == ("red petals", "blue petals")
    image, (label, mask, parts, view) = dataset[130]
    row = dataset.table.iloc[130]
    assert image.shape == (3, 250, 250) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert label == row["class"] - 1 == 1 and view == row["view"] == 1
    assert mask.dtype == torch.bool and mask.sum() == row["mask_area_px"]
    assert torch.equal(mask, parts == 6)
    file = decode((data / tiny.name / row["image_path"]).read_bytes())
    assert torch.equal(image, torch.from_numpy(file).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("index", [250, 10_000])
def test_iteration_ends(data, tiny, index):
    with pytest.raises(IndexError):
        An8Flower(data, tiny.name)[index]


def test_one_target_comes_alone(data, tiny):
    assert An8Flower(data, tiny.name)[200][1] == 1
    assert An8Flower(data, tiny.name, target="mask")[0][1].shape == (250, 250)


def test_resized_images_and_masks_are_the_resized_files(data, tiny):
    whole = An8Flower(data, tiny.name, target=("label", "mask"))
    small = An8Flower(data, tiny.name, target=("label", "mask"), size_px=112)
    for index in (0, 77, 249):
        (image, (label, mask)), (resized, (same, resized_mask)) = whole[index], small[index]
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        expected = torch.from_numpy(resize_image(pixels, 112)).permute(2, 0, 1) / 255
        assert torch.equal(resized, expected) and label == same
        assert np.array_equal(resized_mask.numpy(), resize_mask(mask.numpy(), 112))


@pytest.mark.parametrize("size_px", [None, 112])
def test_batches_are_the_items(data, tiny, size_px):
    dataset = An8Flower(data, tiny.name, fold=1, split="test", target=("label", "mask"), size_px=size_px)
    seen = []
    for batch in dataset.batches(12, rng=np.random.default_rng(0)):
        image, (label, mask) = dataset[int(batch.rows[0])]
        assert torch.equal(batch.images[0], image) and torch.equal(batch.masks[0], mask)
        assert batch.labels[0] == label
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(50)) and seen != list(range(50))
    again = [row for b in dataset.batches(12, rng=np.random.default_rng(0)) for row in b.rows]
    assert again == seen
    assert [row for b in dataset.batches(12) for row in b.rows] == list(range(50))


def test_loader_workers_and_pickle_give_the_same(data, tiny):
    dataset = An8Flower(data, tiny.name, fold=0, target=("label", "mask"), size_px=112)
    loader = DataLoader(dataset, batch_size=40, num_workers=2, multiprocessing_context="spawn")
    images, (labels, masks) = next(iter(loader))
    expected = next(dataset.batches(40))
    assert torch.equal(images, expected.images) and torch.equal(masks, expected.masks)
    assert torch.equal(labels, expected.labels)
    assert len(pickle.dumps(dataset)) < 1_000_000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3][0], dataset[3][0])


def test_where_keeps_rows_and_pixels_together(data, tiny):
    dataset = An8Flower(data, tiny.name, fold=0, split="train", size_px=112)
    chosen = (dataset.table["class"] == 2).to_numpy()
    part = dataset.where(chosen).where(np.arange(chosen.sum()) % 7 == 3)
    original = np.flatnonzero(chosen)[3::7]
    assert len(part) == len(original)
    assert all(torch.equal(part[k][0], dataset[int(i)][0]) for k, i in enumerate(original))
    assert {part[k][1] for k in range(len(part))} == {1}


def test_generate_draws_what_is_missing(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "an8flower.dataset.generate_files", lambda root, variant: asked.append(variant) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        An8Flower(tmp_path, "single-6c", generate=True)
    assert asked == ["single-6c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "colour"}, "unknown target 'colour'; known are label, mask, parts, view"),
        ({"target": ("label", "parts"), "size_px": 112}, "'parts' has no resized form"),
        ({"fold": 9}, "fold 9 does not exist"),
        ({"fold": 0, "split": "train", "folds": "blocks"}, "no image .* it holds the views"),
    ],
)
def test_bad_requests_say_what_is_right(data, tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        An8Flower(data, tiny.name, **arguments)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b""), "has 0 bytes instead of"),
        (lambda file: file.write_bytes(file.read_bytes()[:-7]), "bytes instead of"),
    ],
)
def test_a_missing_or_cut_file_is_named_at_once(copied, tiny, damage, message):
    file = copied / tiny.name / "images/class1/class1_img1_p1_r1.png"
    damage(file)
    with pytest.raises(DataFolderError, match=f"{file} .*{message}.*; run 'an8flower generate"):
        An8Flower(copied, tiny.name)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_an_altered_file_is_named_when_it_is_read(copied, tiny, kind):
    file = copied / tiny.name / kind / "class1/class1_img1_p1_r1.png"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    shutil.rmtree(copied / tiny.name / "cache", ignore_errors=True)
    with pytest.raises(DataFolderError, match=f"{file} is not the recorded file; run 'an8flower generate"):
        An8Flower(copied, tiny.name, size_px=112)
    with pytest.raises(DataFolderError, match="is not the recorded file"):
        An8Flower(copied, tiny.name, target="mask")[0]


def test_resized_arrays_follow_the_data(copied, tiny):
    from an8flower import generate

    An8Flower(copied, tiny.name, size_px=16)
    generate(copied, tiny, viewpoints=[6])
    dataset = An8Flower(copied, tiny.name, size_px=16, target=("label", "view"))
    assert len(dataset) == 300
    assert dataset[149][1] == (0, 6)
