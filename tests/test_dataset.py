"""The PyTorch dataset."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from waiting import HANG_S

from an8flower import An8Flower, generate
from an8flower.arrays import Arrays
from an8flower.ground.digest import with_digest
from an8flower.ground.torchvision_shim import import_torchvision
from an8flower.manifest import DataFolderError
from an8flower.png import decode
from an8flower.resizing import resize_image, resize_mask

EVERYTHING = ("label", "mask", "parts", "view", "plant")


def test_items_are_as_documented(data, tiny):
    dataset = An8Flower(data, variant=tiny.name, target=EVERYTHING)
    assert len(dataset) == 250 and dataset.classes == ("red petals", "blue petals")
    image, (label, mask, parts, view, plant) = dataset[130]
    row = dataset.table.iloc[130]
    assert image.shape == (3, 250, 250) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert label == row["class"] - 1 == 1 and view == row["view"] == 1
    assert mask.dtype == torch.bool and mask.sum() == row["mask_area_px"]
    assert torch.equal(mask, parts == 6)
    assert torch.equal(plant, parts > 0) and plant.dtype == torch.bool
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


@pytest.mark.slow
def test_loader_workers_and_pickle_give_the_same(data, tiny):
    dataset = An8Flower(data, tiny.name, fold=0, split="test", target=("label", "mask"), size_px=112)
    loader = DataLoader(dataset, batch_size=25, num_workers=2, multiprocessing_context="spawn")
    (images, (labels, masks)), second = list(loader)  # all batches: stopping the workers early may hang
    assert len(second[0]) == 25
    expected = next(dataset.batches(25))
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
    drawing = "an8flower.drawing.generation.generate"
    monkeypatch.setattr(drawing, lambda root, variant: asked.append(variant) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        An8Flower(tmp_path, "single-6c", generate=True)
    assert asked == ["single-6c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "colour"}, "unknown target 'colour'; known are label, mask, plant, parts, view"),
        ({"transform": abs, "transforms": divmod}, "either transforms, or transform"),
        ({"target_transform": abs, "transforms": divmod}, "either transforms, or transform"),
        ({"fold": 9}, "fold 9 does not exist"),
        ({"fold": 0, "split": "train", "scheme": "blocks"}, "no image .* it holds the views"),
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
    with pytest.raises(
        DataFolderError, match=f"{file} does not match its recorded SHA-256; run 'an8flower generate"
    ):
        An8Flower(copied, tiny.name, size_px=112)
    with pytest.raises(DataFolderError, match="does not match its recorded SHA-256"):
        An8Flower(copied, tiny.name, target="mask")[0]


@pytest.mark.slow
def test_resized_arrays_follow_the_data(copied, tiny):
    An8Flower(copied, tiny.name, size_px=16)
    generate(copied, tiny, viewpoints=[6])
    dataset = An8Flower(copied, tiny.name, size_px=16, target=("label", "view"))
    assert len(dataset) == 300
    assert dataset[149][1] == (0, 6)


def test_plant_and_parts_have_a_resized_form(data, tiny):
    whole = An8Flower(data, tiny.name, target=("plant", "parts"))
    small = An8Flower(data, tiny.name, target=("plant", "parts"), size_px=125)
    for index in (3, 200):
        (_, (plant, parts)), (_, (small_plant, small_parts)) = whole[index], small[index]
        assert np.array_equal(small_plant.numpy(), resize_mask(plant.numpy(), 125))
        # At half the size the centre of a pixel is the corner of four pixels; its id is that of one of them.
        blocks = parts.reshape(125, 2, 125, 2).permute(0, 2, 1, 3).reshape(125, 125, 4)
        assert (small_parts[..., None] == blocks).any(dim=-1).all()


def test_negative_indices_count_from_the_end(data, tiny):
    dataset = An8Flower(data, tiny.name)
    assert torch.equal(dataset[-1][0], dataset[249][0]) and dataset[-250][1] == 0
    with pytest.raises(IndexError):
        dataset[-251]
    with pytest.raises(TypeError, match="slice"):
        dataset[:3]


def test_the_plant_is_every_part_of_the_plant_itself(data, tiny, monkeypatch):
    ids = (np.arange(250 * 250) % 13).astype(np.uint8).reshape(250, 250)
    monkeypatch.setattr(
        "an8flower.dataset.png.decode",
        lambda content: decode(content) if decode(content).ndim == 3 else ids,
    )
    plant, parts = An8Flower(data, tiny.name, target=("plant", "parts"))[0][1]
    second_plant, board = 11, 12
    assert torch.equal(plant, (parts > 0) & (parts != second_plant) & (parts != board))


@pytest.mark.parametrize("stale", [{"format": 2}, {"data": "0" * 64}])
def test_only_arrays_of_another_format_or_other_data_are_written_again(copied, tiny, stale):
    def plant():
        return An8Flower(copied, tiny.name, target="plant", size_px=16)[0][1]

    good = plant()
    array = copied / tiny.name / "cache/16px/plant.npy"
    written, marker = array.stat().st_mtime_ns, array.with_suffix(".json")
    assert torch.equal(plant(), good) and array.stat().st_mtime_ns == written
    marker.write_text(json.dumps(with_digest({**json.loads(marker.read_text()), **stale})))
    assert torch.equal(plant(), good) and array.stat().st_mtime_ns > written


def test_only_what_is_asked_for_is_resized(copied, tiny):
    folder = copied / tiny.name / "cache/16px"
    dataset = An8Flower(copied, tiny.name, size_px=16)
    assert {file.name for file in folder.glob("*.npy")} == {"image.npy", "mask.npy"}
    assert all(isinstance(array, np.memmap) for array in dataset._arrays._arrays.values())


class TestTransforms:
    """torchvision's v2 transforms change image and masks in the same way."""

    @pytest.fixture(autouse=True)
    def v2(self):
        import_torchvision()
        from torchvision.transforms import v2

        self.v2 = v2

    @pytest.mark.parametrize("size_px", [None, 112])
    def test_geometry_moves_image_and_masks_alike(self, data, tiny, size_px):
        transforms = self.v2.Compose(
            [
                self.v2.RandomHorizontalFlip(p=1.0),
                self.v2.RandomRotation((90, 90)),
                self.v2.CenterCrop(100),
            ]
        )
        target = ("label", "mask", "plant", "parts")
        plain = An8Flower(data, tiny.name, target=target, size_px=size_px)
        moved = An8Flower(data, tiny.name, target=target, size_px=size_px, transforms=transforms)
        edge = ((size_px or 250) - 100) // 2

        def by_hand(tensor):
            turned = torch.rot90(tensor.flip(-1), 1, (-2, -1))
            return turned[..., edge : edge + 100, edge : edge + 100]

        for index in (0, 160):
            (image, targets), (moved_image, moved_targets) = plain[index], moved[index]
            torch.testing.assert_close(moved_image.as_subclass(torch.Tensor), by_hand(image))
            assert moved_targets[0] == targets[0]
            for before, after in zip(targets[1:], moved_targets[1:], strict=True):
                assert after.dtype == before.dtype
                assert torch.equal(after.as_subclass(torch.Tensor), by_hand(before))

    def random_geometry(self, **resampling):
        return self.v2.Compose(
            [
                self.v2.RandomHorizontalFlip(),
                self.v2.RandomRotation(40, **resampling),
                self.v2.RandomResizedCrop(112, scale=(0.5, 1.0), **resampling),
            ]
        )

    def test_random_geometry_keeps_an_image_of_the_mask_equal_to_the_mask(self, data, tiny):
        from torchvision import tv_tensors

        geometry = self.random_geometry(interpolation=self.v2.InterpolationMode.NEAREST)

        def painted(image, mask):
            return geometry(tv_tensors.wrap(mask.expand(3, -1, -1).float(), like=image), mask)

        dataset = An8Flower(data, tiny.name, target="mask", transforms=painted)
        plain = An8Flower(data, tiny.name, target="mask")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for index in range(0, 250, 10):
                image, mask = dataset[index]
                assert mask.any() and mask.shape == (112, 112)
                assert torch.equal(image[0] > 0, mask.as_subclass(torch.Tensor))
                assert not torch.equal(mask, self.v2.functional.resize(plain[index][1][None], [112, 112])[0])

    def test_random_geometry_keeps_the_mask_on_petals_of_the_class_colour(self, data, tiny):
        dataset = An8Flower(data, tiny.name, target=("label", "mask"), transforms=self.random_geometry())
        on, beside = [], []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for index in range(0, 250, 10):
                image, (label, mask) = dataset[index]
                red, _, blue = image.as_subclass(torch.Tensor)
                petal = red - blue > 0.15 if label == 0 else blue - red > 0.15
                on.append(petal[mask].float().mean())
                beside.append(petal[mask.flip(-1) & ~mask].float().mean())
        assert min(on) > 0.85  # except at the edge, where colours mix
        assert np.nanmean(beside) < 0.2

    def test_a_training_pipeline_scales_and_normalises_the_image_alone(self, data, tiny):
        transforms = self.v2.Compose(
            [
                self.v2.CenterCrop(224),
                self.v2.ToDtype(torch.float32, scale=True),
                self.v2.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )
        dataset = An8Flower(data, tiny.name, target=EVERYTHING, transforms=transforms)
        image, (label, mask, parts, view, plant) = dataset[249]
        plain, targets = An8Flower(data, tiny.name, target=EVERYTHING)[249]
        centre = np.s_[..., 13:237, 13:237]
        assert image.dtype == torch.float32 and (label, view) == (targets[0], targets[3])
        torch.testing.assert_close(image.as_subclass(torch.Tensor), (plain[centre] - 0.5) / 0.25)
        for after, before in ((mask, targets[1]), (parts, targets[2]), (plant, targets[4])):
            assert after.dtype == before.dtype
            assert torch.equal(after.as_subclass(torch.Tensor), before[centre])

    @pytest.mark.parametrize("given", [set(), {"transform"}, {"target_transform"}, {"transforms"}])
    def test_targets_are_tv_tensors_only_with_transforms(self, data, tiny, given):
        from torchvision import tv_tensors

        arguments = {name: self.v2.Identity() for name in given}
        image, (_, *masks, _, plant) = An8Flower(data, tiny.name, target=EVERYTHING, **arguments)[0]
        assert isinstance(image, tv_tensors.Image) == bool(given & {"transform", "transforms"})
        assert {isinstance(mask, tv_tensors.Mask) for mask in (*masks, plant)} == {bool(given)}

    @pytest.mark.slow
    def test_a_pickle_with_transforms_opens_in_a_fresh_process(self, data, tiny, tmp_path):
        early = An8Flower(data, tiny.name, target="mask", transforms=self.v2.CenterCrop(64))
        late = An8Flower(data, tiny.name, target="mask")
        late.transforms = self.v2.CenterCrop(64)
        read = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))[0][1].sum().item())"
        file = tmp_path / "dataset.pickle"
        for dataset in (early, copy.deepcopy(late.where(np.ones(250, bool)))):
            file.write_bytes(pickle.dumps(dataset))
            run = subprocess.run([sys.executable, "-c", read, file], capture_output=True, text=True)
            assert run.stdout == f"{dataset[0][1].sum().item()}\n", run.stderr

    def test_an_empty_transform_is_still_a_transform(self, data, tiny):
        nothing = torch.nn.Sequential()  # its truth value is false, since it has no members
        with pytest.raises(ValueError, match="either transforms"):
            An8Flower(data, tiny.name, transform=nothing, transforms=nothing)

    def test_repr_indents_a_transform_of_several_lines(self, data, tiny):
        transforms = self.v2.Compose([self.v2.CenterCrop(64), self.v2.Grayscale()])
        lines = repr(An8Flower(data, tiny.name, fold=1, split="test", transforms=transforms)).splitlines()
        assert lines[0] == "Dataset An8Flower"
        assert all(line.startswith("    ") for line in lines[1:])
        assert [line.strip() for line in lines[-4:]] == ["Transforms: Compose(", *map(str.strip, lines[-3:])]
        assert "CenterCrop" in lines[-3] and "Grayscale" in lines[-2]
        alone = repr(An8Flower(data, tiny.name, transform=abs, target_transform=str))
        assert f"    Transform: {abs}\n    Target transform: {str}" in alone

    def test_ids_and_masks_stay_what_they_are_under_any_angle(self, data, tiny):
        with torch.random.fork_rng():
            torch.manual_seed(0)  # v2 uses the global random generator only
            transforms = self.v2.Compose(
                [self.v2.RandomRotation(40), self.v2.RandomResizedCrop(96, antialias=True)]
            )
            dataset = An8Flower(data, tiny.name, target=("mask", "parts"), transforms=transforms)
            for index in range(0, 250, 25):
                image, (mask, parts) = dataset[index]
                assert image.shape == (3, 96, 96) and mask.shape == parts.shape == (96, 96)
                assert set(parts.unique().tolist()) <= set(range(8))
                assert torch.equal(mask.as_subclass(torch.Tensor), parts.as_subclass(torch.Tensor) == 6)

    def test_normalising_leaves_masks_alone(self, data, tiny):
        transforms = self.v2.Normalize([0.5] * 3, [0.25] * 3)
        plain = An8Flower(data, tiny.name, target="mask")
        dataset = An8Flower(data, tiny.name, target="mask", transforms=transforms)
        torch.testing.assert_close(dataset[9][0].as_subclass(torch.Tensor), (plain[9][0] - 0.5) / 0.25)
        assert torch.equal(dataset[9][1].as_subclass(torch.Tensor), plain[9][1])

    def test_transform_and_target_transform_each_get_their_own(self, data, tiny):
        dataset = An8Flower(
            data, tiny.name, transform=self.v2.Grayscale(), target_transform=lambda label: 10 + label
        )
        image, label = dataset[249]
        assert image.shape == (1, 250, 250) and label == 11

    @pytest.mark.slow
    def test_loader_workers_and_pickle_carry_transforms(self, data, tiny):
        dataset = An8Flower(
            data, tiny.name, fold=1, split="test", target=("label", "mask"),
            transforms=self.v2.CenterCrop(64), size_px=112,
        )  # fmt: skip
        loader = DataLoader(dataset, batch_size=25, num_workers=2, multiprocessing_context="spawn")
        (images, (labels, masks)), _ = list(loader)
        assert images.shape == (25, 3, 64, 64) and masks.shape == (25, 64, 64) and labels.shape == (25,)
        assert torch.equal(images[7], dataset[7][0])


@pytest.mark.slow
def test_without_transforms_torchvision_is_not_imported(data, tiny):
    code = (
        "import sys; from an8flower import An8Flower\n"
        f"An8Flower({str(data)!r}, {tiny.name!r}, target=('label', 'mask'))[0]\n"
        "print('torchvision' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_repr_shows_variant_fold_and_size(data, tiny):
    told = repr(An8Flower(data, tiny.name, fold=2, split="test", target=("label", "mask"), size_px=112))
    assert told.splitlines()[0] == "Dataset An8Flower"
    for fact in ("Number of images: 50", "Variant: tiny-2c, 2 classes", "Fold: 2, test", "Size: 112 px"):
        assert fact in told


@pytest.mark.slow
def test_twins_replace_the_images(data, twinned, tiny):
    with pytest.raises(DataFolderError, match=r"has no twins 'part_only'; run '.* --twins'"):
        An8Flower(data, tiny.name, twin="part_only")
    plain = An8Flower(twinned, tiny.name, target="mask")
    for size_px in (None, 112):
        part = An8Flower(twinned, tiny.name, twin="part_only", size_px=size_px)
        rest = An8Flower(twinned, tiny.name, twin="all_but_part", size_px=size_px)
        assert torch.equal(rest[0][0], rest[125][0])  # equal for both classes
        assert not torch.equal(part[0][0], part[125][0])
    image, mask = plain[0]
    twin = An8Flower(twinned, tiny.name, twin="part_only")[0][0]
    assert (image - twin).abs().amax(0)[mask].mean() < 0.02


@pytest.mark.slow
def test_a_deleted_array_is_written_again(copied, tiny):
    first = An8Flower(copied, tiny.name, size_px=16)[5][0]
    (copied / tiny.name / "cache/16px/image.npy").unlink()
    assert torch.equal(An8Flower(copied, tiny.name, size_px=16)[5][0], first)


@pytest.mark.slow
def test_two_processes_resize_once(copied, tiny):
    code = (
        f"from an8flower import An8Flower; print(len(An8Flower({str(copied)!r}, {tiny.name!r}, size_px=32)))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=HANG_S) for process in both]
    assert [process.returncode for process in both] == [0, 0] and told[0][0] == told[1][0]
    assert "".join(error for _, error in told).count("32 px: image") == 1


class TestOldNames:
    """Names of version 0.1 still work, with a warning."""

    def test_folds_is_now_scheme(self, data, tiny):
        with pytest.warns(
            DeprecationWarning, match=r"An8Flower\(folds=\) is now An8Flower\(scheme=\)"
        ) as told:
            old = An8Flower(data, tiny.name, fold=0, split="test", folds="blocks")
        assert told[0].filename == __file__
        new = An8Flower(data, tiny.name, fold=0, split="test", scheme="blocks")
        assert old.table.equals(new.table) and len(new) == 250

    def test_plants_of_a_batch_are_now_object_masks(self, data, tiny):
        dataset = An8Flower(data, tiny.name, fold=0, split="test", target=("label", "plant"), size_px=112)
        batch = next(dataset.batches(3))
        with pytest.warns(DeprecationWarning, match="Batch.plants is now Batch.object_masks"):
            assert batch.plants is batch.object_masks
        assert torch.equal(batch.object_masks, torch.stack([dataset[k][1][1] for k in range(3)]))
        assert next(An8Flower(data, tiny.name).batches(1)).object_masks is None

    def test_arrays_are_now_opened(self, data, tiny):
        dataset = An8Flower(data, tiny.name, size_px=112)
        with pytest.warns(DeprecationWarning, match="Arrays.of is now Arrays.open"):
            arrays = Arrays.of(dataset.manifest, dataset.table, 112, ["image"])
        assert "image" in arrays and "mask" not in arrays and arrays.get("image", 0).shape == (112, 112, 3)
