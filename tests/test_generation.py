"""Generation resumes, is reproducible, and repairs damaged files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import copy_dataset
from waiting import HANG_S, until

from an8flower import generate, verify
from an8flower.drawing.augment import derivatives
from an8flower.drawing.gl import NoGraphicsError
from an8flower.ground import files
from an8flower.ground.digest import with_digest
from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import DataFolderError, file_path, read_manifest, write_manifest
from an8flower.png import decode, encode
from an8flower.variants import ClassSpec, Variant

SCRIPT = """
import sys
from an8flower import generate
generate(sys.argv[1], "part-2c", viewpoints=[1, 2, 3, 4, 5], workers=2)
"""
KILLS = 12


def test_every_file_is_there_as_recorded(data, tiny):
    assert verify(data, tiny.name) == []
    manifest = read_manifest(data, tiny.name)
    counts = manifest.table["kind"].value_counts().to_dict()
    assert counts == {"frame": 10, "frame_parts": 10, "image": 250, "mask": 250, "parts": 250}
    assert not manifest.table.duplicated("path").any()
    names = {
        "images/class2/class2_img5_p5_r5.png",
        "masks/class1/class1_img1_p1_r1.png",
        "frames/class1/class1_img3.png",
    }
    assert names <= set(manifest.table["path"])
    header = manifest.header
    assert header["variant"] == tiny.name and header["seed"] == 0 and header["views"] == [1, 2, 3, 4, 5]
    assert header["renderers"][0]["renderer"] and header["versions"]["pyrender-maintained"]


def test_derivatives_masks_and_areas_follow_from_the_frames(data, tiny):
    manifest = read_manifest(data, tiny.name)
    areas = manifest.table.set_index("path")["mask_area_px"]

    def read(kind, *at):
        return decode((manifest.folder / file_path(kind, *at)).read_bytes())

    from an8flower.drawing.renderer import Frame

    frame = Frame(read("frame", 2, 4), read("frame_parts", 2, 4))
    for derivative in derivatives(frame):
        at = (2, 4, derivative.crop, derivative.rotation)
        np.testing.assert_array_equal(read("image", *at), derivative.image)
        np.testing.assert_array_equal(read("parts", *at), derivative.part_ids)
        mask = read("mask", *at)
        np.testing.assert_array_equal(mask, np.where(derivative.part_ids == 6, 255, 0))
        assert areas[file_path("mask", *at)] == np.count_nonzero(mask) >= 0.003 * 250 * 250


@pytest.mark.slow
def test_one_worker_draws_what_two_draw(data, tiny, tmp_path):
    alone = generate(tmp_path, tiny, viewpoints=[3], workers=1)
    both = read_manifest(data, tiny.name).table
    expected = both[both["view"] == 3].set_index("path")["sha256"]
    assert alone.table.set_index("path")["sha256"].to_dict() == expected.to_dict()


@pytest.mark.slow
def test_runs_killed_at_random_moments_go_on_without_loss_or_duplicates(part_2c, tmp_path):
    whole = read_manifest(part_2c, "part-2c")
    root, rng, kills, completed = tmp_path / "killed", np.random.default_rng(0), 0, 0
    while kills < KILLS:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, root], stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(1.0, 4.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            # It finished in spite of earlier kills, with the same result. Start again from an empty folder.
            assert process.returncode == 0
            assert read_manifest(root, "part-2c").digest == whole.digest
            completed += 1
            shutil.rmtree(root)
    # Workers end when their parent process is killed, so the folder is not locked any more.
    resumed = generate(root, "part-2c", viewpoints=[1, 2, 3, 4, 5], workers=2)
    assert resumed.digest == whole.digest
    assert verify(root, "part-2c") == []
    assert not list(root.rglob("*.tmp")) and not (root / "part-2c/.journal").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_frames_and_leaves_nothing_half_written(tmp_path):
    # All 240 frames, so that no machine finishes before the interrupt.
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmark", "generate", "--root", str(tmp_path)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # with '&', a shell ignores SIGINT
    )  # fmt: skip
    journal = tmp_path / "single-6c" / ".journal"
    until(lambda: list(journal.glob("class*.json")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert "interrupted: finished work is kept" in errors and "Traceback" not in errors
    for entry in journal.glob("class*.json"):
        for row in json.loads(entry.read_text())["rows"]:
            assert (tmp_path / "single-6c" / row["path"]).stat().st_size == row["size_bytes"]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_more_views_join_those_that_are_there(copied, tiny):
    before = read_manifest(copied, tiny.name)
    stamp = (before.folder / "frames/class1/class1_img1.png").stat().st_mtime_ns
    after = generate(copied, tiny, viewpoints=[6])
    assert after.header["views"] == [1, 2, 3, 4, 5, 6]
    assert (after.folder / "frames/class1/class1_img1.png").stat().st_mtime_ns == stamp
    assert set(before.table["path"]) < set(after.table["path"])
    assert verify(copied, tiny.name) == []


@pytest.mark.slow
def test_verify_reports_and_generate_repairs(copied, tiny):
    folder = copied / tiny.name
    good = read_manifest(copied, tiny.name)
    (folder / "masks/class1/class1_img2_p3_r3.png").unlink()
    image = folder / "images/class2/class2_img5_p1_r1.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    (folder / "parts/class1/class1_img1_p1_r1.png").write_bytes(b"")
    (folder / "images/class1/notes.txt").write_text("mine")
    told = {
        (problem.path.relative_to(folder).as_posix(), problem.what) for problem in verify(copied, tiny.name)
    }
    assert told == {
        ("masks/class1/class1_img2_p3_r3.png", "missing"),
        ("images/class2/class2_img5_p1_r1.png", "altered"),
        ("parts/class1/class1_img1_p1_r1.png", "altered"),
        ("images/class1/notes.txt", "extra"),
    }
    # With one view only, it still repairs all files of the manifest.
    assert generate(copied, tiny, viewpoints=[1]).digest == good.digest
    assert [problem.what for problem in verify(copied, tiny.name)] == ["extra"]


def test_a_run_killed_between_table_and_header_loses_nothing(copied, tiny):
    good = read_manifest(copied, tiny.name)
    plan = {key: good.header[key] for key in ("recipe_version", "seed", "classes", "factors", "renderers")}
    files.write_json(good.folder / ".journal" / "plan.json", with_digest(plan))
    (good.folder / "manifest.json").unlink()
    stamp = (good.folder / "frames/class1/class1_img1.png").stat().st_mtime_ns
    again = generate(copied, tiny, viewpoints=[1, 2, 3, 4, 5])
    assert again.digest == good.digest and again.header["fingerprints"] == good.header["fingerprints"]
    assert (good.folder / "frames/class1/class1_img1.png").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "was drawn with seed 0, not 1"),
        ({"variant": "other colours"}, "was drawn with other classes"),
    ],
)
def test_another_dataset_is_not_mixed_in(copied, tiny, change, message):
    seed = change.get("seed", 0)
    variant = replace(tiny, classes=tiny.classes[::-1]) if "variant" in change else tiny
    with pytest.raises(DataFolderError, match=message):
        generate(copied, variant, viewpoints=[1], seed=seed)
    assert verify(copied, tiny.name) == []


def test_two_processes_do_not_draw_into_one_folder(copied, tiny):
    with (
        files.locked(copied / tiny.name),
        pytest.raises(BlockingIOError, match="being written by another process"),
    ):
        generate(copied, tiny)


@pytest.mark.slow
def test_a_part_that_is_hardly_visible_is_an_error(tmp_path):
    hidden = Variant("hidden-1c", (ClassSpec("sepals", part="sepals"),), "tests")
    with pytest.raises(ValueError, match=r"the sepals of class 1 .* in view 1, crop 1.*it must be 0.3%"):
        generate(tmp_path, hidden, viewpoints=[1], workers=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variant": "single-6"}, UnknownNameError, "did you mean 'single-6c'"),
        ({"viewpoints": [0]}, ValueError, "numbered from 1 to 40"),
        ({"viewpoints": []}, ValueError, "numbered from 1 to 40"),
        ({"workers": 0}, ValueError, "workers must be at least 1, got 0"),
    ],
)
def test_bad_requests_write_nothing(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        generate(tmp_path / "new", **{"variant": "single-6c", **arguments})
    assert not (tmp_path / "new").exists()


def test_missing_opengl_is_an_error_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("an8flower.drawing.gl._works", lambda platform: False)
    with pytest.raises(NoGraphicsError, match="apt-get install"):
        generate(tmp_path, "single-6c", viewpoints=[1])


class TestManifest:
    """An invalid manifest is an error of one line."""

    def test_no_dataset(self, tmp_path):
        with pytest.raises(DataFolderError, match=r"run 'an8flower generate --variant single-6c --root .*'"):
            read_manifest(tmp_path, "single-6c")
        with pytest.raises(UnknownNameError, match="unknown variant 'single'"):
            read_manifest(tmp_path, "single")

    def test_newer_schema(self, copied, tiny):
        header = copied / tiny.name / "manifest.json"
        header.write_text(json.dumps({**json.loads(header.read_text()), "schema_version": 99}))
        with pytest.raises(DataFolderError, match="version 99, but this release reads 1 and 2; move"):
            read_manifest(copied, tiny.name)

    @pytest.mark.parametrize("content", ["", "{", "[]", "null"])
    def test_invalid_header(self, copied, tiny, content):
        (copied / tiny.name / "manifest.json").write_text(content)
        with pytest.raises(DataFolderError, match="not a valid manifest header"):
            read_manifest(copied, tiny.name)

    def test_cut_table(self, copied, tiny):
        table = copied / tiny.name / "manifest.parquet"
        table.write_bytes(table.read_bytes()[:1000])
        with pytest.raises(DataFolderError, match=r"does not match its SHA-256 in manifest\.json; run"):
            read_manifest(copied, tiny.name)

    @pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd"])
    def test_path_that_leaves_the_folder(self, copied, tiny, path):
        manifest = read_manifest(copied, tiny.name)
        table = manifest.table.copy()
        table.loc[0, "path"] = path
        write_manifest(replace(manifest, table=table))
        with pytest.raises(DataFolderError, match=f"is not a valid manifest table: it has the path '{path}'"):
            read_manifest(copied, tiny.name)


@pytest.fixture(scope="module")
def varied(tiny, tmp_path_factory):
    """tiny-2c with twins and two factors, of views 2 and 30. Not to be changed."""
    root = tmp_path_factory.mktemp("varied")
    settings = {"size": (0.6, 1.0), "background": "textured"}
    generate(root, tiny, viewpoints=[2, 30], twins=True, factors=settings, seed=7)
    return root


class TestFactorsAndTwins:
    """Generation with factors and twins."""

    @pytest.mark.slow
    def test_the_manifest_records_each_views_values(self, varied, tiny):
        manifest = read_manifest(varied, tiny.name)
        assert manifest.header["factors"] == {"size": [0.6, 1.0], "background": "textured"}
        sizes = manifest.table.groupby("view")["size"].unique()
        assert [len(values) for values in sizes] == [1, 1] and sizes[2][0] != sizes[30][0]
        assert set(manifest.table["background"]) == {"textured"}

    def test_twins_have_the_same_derivatives(self, varied, tiny):
        manifest = read_manifest(varied, tiny.name)
        counts = manifest.table["kind"].value_counts()
        assert counts["part_only"] == counts["all_but_part"] == counts["image"] == 100
        folder = manifest.folder
        mask = decode((folder / file_path("mask", 1, 30, 2, 4)).read_bytes()) > 0
        image, part = (
            decode((folder / file_path(kind, 1, 30, 2, 4)).read_bytes()).astype(int)
            for kind in ("image", "part_only")
        )
        assert np.abs(image - part)[mask].mean() < 3 < np.abs(image - part)[~mask].mean() * 40
        red, blue = (
            (folder / file_path("all_but_part", class_id, 30, 2, 4)).read_bytes() for class_id in (1, 2)
        )
        assert red == blue

    @pytest.mark.slow
    def test_drawing_again_gives_the_same(self, varied, tiny):
        assert verify(varied, tiny.name, regenerate="all") == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("drawn_by", "kind", "levels", "told"),
        [
            ("here", "image", 1, "allowed: none on the same platform"),
            ("here", "mask", 255, "allowed: none on the same platform"),
            ("elsewhere", "image", 1, None),
            ("elsewhere", "all_but_part", 3, "mean 3.000; allowed: 1 on average"),
            ("elsewhere", "mask", 255, "allowed: none)"),
        ],
    )
    def test_files_that_differ_when_drawn_again_are_reported(
        self, varied, tiny, tmp_path, drawn_by, kind, levels, told
    ):
        # A dataset as another renderer might draw it: with other pixels and matching hashes and header.
        shutil.copytree(varied / tiny.name, tmp_path / tiny.name)
        manifest = read_manifest(tmp_path, tiny.name)
        at = manifest.table.index[(manifest.table["kind"] == kind) & (manifest.table["view"] == 2)][0]
        path = manifest.folder / manifest.table.loc[at, "path"]
        pixels = decode(path.read_bytes())
        changed = 255 - pixels if kind == "mask" else np.minimum(pixels, 255 - levels) + np.uint8(levels)
        path.write_bytes(encode(changed))
        table = manifest.table.copy()
        table.loc[at, "sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        header = dict(manifest.header)
        if drawn_by == "elsewhere":
            header["fingerprints"] = ["another machine"]
        write_manifest(replace(manifest, table=table, header=header))
        problems = [str(problem) for problem in verify(tmp_path, tiny.name, regenerate="sample")]
        assert len(problems) == (told is not None)
        assert told is None or (told in problems[0] and str(path) in problems[0])

    @pytest.mark.slow
    def test_twins_join_a_dataset_that_has_none(self, data, twinned, tiny, tmp_path):
        before, after = read_manifest(data, tiny.name), read_manifest(twinned, tiny.name)
        kinds = after.table["kind"].value_counts()
        assert kinds["part_only"] == kinds["image"] == 250
        merged = before.table.merge(after.table, on=["path", "sha256"])
        assert len(merged) == len(before.table)
        copy_dataset(twinned, tmp_path)
        assert generate(tmp_path, tiny, viewpoints=[1]).digest == after.digest  # and are kept

    def test_other_factors_are_not_mixed_in(self, varied, tiny):
        with pytest.raises(DataFolderError, match="was drawn with factors"):
            generate(varied, tiny, viewpoints=[2], factors={"size": 0.6}, seed=7)
        with pytest.raises(ValueError, match="factor size must be"):
            generate(varied, tiny, factors={"size": 3.0})


@pytest.mark.slow
def test_a_script_without_a_main_guard_and_one_from_a_pipe_work(tmp_path):
    lines = (
        "from an8flower import generate\n"
        f"print(len(generate({str(tmp_path / 'data')!r}, 'part-2c', viewpoints=[4]).table))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(lines)
    for command, text in (([sys.executable, script], None), ([sys.executable, "-"], lines)):
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        assert run.stdout == "154\n"
        shutil.rmtree(tmp_path / "data")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a PNG", None],
    ids=["0 bytes", "no PNG", "wrong size"],
)
def test_an_invalid_png_is_reported_by_name(copied, tiny, content):
    image = copied / tiny.name / "images/class1/class1_img1_p1_r1.png"
    image.write_bytes(encode(np.zeros((9, 9, 3), np.uint8)) if content is None else content)
    assert [str(problem) for problem in verify(copied, tiny.name)] == [f"altered: {image}"]


def test_a_full_disk_is_reported_and_finished_frames_are_kept(copied, tiny, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    good = read_manifest(copied, tiny.name)
    with monkeypatch.context() as patch:
        patch.setattr("an8flower.ground.files.write", full)
        with pytest.raises(OSError, match="No space left"):
            generate(copied, tiny, viewpoints=[9])
    assert read_manifest(copied, tiny.name).digest == good.digest
    assert verify(copied, tiny.name) == []
