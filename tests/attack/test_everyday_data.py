"""Everyday situations of a dataset: interrupted, looked at in a file manager, called with NumPy's types."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torch.utils.data import DataLoader
from waiting import HANG_S

from an8flower import An8Flower, arrays, generate, verify
from an8flower.drawing.factors import checked
from an8flower.drawing.renderer import Renderer
from an8flower.export import base, export, names
from an8flower.ground import files
from an8flower.manifest import DataFolderError, Manifest, read_manifest
from an8flower.variants import variants

FORMATS = [name for name in names() if name != "croissant"]  # whose library is slow to import


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class TestExports:
    """An export that was interrupted is made by the same call; files of others are never touched."""

    @pytest.mark.parametrize("to", FORMATS)
    def test_an_export_interrupted_at_its_end_is_done(self, data, tmp_path, to):
        # Ctrl-C after the last file, before the command returns: the folder is complete.
        first = content(export(data, TINY.name, to, tmp_path / "out"))
        again = export(data, TINY.name, to, tmp_path / "out")
        assert content(again) == first and [path.name for path in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("to", FORMATS)
    def test_an_export_interrupted_halfway_can_be_run_again(self, data, tmp_path, to, monkeypatch):
        read, count = base.read_verified, 0

        def interrupted(*arguments):
            nonlocal count
            count += 1
            if count == 300:
                raise KeyboardInterrupt
            return read(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(base, "read_verified", interrupted)
            export(data, TINY.name, to, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        export(data, TINY.name, to, tmp_path / "out")
        assert content(tmp_path / "out") == content(export(data, TINY.name, to, tmp_path / "whole"))

    def test_the_interrupted_command_ends_well_when_run_again(self, data, tmp_path):
        command = [
            sys.executable, "-m", "benchmark", "export", "--to", "webdataset", "--root", str(data),
            "--variant", TINY.name, "--out", str(tmp_path / "out"),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        for line in process.stderr:
            if "250/250" in line:  # all is written
                os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=HANG_S)
        again = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
        assert again.returncode == 0, again.stderr

    @pytest.mark.parametrize(
        "alter",
        [
            lambda out: (out / "mine.txt").write_text("precious"),
            lambda out: (out / "classes.json").write_text("{}"),
            lambda out: (out / "classes.json").unlink(),
            lambda out: next(out.rglob("*.png")).write_bytes(b"mine"),
        ],
        ids=["file added", "file altered", "file deleted", "image altered"],
    )
    def test_a_folder_with_anything_else_is_refused_and_left_alone(self, data, tmp_path, alter):
        out = export(data, TINY.name, "imagefolder", tmp_path / "out")
        alter(out)
        before = content(out)
        with pytest.raises(ValueError, match="exists and is not empty; choose another folder or move it"):
            export(data, TINY.name, "imagefolder", out)
        assert content(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_an_export_of_another_format_or_fold_is_refused(self, data, tmp_path):
        out = export(data, TINY.name, "imagefolder", tmp_path / "out")
        before = content(out)
        for arguments in ({"to": "hf"}, {"to": "imagefolder", "fold": 1}):
            with pytest.raises(ValueError, match="exists and is not empty"):
                export(data, TINY.name, **arguments, out=out)
        assert content(out) == before

    @pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
    def test_a_folder_that_was_only_looked_at_is_empty(self, data, tmp_path, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_bytes(b"\0")
        out = export(data, TINY.name, "imagefolder", tmp_path / "out")
        assert name not in content(out)
        (out / name).write_bytes(b"\0")
        assert export(data, TINY.name, "imagefolder", out) == out


class TestLitter:
    """What operating systems leave in folders is no problem of the dataset."""

    @pytest.mark.parametrize(
        "name",
        [
            ".DS_Store",
            "images/.DS_Store",
            "images/class1/.DS_Store",
            "masks/class2/Thumbs.db",
            "parts/class1/desktop.ini",
            "images/class1/._class1_img1_p1_r1.png",
            "frames/class1/._class1_img7.png",
        ],
    )
    def test_verify_and_generate_pass_over_it(self, copied, name):
        (copied / TINY.name / name).write_bytes(b"\0\5\x16\7")
        assert verify(copied, TINY.name) == []
        assert len(An8Flower(copied, TINY.name, size_px=16)) == 250
        assert generate(copied, TINY, viewpoints=[1]).header["views"] == [1, 2, 3, 4, 5]

    def test_other_files_are_reported_with_what_helps(self, copied, called):
        extra = copied / TINY.name / "images/class1/notes.txt"
        extra.write_text("mine")
        told = called("verify", "--root", copied, "--variant", TINY.name)
        assert told.returncode == 1
        assert told.stdout.split("\n")[:2] == [f"extra: {extra}", "delete the extra files, or move them away"]
        extra.unlink()
        assert called("verify", "--root", copied, "--variant", TINY.name).returncode == 0


class TestNumPyTypes:
    """Numbers of NumPy are taken like those of Python."""

    @pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, lambda n: np.array(n), torch.tensor])
    def test_sizes(self, copied, kind):
        dataset = An8Flower(copied, TINY.name, size_px=kind(16))
        assert dataset[0][0].shape == (3, 16, 16) and type(dataset.size_px) is int

    @pytest.mark.parametrize("size_px", [0, -1, 1.5, 56.0, "56", True, np.int64(0), np.float64(56)])
    def test_what_is_no_size_is_refused(self, data, size_px):
        with pytest.raises(ValueError, match="size_px must be a whole number of at least 1, got"):
            An8Flower(data, TINY.name, size_px=size_px)

    def test_folds_views_and_seeds(self, data, tmp_path):
        assert len(An8Flower(data, TINY.name, fold=np.int64(1), split="test")) == 50
        generate(tmp_path, TINY, viewpoints=np.arange(1, 2), seed=np.int64(0), workers=np.int64(1))
        assert verify(tmp_path, TINY.name) == []
        assert generate(tmp_path, TINY, viewpoints=[1]).header["views"] == [1]

    def test_factors(self):
        settings = checked(
            {"size": np.float32(0.5), "extra_leaves": np.int64(2), "elevation": (np.int64(10), 40)}
        )
        assert settings == {"size": 0.5, "extra_leaves": 2, "elevation": (10, 40)}
        assert [type(value) for value in settings.values()] == [float, int, tuple]
        with pytest.raises(ValueError, match="factor size must be"):
            checked({"size": np.float64("nan")})

    def test_exports(self, data, tmp_path):
        out = export(
            data, TINY.name, "webdataset", tmp_path / "out", fold=np.int64(0), shard_images=np.int64(60)
        )
        assert len(list(out.glob("*-train-*.tar"))) == 4


class TestNoImages:
    """A subset may be empty; a dataset or an export may not."""

    def test_an_empty_subset_is_an_empty_dataset(self, data):
        dataset = An8Flower(data, TINY.name, size_px=112)
        empty = dataset.where(np.zeros(250, bool))
        assert len(empty) == 0 and list(empty.batches(8)) == [] and list(DataLoader(empty)) == []
        assert "Number of images: 0" in repr(empty) and len(empty.where(np.zeros(0, bool))) == 0
        with pytest.raises(IndexError):
            empty[0]

    @pytest.mark.parametrize(
        "chosen", [[0, 1, 2], np.arange(250), np.ones(249, bool), np.ones((250, 1), bool), True]
    )
    def test_what_does_not_choose_among_the_images_is_refused(self, data, chosen):
        with pytest.raises(ValueError, match=r"where\(\) takes one bool for each of the 250 images, not"):
            An8Flower(data, TINY.name).where(chosen)

    @pytest.mark.parametrize("size", [0, -3])
    def test_batches_without_images_are_refused(self, data, size):
        with pytest.raises(ValueError, match=f"a batch must have at least 1 image, got size {size}"):
            next(An8Flower(data, TINY.name).batches(size))

    @pytest.mark.parametrize("fold", [None, 0])
    def test_an_export_of_nothing_is_refused(self, data, fold):
        manifest = read_manifest(data, TINY.name)
        nothing = Manifest(manifest.folder, manifest.header, manifest.table.iloc[:0])
        with pytest.raises(ValueError, match="tiny-2c has no images"):
            base.splits_of(nothing, fold)


class TestDrawing:
    """OpenGL works under `python -O`, and what it says reaches the user."""

    @pytest.mark.parametrize("level", ["1", "2"])
    def test_optimised_python_draws_the_same(self, data, tmp_path, level):
        code = (
            "import sys; from conftest import TINY; from an8flower import generate\n"
            "generate(sys.argv[1], TINY, viewpoints=[1], workers=1)"
        )
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONOPTIMIZE": level, "PYTHONPATH": paths}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, tmp_path], env=environment, capture_output=True,
            text=True, timeout=HANG_S,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        drawn, known = (
            read_manifest(root, TINY.name).table.set_index("path")["sha256"].to_dict()
            for root in (tmp_path, data)
        )
        assert len(drawn) == 154 and drawn.items() <= known.items()

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("no EGL device"),
            AssertionError(),
            OSError(errno.EACCES, "/dev/dri/card0"),
            ValueError("ctypes objects\nhave no text"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_an_error_of_opengl_is_one_line(self, monkeypatch, error):
        import pyrender

        from an8flower.drawing.gl import NoGraphicsError

        def fails(*_):
            raise error

        monkeypatch.setattr(pyrender, "OffscreenRenderer", fails)
        with pytest.raises(NoGraphicsError) as raised:
            Renderer(variants.get("single-6c"))
        told = str(raised.value)
        assert "OpenGL cannot be started" in told and type(error).__name__ in told and "\n" not in told
        assert raised.value.__cause__ is None


class TestCacheFolder:
    """Resized images can always be written, or the error names what is in the way and what removes it."""

    @pytest.fixture
    def temporary(self, tmp_path, monkeypatch):
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.delenv(arrays.TEMPORARY, raising=False)
        yield folder
        monkeypatch.delenv(arrays.TEMPORARY, raising=False)

    @pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
    def test_read_only_data_are_opened(self, copied, temporary, monkeypatch, caplog, code):
        expected = An8Flower(copied, TINY.name, size_px=28)[3][0]
        before = content(copied / TINY.name)
        locked = files.locked

        def refused(folder, **options):
            # A superuser may write to everything, so that the permissions of a folder would change nothing.
            if folder.is_relative_to(copied / TINY.name):
                raise OSError(code, os.strerror(code), str(folder))
            return locked(folder, **options)

        monkeypatch.setattr(files, "locked", refused)
        for size_px in (20, 24):
            dataset = An8Flower(copied, TINY.name, size_px=size_px, target=("label", "mask", "plant"))
            assert dataset[3][0].shape == (3, size_px, size_px)
            loader = DataLoader(dataset, batch_size=8, num_workers=1, multiprocessing_context="spawn")
            assert next(iter(loader))[0].shape == (8, 3, size_px, size_px)
        assert torch.equal(An8Flower(copied, TINY.name, size_px=28)[3][0], expected)
        assert content(copied / TINY.name) == before
        (place,) = temporary.iterdir()
        assert place.stat().st_mode & 0o077 == 0
        assert caplog.text.count("cannot be written to") == 1 and str(place) in caplog.text

    def test_the_temporary_folder_is_removed_at_exit_and_shared_with_children(self, copied, temporary):
        code = (
            "import os, subprocess, sys\n"
            "from an8flower import arrays\n"
            "from an8flower.manifest import read_manifest\n"
            f"place = arrays._temporary(read_manifest({str(copied)!r}, {TINY.name!r}))\n"
            "place.mkdir(parents=True, exist_ok=True); print(place, flush=True)\n"
            "code = sys.argv[1]\n"
            "if len(sys.argv) < 3: subprocess.run([sys.executable, '-c', code, code, 'child'])\n"
            "assert place.is_dir()\n"
        )
        environment = {**os.environ, "TMPDIR": str(temporary)}
        ran = subprocess.run(
            [sys.executable, "-c", code, code], env=environment, capture_output=True, text=True, check=True
        )
        first, second = sorted(ran.stdout.split())
        assert first == second and first.startswith(str(temporary))
        assert list(temporary.iterdir()) == []

    @pytest.mark.parametrize("place", ["cache", "cache/28px"])
    @pytest.mark.parametrize("kind", ["file", "dangling link"])
    def test_a_file_in_its_place_is_named_and_repaired(self, copied, place, kind):
        expected = An8Flower(copied, TINY.name, size_px=28)[3][0]
        path = copied / TINY.name / place
        shutil.rmtree(path)
        path.symlink_to("/nowhere") if kind != "file" else path.write_text("mine")
        with pytest.raises(DataFolderError, match=f"{place} is not a folder.*an8flower generate"):
            An8Flower(copied, TINY.name, size_px=28)
        assert [(one.path, one.what) for one in verify(copied, TINY.name)] == [(path, "altered")]
        generate(copied, TINY, viewpoints=sorted({*read_manifest(copied, TINY.name).table["view"]}))
        assert verify(copied, TINY.name) == []
        assert torch.equal(An8Flower(copied, TINY.name, size_px=28)[3][0], expected)

    def test_a_folder_in_the_place_of_an_array_is_replaced(self, copied):
        expected = An8Flower(copied, TINY.name, size_px=28)[3][0]
        array = copied / TINY.name / "cache/28px/image.npy"
        array.unlink()
        array.mkdir()
        assert torch.equal(An8Flower(copied, TINY.name, size_px=28)[3][0], expected)
        assert verify(copied, TINY.name) == []
