"""Datasets with a cheat: files, manifest, masks, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from an8flower import An8Flower, generate, verify
from an8flower.drawing.cheat import cheat_class
from an8flower.drawing.factors import values_of
from an8flower.manifest import DamagedManifestError, DataFolderError, read_manifest, write_manifest
from an8flower.protocol import PART_IDS
from an8flower.resizing import resize_mask
from an8flower.variants import Variant

SETTINGS = {"cheat": "patch", "cheat_share": 0.5}
VIEWS = [1, 2]


@pytest.fixture(scope="module")
def cheating(once, tiny):
    """A root with tiny-2c with a patch, of two views, with twins. Not to be changed."""
    more = {"viewpoints": VIEWS, "twins": True, "factors": SETTINGS}
    return once("cheat_data", lambda root: generate(root, tiny, **more))


@pytest.fixture
def altered(cheating, tiny, tmp_path):
    """A root with a copy of it, which the test may change."""
    shutil.copytree(cheating / tiny.name, tmp_path / tiny.name, ignore=shutil.ignore_patterns("cache"))
    return tmp_path


@pytest.mark.slow
def test_the_manifest_has_the_class_that_the_cheat_tells(cheating, tiny):
    manifest = read_manifest(cheating, tiny.name)
    assert list(manifest.table.columns[-3:]) == ["cheat", "cheat_share", "cheat_class"]
    assert manifest.cheat_id == PART_IDS["patch"] and list(manifest.factors) == ["cheat", "cheat_share"]
    for (class_id, view), rows in manifest.table.groupby(["class", "view"]):
        values = values_of(SETTINGS, seed=0, view=view)
        expected = cheat_class(values, seed=0, view=view, class_id=class_id, classes=2)
        assert set(rows["cheat_class"]) == {expected}
    assert verify(cheating, tiny.name) == []


@pytest.mark.slow
def test_images_that_tell_one_class_have_one_patch(cheating, tiny):
    dataset = An8Flower(cheating, tiny.name, target="cheat")
    table = dataset.table
    colours = {}
    for told, rows in table[(table["crop"] == 5) & (table["rotation"] == 1)].groupby("cheat_class"):
        colours[told] = [image[:, mask].mean(dim=1) for image, mask in (dataset[k] for k in rows.index)]
    assert set(colours) == {1, 2}
    for told, means in colours.items():
        assert all(torch.allclose(mean, means[0], atol=0.01) for mean in means)
        assert not torch.allclose(means[0], colours[3 - told][0], atol=0.2)


@pytest.mark.slow
def test_the_mask_of_the_cheat_is_its_part_id(cheating, tiny):
    dataset = An8Flower(cheating, tiny.name, target=("cheat", "parts", "mask"))
    for index in (0, 60):
        cheat, parts, mask = dataset[index][1]
        assert cheat.dtype == torch.bool and torch.equal(cheat, parts == 13) and cheat.sum() > 600
        assert not (cheat & mask).any()
    plant = An8Flower(cheating, tiny.name, target=("plant", "cheat"))[0][1]
    assert not (plant[0] & plant[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [None, 112])
def test_batches_have_masks_of_the_cheat_if_they_are_asked_for(cheating, tiny, size_px):
    dataset = An8Flower(cheating, tiny.name, target=("label", "cheat"), size_px=size_px)
    batch = next(dataset.batches(3, rng=np.random.default_rng(0)))
    whole = An8Flower(cheating, tiny.name, target="cheat")
    for row, mask in zip(batch.rows, batch.cheat_masks, strict=True):
        assert torch.equal(mask, dataset[int(row)][1][1])
        expected = whole[int(row)][1].numpy()
        assert np.array_equal(mask.numpy(), resize_mask(expected, 112) if size_px else expected)
    assert batch.object_masks is None
    assert next(An8Flower(cheating, tiny.name, size_px=size_px).batches(1)).cheat_masks is None
    everything = An8Flower(cheating, tiny.name, target=("plant", "cheat"), size_px=size_px)
    batch = next(everything.batches(2))
    assert batch.object_masks.shape == batch.cheat_masks.shape == batch.masks.shape


@pytest.mark.slow
def test_only_some_twins_have_the_cheat(cheating, tiny):
    image, mask = An8Flower(cheating, tiny.name, target="cheat")[0]
    part_only, rest = (
        An8Flower(cheating, tiny.name, twin=twin)[0][0] for twin in ("part_only", "all_but_part")
    )
    assert torch.equal(rest[:, mask], image[:, mask])
    assert (part_only - image).abs().amax(0)[mask].min() > 0.1


def test_a_dataset_without_a_cheat_says_so(data, tiny):
    with pytest.raises(
        DataFolderError, match=rf"{tiny.name} has no cheat; run e.g. '.* --factor cheat=patch'"
    ):
        An8Flower(data, tiny.name, target=("label", "cheat"))
    assert "cheat_class" not in An8Flower(data, tiny.name).table
    assert "cheat_class" not in read_manifest(data, tiny.name).table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="cheat_class"), "it lacks the columns cheat_class"),
        (lambda table: table.assign(cheat_class=3), "'cheat_class' has values that are no class"),
        (lambda table: table.assign(cheat_class="1"), "'cheat_class' has values that are no class"),
        (lambda table: table.assign(cheat_class=table["crop"] % 2 + 1), "several classes for one frame"),
    ],
)
def test_a_table_whose_cheats_make_no_sense_is_refused(altered, tiny, change, message):
    manifest = read_manifest(altered, tiny.name)
    write_manifest(replace(manifest, table=change(manifest.table)))
    with pytest.raises(DamagedManifestError, match=message):
        read_manifest(altered, tiny.name)


def test_a_cheat_that_is_not_possible_is_refused_before_anything_is_drawn(tiny, tmp_path):
    alone = Variant("alone-1c", tiny.classes[:1], "tests")
    with pytest.raises(ValueError, match=r"there is no other class$"):
        generate(tmp_path / "new", alone, factors=SETTINGS)
    with pytest.raises(ValueError, match="cheat_share has no effect without"):
        generate(tmp_path / "new", tiny, factors={"cheat_share": 0.5})
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_another_cheat_is_not_mixed_in(altered, tiny):
    with pytest.raises(DataFolderError, match="was drawn with factors"):
        generate(altered, tiny, viewpoints=[1], factors={"cheat": "patch"})


@pytest.mark.slow
def test_more_views_and_drawing_again_keep_the_cheat(altered, tiny):
    more = generate(altered, tiny, viewpoints=[3], factors=SETTINGS)
    assert more.header["views"] == [1, 2, 3] and more.table["cheat_class"].dtype == np.int64
    assert verify(altered, tiny.name, regenerate="all") == []


def test_settings_without_a_cheat_add_no_column(tiny):
    from an8flower.manifest_checks import columns_of

    assert columns_of({"cheat": "none"})[-1] == "cheat" and columns_of({"cheat": "pot"})[-1] == "cheat_class"
