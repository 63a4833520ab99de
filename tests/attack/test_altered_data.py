"""Whatever is altered in a dataset folder after it was written, other data are never used without a word."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, VIEWS, copy_dataset

from an8flower import An8Flower, generate, verify
from an8flower.manifest import DataFolderError, read_manifest
from an8flower.variants import variants

SIZE_PX = 16
ARRAYS = Path("cache") / f"{SIZE_PX}px"
REMEDY = "run 'an8flower generate --variant "


def opened(root: Path) -> An8Flower:
    return An8Flower(root, TINY.name, size_px=SIZE_PX, target=("label", "mask"))


def pixels(root: Path) -> bytes:
    """All that a method or a metric sees of a dataset: images, labels and masks."""
    batch = next(opened(root).batches(250))
    parts = (batch.images, batch.labels, batch.masks)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).digest()


@pytest.fixture(scope="module")
def cached_once(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("cached")
    copy_dataset(data, root)
    return root, pixels(root)


@pytest.fixture
def cached(cached_once, tmp_path):
    """A root with tiny-2c and its arrays, and what `pixels` returns for it."""
    root, good = cached_once
    shutil.copytree(root / TINY.name, tmp_path / TINY.name)
    assert pixels(tmp_path) == good
    return tmp_path, good


@pytest.fixture(scope="module")
def one_view(data, tmp_path_factory):
    """A root with one view of tiny-2c, which is drawn again in a few seconds."""
    root = tmp_path_factory.mktemp("one_view")
    generate(root, TINY, viewpoints=[1])
    return root


@pytest.fixture
def small(one_view, tmp_path):
    """A copy of `one_view`."""
    copy_dataset(one_view, tmp_path)
    return tmp_path


def flip(path: Path, position: int = -20, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(content)


def shift(path: Path) -> None:
    np.save(path, np.roll(np.load(path), 1, axis=2))


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def swap_with_plant(mask: Path) -> None:
    An8Flower(mask.parents[3], TINY.name, size_px=SIZE_PX, target="plant")
    swap(mask, mask.with_name("plant.npy"))


def swap_with_plant_and_markers(mask: Path) -> None:
    swap_with_plant(mask)
    swap(mask.with_suffix(".json"), mask.with_name("plant.json"))


def take_other_size(path: Path) -> None:
    An8Flower(path.parents[3], TINY.name, size_px=8)
    for name in (path.name, path.with_suffix(".json").name):
        shutil.copy(path.parents[1] / "8px" / name, path.with_name(name))


def zipped(path: Path) -> None:
    array = np.load(path)
    with path.open("wb") as file:
        np.savez(file, array)


DAMAGES = {
    "flipped byte": flip,
    "flipped byte of the array's own header": lambda path: flip(path, 30),
    "shifted by a pixel": shift,
    "other dtype": lambda path: np.save(path, np.load(path).astype(np.float32)),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "no array": lambda path: path.write_bytes(b"not an array" * 100),
    "zip": zipped,
    "pickle": lambda path: path.write_bytes(pickle.dumps(np.load(path))),
    "fewer images": lambda path: np.save(path, np.load(path)[:-1]),
}
MASK_DAMAGES = {
    "swapped with another kind": swap_with_plant,
    "swapped with another kind, markers too": swap_with_plant_and_markers,
    "all set": lambda path: np.save(path, np.ones_like(np.load(path))),
}


class TestCachedArrays:
    """Resized arrays that are not what was written are written again."""

    @pytest.mark.parametrize("kind", ["image", "mask"])
    @pytest.mark.parametrize("damage", [*DAMAGES.values(), take_other_size], ids=[*DAMAGES, "other size"])
    def test_a_damaged_array_changes_nothing(self, cached, kind, damage):
        root, good = cached
        damage(root / TINY.name / ARRAYS / f"{kind}.npy")
        assert pixels(root) == good

    @pytest.mark.parametrize("damage", MASK_DAMAGES.values(), ids=MASK_DAMAGES)
    def test_damaged_masks_change_nothing(self, cached, damage):
        root, good = cached
        damage(root / TINY.name / ARRAYS / "mask.npy")
        assert pixels(root) == good

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"3", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}'], ids=repr
    )
    def test_a_damaged_marker_changes_nothing(self, cached, content):
        root, good = cached
        (root / TINY.name / ARRAYS / "mask.json").write_bytes(content)
        assert pixels(root) == good

    def test_a_marker_that_was_edited_to_fit_an_array_is_not_believed(self, cached):
        root, good = cached
        array = root / TINY.name / ARRAYS / "mask.npy"
        shift(array)
        marker = json.loads(array.with_suffix(".json").read_text())
        marker["sha256"] = hashlib.sha256(array.read_bytes()).hexdigest()
        array.with_suffix(".json").write_text(json.dumps(marker))
        assert pixels(root) == good

    @pytest.mark.parametrize(
        "damage", [*DAMAGES.values(), *MASK_DAMAGES.values()], ids=[*DAMAGES, *MASK_DAMAGES]
    )
    def test_verify_lists_a_damaged_array_and_generate_removes_it(self, cached, damage):
        root, good = cached
        array = root / TINY.name / ARRAYS / "mask.npy"
        damage(array)
        assert f"altered: {array}" in map(str, verify(root, TINY.name))
        generate(root, TINY, viewpoints=VIEWS)
        assert verify(root, TINY.name) == []
        assert pixels(root) == good

    def test_a_pickled_dataset_refuses_arrays_that_were_altered_later(self, cached):
        root, _ = cached
        pickled = pickle.dumps(opened(root))
        pickle.loads(pickled)
        flip(root / TINY.name / ARRAYS / "mask.npy")
        with pytest.raises(DataFolderError, match=r"mask\.npy is not the array .*; open it again"):
            pickle.loads(pickled)

    def test_an_array_is_not_written_again_after_its_files_were_only_touched(self, cached):
        root, good = cached
        array = root / TINY.name / ARRAYS / "image.npy"
        written = array.stat().st_mtime_ns
        for image in (root / TINY.name / "images").rglob("*.png"):
            os.utime(image)
        assert pixels(root) == good and array.stat().st_mtime_ns == written


def keep_times(path: Path, alter) -> None:
    times = path.stat()
    alter(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


class TestFilesBehindArrays:
    """A PNG that was altered after its array was written is an error that names it."""

    @pytest.mark.parametrize("kind", ["images", "masks"])
    @pytest.mark.parametrize(
        "alter",
        [flip, lambda path: flip(path, 100), lambda path: keep_times(path, flip)],
        ids=["near the end", "near the start", "with its times set back"],
    )
    def test_an_altered_file_is_named(self, cached, kind, alter):
        root, _ = cached
        file = root / TINY.name / kind / "class1/class1_img1_p1_r1.png"
        alter(file)
        with pytest.raises(DataFolderError, match=f"{file} does not match its recorded SHA-256; {REMEDY}"):
            opened(root)

    def test_two_files_of_the_same_size_that_were_swapped_are_named(self, cached):
        root, _ = cached
        folder = root / TINY.name
        table = read_manifest(root, TINY.name).of_kind("mask").drop_duplicates("sha256")
        same = table[table.duplicated("size_bytes", keep=False)].sort_values("size_bytes")
        first, second = same["path"][:2]
        swap(folder / first, folder / second)
        with pytest.raises(DataFolderError, match="does not match its recorded SHA-256"):
            opened(root)

    def test_generate_repairs_it(self, cached):
        root, good = cached
        flip(root / TINY.name / "masks/class1/class1_img1_p1_r1.png")
        generate(root, TINY, viewpoints=VIEWS)
        assert pixels(root) == good and verify(root, TINY.name) == []


def as_version_1(folder: Path) -> None:
    """Give a folder the manifest that version 0.1 would have written."""
    path = folder / "manifest.json"
    header = json.loads(path.read_text())
    if header["schema_version"] == 1:
        return
    digest = read_manifest(folder.parent, folder.name).digest
    for name in ("files_digest", "table_sha256"):
        del header[name]
    path.write_text(json.dumps(header | {"schema_version": 1, "digest": digest}))


def edit_header(folder: Path, edit) -> None:
    path = folder / "manifest.json"
    header = json.loads(path.read_text())
    edit(header)
    path.write_text(json.dumps(header))


def edit_table(folder: Path, edit) -> None:
    path = folder / "manifest.parquet"
    table = pd.read_parquet(path)
    changed = edit(table)
    (table if changed is None else changed).to_parquet(path, index=False)


def swap_names(header) -> None:
    first, second = header["classes"]
    first["name"], second["name"] = second["name"], first["name"]


def swap_values(column: str, first, second):
    def edit(table: pd.DataFrame) -> None:
        table[column] = table[column].replace({first: second, second: first})

    return edit


def set_all(column: str, value):
    def edit(table: pd.DataFrame) -> None:
        table[column] = value

    return edit


HEADER_EDITS = {
    "class names swapped": swap_names,
    "classes swapped": lambda header: header["classes"].reverse(),
    "other part": lambda header: header["classes"][0].update(part="stem"),
    "other colour": lambda header: header["classes"][0]["colours"].update(petals=[1, 2, 3]),
    "other seed": lambda header: header.update(seed=1),
    "other views": lambda header: header.update(views=[1, 2, 3, 4, 6]),
    "other part ids": lambda header: header["part_ids"].update(petals=3),
    "other factors": lambda header: header.update(factors={"size": 0.5}),
    "other fingerprint": lambda header: header.update(fingerprints=["another machine"]),
    "other variant": lambda header: header.update(variant="tiny-3c"),
    "no digest": lambda header: header.pop("digest"),
    "other digest": lambda header: header.update(digest="0" * 64),
    "version 0": lambda header: header.update(schema_version=0),
    "version 1": lambda header: header.update(schema_version=1),
}
TABLE_EDITS = {
    "class swapped": swap_values("class", 1, 2),
    "view swapped": swap_values("view", 1, 2),
    "crop swapped": swap_values("crop", 1, 5),
    "rotation swapped": swap_values("rotation", 2, 3),
    "kind swapped": swap_values("kind", "mask", "parts"),
    "one view": lambda table: table.__setitem__("view", table["view"].where(table.index != 7, 2)),
    "sizes": set_all("size_bytes", 1),
    "a row less": lambda table: table.iloc[:-1],
    "a row twice": lambda table: pd.concat([table, table.iloc[:1]]),
    "no crop": lambda table: table.drop(columns="crop"),
    "crop as text": lambda table: table.astype({"crop": str}),
    "view as fraction": lambda table: table.astype({"view": float}),
    "class as bool": lambda table: table.astype({"class": bool}),
    "no paths": set_all("path", None),
    "numbers as paths": set_all("path", 3),
    "lists as paths": lambda table: table.assign(path=[["a"]] * len(table)),
    "unknown kind": set_all("kind", "picture"),
    "empty": lambda table: table.iloc[:0],
    "no columns": lambda table: table[[]],
}
UNSEALED_EDITS = {name: edit for name, edit in TABLE_EDITS.items() if name != "sizes"}


class TestManifest:
    """A header or table that is not what was written is refused in one line, which says what helps."""

    @pytest.mark.parametrize("edit", HEADER_EDITS.values(), ids=HEADER_EDITS)
    def test_an_edited_header_is_refused(self, small, edit):
        edit_header(small / TINY.name, edit)
        with pytest.raises(DataFolderError, match=rf"manifest\.json .*{REMEDY}"):
            read_manifest(small, TINY.name)
        (problem,) = verify(small, TINY.name)
        assert problem.path == small / TINY.name / "manifest.json" and problem.what.startswith("altered")

    @pytest.mark.parametrize("edit", TABLE_EDITS.values(), ids=TABLE_EDITS)
    def test_an_edited_table_is_refused(self, small, edit):
        edit_table(small / TINY.name, edit)
        with pytest.raises(DataFolderError, match=rf"manifest\.parquet .*{REMEDY}"):
            read_manifest(small, TINY.name)
        (problem,) = verify(small, TINY.name)
        assert problem.path == small / TINY.name / "manifest.parquet" and problem.what.startswith("altered")

    @pytest.mark.parametrize("edit", UNSEALED_EDITS.values(), ids=UNSEALED_EDITS)
    def test_an_edited_table_of_version_0_1_is_refused(self, copied, edit):
        as_version_1(copied / TINY.name)
        edit_table(copied / TINY.name, edit)
        with pytest.raises(DataFolderError, match=rf"manifest\.parquet .*{REMEDY}"):
            read_manifest(copied, TINY.name)

    @pytest.mark.parametrize("name", ["mask_area_px", "size_bytes"])
    def test_verify_finds_other_numbers_in_a_table_of_version_0_1(self, small, name):
        as_version_1(small / TINY.name)
        edit_table(small / TINY.name, lambda table: table.__setitem__(name, table[name] + 1))
        assert [problem.path.name for problem in verify(small, TINY.name)] == ["manifest.parquet"]

    def test_swapped_classes_of_a_registered_variant_are_refused_in_version_0_1(self, small):
        as_version_1(small / TINY.name)
        edit_header(small / TINY.name, swap_names)
        with variants.temporarily():
            variants.add(TINY)
            with pytest.raises(
                DataFolderError, match=f"has other classes than .*; move .* away and {REMEDY}"
            ):
                read_manifest(small, TINY.name)

    def test_a_variant_under_the_name_of_another_one_is_refused(self, small):
        (small / TINY.name).rename(small / "single-6c")
        with pytest.raises(DataFolderError, match=f"holds the variant 'tiny-2c'; move .* away and {REMEDY}"):
            read_manifest(small, "single-6c")

    @pytest.mark.parametrize("version", [1, 2])
    def test_no_flipped_bit_of_the_table_gives_other_data(self, small, version):
        if version == 1:
            as_version_1(small / TINY.name)
        table = small / TINY.name / "manifest.parquet"
        content, good = table.read_bytes(), read_manifest(small, TINY.name).table
        rng = np.random.default_rng(version)
        for position in rng.integers(0, len(content), 300):
            changed = bytearray(content)
            changed[position] ^= 1 << int(rng.integers(8))
            table.write_bytes(changed)
            try:
                read = read_manifest(small, TINY.name)
            except DataFolderError:
                continue
            assert version == 1
            assert read.table.equals(good) or verify(small, TINY.name)

    @pytest.mark.parametrize("version", [1, 2])
    def test_no_flipped_bit_of_the_header_gives_another_dataset(self, small, version):
        if version == 1:
            as_version_1(small / TINY.name)
        path = small / TINY.name / "manifest.json"
        content, good = path.read_bytes(), read_manifest(small, TINY.name).header
        rng = np.random.default_rng(version)
        refused = 0
        for position in rng.integers(0, len(content), 300):
            changed = bytearray(content)
            changed[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            try:
                header = read_manifest(small, TINY.name).header
            except DataFolderError:
                refused += 1
                continue
            # Version 1 has no digest of its header, so text in it may have changed.
            assert version == 1 or header == good
        assert refused > 100

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("classes", value) for value in (3, None, {}, [], [1], "red", [{"name": "red"}], [[]])),
            *(("factors", value) for value in (3, None, [], "size", {"size": {}})),
            *(("views", value) for value in (3, None, [], "1", [0], [True], [1.0], [1, 1], [99], [[1]])),
            *(("renderers", value) for value in (3, None, [1], [{}], [{"platform": 1}], {})),
            *(("fingerprints", value) for value in (3, None, [1], "egl")),
            *(("versions", value) for value in (3, None, [], {}, {"an8flower": 1})),
            *(("seed", value) for value in ("0", None, True, 0.5, [])),
            *(("variant", value) for value in (3, None, "", [])),
            *(("part_ids", value) for value in (3, None, [], {"petals": "6"})),
            *(("digest", value) for value in (3, None, [], {})),
            *(("schema_version", value) for value in ("2", None, [], {}, 1.5, -1)),
        ],
        ids=repr,
    )
    def test_odd_types_are_refused(self, small, version, name, value):
        if version == 1:
            as_version_1(small / TINY.name)
        edit_header(small / TINY.name, lambda header: header.update({name: value}))
        with pytest.raises(DataFolderError):
            read_manifest(small, TINY.name)

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize(
        "name", ["variant", "seed", "classes", "renderers", "versions", "schema_version"]
    )
    def test_missing_entries_are_refused(self, small, version, name):
        if version == 1:
            as_version_1(small / TINY.name)
        edit_header(small / TINY.name, lambda header: header.pop(name))
        with pytest.raises(DataFolderError, match=rf"manifest\.json .*{REMEDY}"):
            read_manifest(small, TINY.name)

    @pytest.mark.parametrize(
        "content",
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"schema_version": ' + b"9" * 10_000 + b"}",
            b'{"schema_version": 1e999}',
            b'{"schema_version": NaN}',
            b"\x00" * 100,
            b"\xff\xfe\x00",
            b'"\\ud800"',
            b"",
        ],
        ids=[
            "deep list",
            "deep object",
            "huge",
            "infinity",
            "NaN",
            "zeros",
            "no UTF-8",
            "surrogate",
            "empty",
        ],
    )
    def test_a_header_that_is_no_header_is_one_line_of_the_command(self, small, content, called):
        (small / TINY.name / "manifest.json").write_bytes(content)
        with pytest.raises(
            DataFolderError, match=rf"manifest\.json is not a valid manifest header.*{REMEDY}"
        ):
            read_manifest(small, TINY.name)
        told = called("export", "--root", small, "--variant", TINY.name, "--to", "hf", "--out", small / "out")
        assert told.returncode == 1 and told.stderr.count("\n") == 1
        assert "manifest.json" in told.stderr and REMEDY in told.stderr and "unexpected" not in told.stderr

    @pytest.mark.parametrize("name", ["manifest.json", "manifest.parquet"])
    def test_a_folder_in_place_of_a_file_is_refused(self, small, name):
        (small / TINY.name / name).unlink()
        (small / TINY.name / name).mkdir()
        with pytest.raises(DataFolderError, match=f"{name} cannot be read.*{REMEDY}"):
            read_manifest(small, TINY.name)


class TestRemedies:
    """What an error about a manifest advises makes the dataset whole."""

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "manifest.json").unlink(),
            lambda folder: (folder / "manifest.parquet").unlink(),
            lambda folder: (folder / "manifest.json").write_bytes(b"[" * 100_000),
            lambda folder: (folder / "manifest.parquet").write_bytes(b"PAR1"),
            lambda folder: edit_header(folder, swap_names),
            lambda folder: edit_header(folder, lambda header: header.update(seed=1)),
            lambda folder: edit_table(folder, swap_values("class", 1, 2)),
        ],
        ids=["no header", "no table", "deep header", "cut table", "class names", "seed", "class column"],
    )
    def test_generate_makes_a_folder_with_a_damaged_manifest_whole(self, one_view, small, damage):
        damage(small / TINY.name)
        with pytest.raises(DataFolderError, match=REMEDY):
            An8Flower(small, TINY.name)
        assert generate(small, TINY, viewpoints=[1]).digest == read_manifest(one_view, TINY.name).digest
        assert verify(small, TINY.name) == []

    def test_generate_draws_every_frame_that_the_folder_has(self, small):
        frames = small / TINY.name / "frames/class1"
        shutil.copy(frames / "class1_img1.png", frames / "class1_img2.png")  # as if view 2 were there
        (small / TINY.name / "manifest.json").unlink()
        assert generate(small, TINY, viewpoints=[1]).header["views"] == [1, 2]
        assert verify(small, TINY.name) == []

    def test_another_seed_is_not_taken_for_this_one_without_a_header(self, one_view, small):
        (small / TINY.name / "manifest.json").unlink()
        other = generate(small, TINY, viewpoints=[1], seed=1)
        assert other.header["seed"] == 1 and verify(small, TINY.name) == []
        assert other.digest != read_manifest(one_view, TINY.name).digest

    def test_the_advice_repeats_seed_and_views(self, small):
        edit_header(small / TINY.name, lambda header: None)
        (small / TINY.name / "images/class1/class1_img1_p1_r1.png").unlink()
        with pytest.raises(DataFolderError, match=f"{REMEDY}{TINY.name} --root {small} --viewpoints 1' to"):
            An8Flower(small, TINY.name)


class TestVersion01:
    """A dataset of version 0.1 is read, and `generate` adds the digests without drawing."""

    def test_it_is_read_with_the_same_digests(self, data, copied):
        as_version_1(copied / TINY.name)
        old, new = read_manifest(copied, TINY.name), read_manifest(data, TINY.name)
        assert (old.digest, old.images_digest) == (new.digest, new.images_digest)
        assert old.header["schema_version"] == 1 and verify(copied, TINY.name) == []
        assert torch.equal(An8Flower(copied, TINY.name)[3][0], An8Flower(data, TINY.name)[3][0])

    def test_generate_adds_the_digests_without_drawing(self, copied, monkeypatch):
        as_version_1(copied / TINY.name)
        edit_header(copied / TINY.name, lambda header: header["versions"].update(an8flower="0.1.0"))
        monkeypatch.setattr("an8flower.drawing.generation.draw", lambda *_, **__: pytest.fail("it draws"))
        before = read_manifest(copied, TINY.name)
        after = generate(copied, TINY, viewpoints=VIEWS)
        assert after.header["schema_version"] == 2 and after.table.equals(before.table)
        assert after.header["versions"] == before.header["versions"]  # of the packages that drew it
        assert (after.digest, after.images_digest) == (before.digest, before.images_digest)
        edit_header(copied / TINY.name, swap_names)
        with pytest.raises(DataFolderError):
            read_manifest(copied, TINY.name)

    @pytest.mark.parametrize("column", ["mask_area_px", "size_bytes"])
    def test_generate_does_not_take_over_numbers_that_were_altered(self, one_view, small, column):
        as_version_1(small / TINY.name)
        edit_table(small / TINY.name, lambda table: table.__setitem__(column, table[column] + 1))
        generate(small, TINY, viewpoints=[1])
        good = read_manifest(one_view, TINY.name).table.reset_index(drop=True)
        assert read_manifest(small, TINY.name).table.reset_index(drop=True).equals(good)


class TestJournal:
    """What an interrupted run has left is believed only if it is what was written."""

    @pytest.mark.parametrize("damage", ["entry", "plan", "entry without digest"])
    def test_frames_of_a_damaged_journal_are_drawn_again(self, one_view, small, damage):
        from an8flower.ground.digest import with_digest

        manifest = read_manifest(small, TINY.name)
        plan = {
            name: manifest.header[name]
            for name in ("recipe_version", "seed", "classes", "factors", "renderers")
        }
        journal = manifest.folder / ".journal"
        journal.mkdir()
        (journal / "plan.json").write_text(json.dumps(with_digest(plan)))
        for class_id in (1, 2):
            rows = manifest.table[manifest.table["class"] == class_id].to_dict("records")
            entry = {"class": class_id, "view": 1, "rows": rows, "renderer": manifest.header["renderers"][0]}
            (journal / f"class{class_id}_img1.json").write_text(json.dumps(with_digest(entry)))
        (manifest.folder / "manifest.json").unlink()
        (manifest.folder / "manifest.parquet").unlink()
        path = journal / ("plan.json" if damage == "plan" else "class1_img1.json")
        content = json.loads(path.read_text())
        if damage == "plan":
            content["renderers"] = []
        elif damage == "entry":
            content["rows"][3]["mask_area_px"] += 1
        else:
            del content["digest"]
        path.write_text(json.dumps(content))
        frames = [manifest.folder / f"frames/class{class_id}/class{class_id}_img1.png" for class_id in (1, 2)]
        before = [frame.stat().st_mtime_ns for frame in frames]
        assert generate(small, TINY, viewpoints=[1]).table.equals(read_manifest(one_view, TINY.name).table)
        drawn = [frame.stat().st_mtime_ns > time for frame, time in zip(frames, before, strict=True)]
        assert drawn == [True, damage == "plan"]
