"""Export formats: other tools read the same pixels, masks and labels from them."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_dataset
from PIL import Image
from waiting import HANG_S

from an8flower.export import MissingExtraError, export, exports, names
from an8flower.export.base import folder_name
from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import DataFolderError, read_manifest
from an8flower.png import decode

CLASSES = ["red petals", "blue petals"]
FACTS = ["class", "class_name", "label", "view", "crop", "rotation", "mask_area_px"]

# rdflib, which mlcroissant uses, uses its own deprecated class; mlcroissant calls pandas in a way that
# pandas 4 will not support. Both must be fixed in those packages.
croissant_warnings = pytest.mark.filterwarnings(
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning:rdflib.plugins.parsers.jsonld",
    "ignore:The inplace keyword in DataFrame.reset_index:DeprecationWarning:mlcroissant",
)
# pycocotools decodes in a way that NumPy will not support in future.
coco_warnings = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:pycocotools"
)
# webdataset does not close the shards that it has read.
webdataset_warnings = pytest.mark.filterwarnings("ignore:unclosed file .*[.]tar:ResourceWarning")


@pytest.fixture
def pixels(data, tiny):
    """Pixels of one file of the dataset, by kind and by name without the suffix."""

    def read(kind: str, name: str) -> np.ndarray:
        return decode((data / tiny.name / kind / name.split("_")[0] / f"{name}.png").read_bytes())

    return read


@pytest.fixture
def rows(data, tiny):
    """The row of the manifest of each derivative, by name without the suffix."""
    table = read_manifest(data, tiny.name).of_kind("image")
    return {Path(row["path"]).stem: row for row in table.to_dict("records")}


def digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_formats_are_the_documented_ones():
    assert names() == ("coco", "croissant", "hf", "imagefolder", "webdataset")
    for name in names():
        assert exports.get(name).source.startswith("https://")


@pytest.mark.slow
@pytest.mark.parametrize("to", names())
def test_equal_data_give_equal_bytes_and_nothing_else_is_left(data, tiny, tmp_path, to):
    before = digests(data / tiny.name)
    (tmp_path / "second").mkdir()  # an existing empty folder is used
    first, second = (export(data, tiny.name, to, tmp_path / name) for name in ("first", "second"))
    assert digests(first) == digests(second) != {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    assert digests(data / tiny.name) == before


@pytest.mark.parametrize("to", [name for name in names() if exports.get(name).splits])
def test_a_fold_parts_the_images_by_view(data, tiny, tmp_path, to):
    files = digests(export(data, tiny.name, to, tmp_path / "out", fold=3))
    if to == "webdataset":
        of_split = {}
        for split in ("train", "test"):
            with tarfile.open(tmp_path / f"out/tiny-2c-{split}-000000.tar") as tar:
                of_split[split] = [name for name in tar.getnames() if name.endswith(".image.png")]
    else:
        images = [name for name in files if name.endswith(".png") and "images" in name]
        of_split = {split: [name for name in images if f"{split}/" in name] for split in ("train", "test")}
    assert {split: len(found) for split, found in of_split.items()} == {"train": 200, "test": 50}
    assert all("_img3_" in name for name in of_split["test"])
    assert not any("_img3_" in name for name in of_split["train"])


@pytest.mark.slow
@coco_warnings
@pytest.mark.parametrize("fold", [None, 0])
def test_coco_decodes_to_the_masks(data, tiny, tmp_path, pixels, rows, fold):
    from pycocotools.coco import COCO

    out = export(data, tiny.name, "coco", tmp_path / "out", fold=fold)
    seen = {}
    for suffix in [""] if fold is None else ["_train", "_test"]:
        coco = COCO(out / f"annotations/instances{suffix}.json")
        images = out / "images" / suffix.strip("_")
        ids = list(coco.imgs)
        assert ids == sorted(ids) and len(coco.anns) == len(ids)
        for image_id, image in coco.imgs.items():
            name = Path(image["file_name"]).stem
            seen[name] = image_id
            (annotation,) = coco.imgToAnns[image_id]
            mask = coco.annToMask(annotation)
            assert np.array_equal(mask * 255, pixels("masks", name))
            assert np.array_equal(decode((images / image["file_name"]).read_bytes()), pixels("images", name))
            assert (image["height"], image["width"]) == mask.shape
            assert annotation["area"] == mask.sum() == rows[name]["mask_area_px"]
            down, right = np.nonzero(mask)
            box = [right.min(), down.min(), np.ptp(right) + 1, np.ptp(down) + 1]
            assert annotation["bbox"] == box and annotation["iscrowd"] == 0
            assert coco.cats[annotation["category_id"]]["name"] == CLASSES[rows[name]["class"] - 1]
    assert seen.keys() == rows.keys() and len(set(seen.values())) == 250
    assert seen["class2_img4_p5_r1"] == 20451  # in every fold the same
    assert [category["supercategory"] for category in coco.cats.values()] == ["petals", "petals"]


@pytest.mark.slow
@pytest.mark.parametrize("fold", [None, 0])
def test_imagefolder_is_read_by_torchvision(data, tiny, tmp_path, pixels, rows, fold):
    from an8flower.ground.torchvision_shim import import_torchvision

    import_torchvision()
    from torchvision.datasets import ImageFolder

    out = export(data, tiny.name, "imagefolder", tmp_path / "out", fold=fold)
    labels = json.loads((out / "classes.json").read_text())
    assert labels == {"red petals": 0, "blue petals": 1}
    seen = set()
    for split in [""] if fold is None else ["train", "test"]:
        images, masks, parts = (ImageFolder(out / split / kind) for kind in ("images", "masks", "parts"))
        assert images.classes == sorted(CLASSES)
        for index, (path, number) in enumerate(images.samples):
            name = Path(path).stem
            seen.add(name)
            assert np.array_equal(np.asarray(images[index][0]), pixels("images", name))
            for folder, kind in ((masks, "masks"), (parts, "parts")):
                beside, same = folder.samples[index]
                assert Path(beside).name == Path(path).name and same == number
                assert np.array_equal(np.asarray(Image.open(beside)), pixels(kind, name))
            assert labels[images.classes[number]] == rows[name]["class"] - 1
    assert seen == rows.keys()


def test_a_class_name_stays_within_its_folder():
    assert folder_name("red petals") == "red petals"
    for name in ("", ".", "..", "../red", "/red", "a/b"):
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            folder_name(name)


@pytest.mark.slow
@webdataset_warnings
@pytest.mark.parametrize(("shard_images", "shards"), [(1000, 1), (100, 3), (250, 1)])
def test_webdataset_gives_back_the_pixels(data, tiny, tmp_path, pixels, rows, shard_images, shards):
    import webdataset

    out = export(data, tiny.name, "webdataset", tmp_path / "out", shard_images=shard_images)
    paths = [str(path) for path in sorted(out.iterdir())]
    assert paths == [str(out / f"tiny-2c-{shard:06d}.tar") for shard in range(shards)]
    keys = []
    for sample in webdataset.WebDataset(paths, shardshuffle=False).decode("pil"):
        name = sample["__key__"]
        keys.append(name)
        for kind in ("image", "mask", "parts"):
            folder = "parts" if kind == "parts" else f"{kind}s"
            picture = np.asarray(sample[f"{kind}.png"].convert("RGB" if kind == "image" else "L"))
            assert np.array_equal(picture, pixels(folder, name))
        assert list(sample["json"]) == FACTS
        row, facts = rows[name], sample["json"]
        assert all(facts[key] == row[key] for key in FACTS if key in row)
        assert facts["label"] == row["class"] - 1
        assert facts["class_name"] == CLASSES[facts["label"]]
    gc.collect()  # here, where the warning is ignored
    assert sorted(keys) == sorted(rows)
    assert {key.split("_")[0] for key in keys[:2]} == {"class1", "class2"}  # classes alternate


def test_webdataset_shards_bear_no_trace_of_who_made_them(data, tiny, tmp_path):
    out = export(data, tiny.name, "webdataset", tmp_path / "out")
    with tarfile.open(next(out.iterdir())) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "bigdata", "bigdata")}


@pytest.mark.slow
@croissant_warnings
@pytest.mark.parametrize("in_place", [False, True])
def test_croissant_loads_and_yields_the_manifest(data, tiny, tmp_path, pixels, in_place, caplog):
    import mlcroissant

    root = data
    out = tmp_path / "out"
    if in_place:
        root = tmp_path / "root"
        out = root / tiny.name
        copy_dataset(data, root)
    export(root, tiny.name, "croissant", out)
    with caplog.at_level(logging.ERROR):
        dataset = mlcroissant.Dataset(out / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    document = json.loads((out / "croissant.json").read_text())
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for thing in document["distribution"]:
        if thing["@type"] == "cr:FileObject":
            content = (out / thing["contentUrl"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == thing["sha256"]

    table = read_manifest(root, tiny.name).table
    records = [
        {
            key.removeprefix("files/"): value.decode() if isinstance(value, bytes) else value
            for key, value in r.items()
        }
        for r in dataset.records("files")
    ]
    assert records == table.to_dict("records") and len(records) == 770
    for record in records:
        assert hashlib.sha256((out / record["path"]).read_bytes()).hexdigest() == record["sha256"]

    seen = set()
    for record in dataset.records("pictures"):
        path = record["pictures/path"].decode()
        seen.add(path)
        assert np.array_equal(np.asarray(record["pictures/image"]), pixels("images", Path(path).stem))
    assert seen == set(table["path"][table["kind"] == "image"])
    assert [record["classes/name"] for record in dataset.records("classes")] == CLASSES


@croissant_warnings
def test_croissant_in_place_is_described_in_the_same_bytes_and_leaves_the_dataset_whole(data, tiny, tmp_path):
    from an8flower import verify

    copy_dataset(data, tmp_path)
    export(tmp_path, tiny.name, "croissant", tmp_path / tiny.name)
    export(tmp_path, tiny.name, "croissant", tmp_path / tiny.name)  # a second time, over the first
    assert verify(tmp_path, tiny.name) == []
    copied = export(data, tiny.name, "croissant", tmp_path / "copied")
    assert (copied / "croissant.json").read_bytes() == (tmp_path / tiny.name / "croissant.json").read_bytes()
    assert verify(tmp_path, "copied") == []  # the copy is a dataset too


READ_OFFLINE = """
import hashlib, json, sys
import datasets
import numpy as np
datasets.disable_progress_bars()
folder, cache, way = sys.argv[1:]
where = {"path": "imagefolder", "data_dir": folder} if way == "loader" else {"path": folder}
splits = datasets.load_dataset(**where, cache_dir=cache)
names = getattr(next(iter(splits.values())).features["label"], "names", None)
rows = []
for split, rowset in splits.items():
    for row in rowset:
        for kind in ("image", "mask", "parts"):
            row[kind] = hashlib.sha256(np.asarray(row[kind]).tobytes()).hexdigest()
        rows.append({"split": split, **row})
json.dump({"names": names, "rows": rows}, sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("way", "fold"), [("loader", None), ("loader", 2), ("card", 2)])
def test_hf_is_read_by_datasets_offline(data, tiny, tmp_path, pixels, rows, way, fold):
    out = export(data, tiny.name, "hf", tmp_path / "out", fold=fold)
    # In a separate process: the library reads its environment when it is imported.
    done = subprocess.run(
        [sys.executable, "-c", READ_OFFLINE, str(out), str(tmp_path / "cache"), way],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read["names"] == (CLASSES if way == "card" else None)
    seen = set()
    for row in read["rows"]:
        name = f"class{row['class']}_img{row['view']}_p{row['crop']}_r{row['rotation']}"
        seen.add(name)
        for kind, folder in (("image", "images"), ("mask", "masks"), ("parts", "parts")):
            assert row[kind] == hashlib.sha256(pixels(folder, name).tobytes()).hexdigest()
        assert row["label"] == row["class"] - 1 and row["class_name"] == CLASSES[row["label"]]
        assert row["mask_area_px"] == rows[name]["mask_area_px"]
        assert row["split"] == ("test" if fold is not None and row["view"] % 5 == fold else "train")
    assert seen == rows.keys() and len(read["rows"]) == 250


@pytest.mark.parametrize("to", names())
def test_a_folder_that_is_not_empty_is_refused_and_left_alone(data, tiny, tmp_path, to):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("out", "file"):
        with pytest.raises(ValueError, match=f"{tmp_path / name} exists and is not empty; choose another"):
            export(data, tiny.name, to, tmp_path / name)
    assert digests(tmp_path).keys() == {"file", "out/mine"}


@pytest.mark.slow
@pytest.mark.parametrize("to", names())
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_damaged_file_is_named_and_nothing_is_left(data, tiny, tmp_path, to, kind):
    copy_dataset(data, tmp_path)
    file = tmp_path / tiny.name / kind / "class2/class2_img3_p2_r4.png"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataFolderError, match=f"{file} does not match its recorded SHA-256; run 'an8flower generate"
    ):
        export(tmp_path, tiny.name, to, tmp_path / "out")
    file.unlink()
    with pytest.raises(DataFolderError, match=f"{file} is missing; run 'an8flower generate"):
        export(tmp_path, tiny.name, to, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [tiny.name]


KILLED_HALFWAY = """
import os, signal, sys
from an8flower.export import base, export
read = base.read_verified
count = 0
def read_some(*arguments):
    global count
    count += 1
    if count == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments)
base.read_verified = read_some
export(*sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_export_leaves_no_out_and_the_next_one_clears_up(data, tiny, tmp_path):
    command = [
        sys.executable,
        "-c",
        KILLED_HALFWAY,
        str(data),
        tiny.name,
        "imagefolder",
        str(tmp_path / "out"),
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".out.tmp"]
    out = export(data, tiny.name, "imagefolder", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [out]
    assert digests(out) == digests(export(data, tiny.name, "imagefolder", tmp_path / "whole"))


def test_two_exports_to_one_folder_do_not_mix(data, tiny, tmp_path):
    from an8flower.ground.files import locked

    with locked(tmp_path / ".out.tmp"), pytest.raises(BlockingIOError, match="written by another process"):
        export(data, tiny.name, "coco", tmp_path / "out")


@pytest.mark.parametrize(
    ("to", "library"), [("coco", "pycocotools"), ("webdataset", "webdataset"), ("croissant", "mlcroissant")]
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    data, tiny, tmp_path, monkeypatch, to, library
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        MissingExtraError, match=rf"export to {to} needs {library}: pip install 'an8flower\[{to}\]'"
    ):
        export(data, tiny.name, to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"to": "coko"}, UnknownNameError, "unknown export format 'coko'; did you mean 'coco'?"),
        ({"variant": "single"}, UnknownNameError, "unknown variant 'single'"),
        ({"fold": 5}, ValueError, "fold 5 does not exist: there are 5, from 0 to 4"),
        ({"to": "croissant", "fold": 0}, ValueError, "export to croissant has no training and test split"),
        ({"shard_images": 9}, ValueError, "export to coco has no option 'shard_images'; it has none"),
        ({"to": "webdataset", "size": 9}, ValueError, "has no option 'size'; it has 'shard_images'"),
        ({"to": "webdataset", "shard_images": 0}, ValueError, "shard_images must be at least 1, got 0"),
    ],
)
def test_bad_requests_say_what_is_right(data, tiny, tmp_path, arguments, error, message):
    with pytest.raises(error) as raised:
        export(**{"root": data, "variant": tiny.name, "to": "coco", "out": tmp_path / "out", **arguments})
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_split_without_images_is_an_error(data, tiny, tmp_path):
    from an8flower import generate

    generate(tmp_path, tiny, viewpoints=[1], workers=1)
    with pytest.raises(ValueError, match=r"in split 'train' of fold 1: it holds the views \[1\]"):
        export(tmp_path, tiny.name, "coco", tmp_path / "out", fold=1)


def an8flower(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)


@pytest.mark.slow
def test_the_command_exports(data, tiny, tmp_path):
    at = ("export", "--root", data, "--variant", tiny.name, "--fold", 0, "--json")
    done = an8flower(*at, "--to", "webdataset", "--shard-images", 60, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "out"), "format": "webdataset", "variant": tiny.name, "fold": 0,
    }  # fmt: skip
    assert len(list((tmp_path / "out").glob("*-train-*.tar"))) == 4
    assert "250/250 images" in done.stderr
    again = an8flower(*at, "--to", "webdataset", "--out", tmp_path / "out")
    assert again.returncode == 1
    assert again.stderr == (
        f"an8flower: {tmp_path / 'out'} exists and is not empty; choose another folder or move it away\n"
    )


def test_the_command_explains_itself(called):
    text = " ".join(called("export", "--help").stdout.split())
    assert "Example: an8flower export --to coco --variant single-6c --root data --out exported/coco" in text
    listed = json.loads(called("list", "exports", "--json").stdout)["exports"]
    assert tuple(entry["name"] for entry in listed) == names()


def test_importing_the_exporters_loads_none_of_their_libraries():
    libraries = ("pycocotools", "webdataset", "mlcroissant", "datasets", "torch", "torchvision")
    code = (
        "import sys, an8flower.export; an8flower.export.names(); "
        f"print([name for name in {libraries} if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.slow
def test_torchvision_is_imported_once_and_works():
    code = (
        "from an8flower.ground.torchvision_shim import import_torchvision\n"
        "first, second = import_torchvision(), import_torchvision()\n"
        "import torch, torchvision\n"
        "assert first is second is torchvision\n"
        "print(tuple(torchvision.models.squeezenet1_1()(torch.rand(1, 3, 64, 64)).shape))"
    )
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "(1, 1000)"
