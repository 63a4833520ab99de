"""Submissions of strangers: every hostile or broken one is refused in one clear line."""

from __future__ import annotations

import io
import json
import os
import re
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from safetensors.numpy import save
from submissions import (
    FOLD,
    IMAGES,
    arrays,
    changed,
    content,
    form,
    header,
    npz,
    plugin,
    with_header,
    written,
)

from benchmark.setups import Setup
from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import FILE_BYTES, read_submission, write_submission
from benchmark.submission.form import SCHEMA, parse_form
from benchmark.submission.heatmaps import Heatmaps, digest, read_own

DOCS = Path(__file__).parent.parent / "docs"
RIGHT = content()


def refused(path: Path, message: str) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(SubmissionError, match=re.escape(message)) as caught:
        read_submission(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 500 and str(path) in said
    assert sorted(path.parent.rglob("*")) == before


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Inside, at most so many bytes are allocated."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def heatmaps_in(path: Path) -> Heatmaps:
    submission = read_submission(path)
    return submission.heatmaps(submission.form.claims[0], IMAGES)


def test_one_that_is_right_is_read_and_written_again(tmp_path):
    submission = read_submission(written(tmp_path / "a", RIGHT))
    assert submission.form.explainer == "submitted:mine" and submission.form.to_json() == form()
    heatmaps = heatmaps_in(tmp_path / "a")
    assert heatmaps.maps.shape == (6, 8, 8) and heatmaps.predicted.tolist() == [0, 0, 0, 1, 1, 1]
    folds = {Setup("tiny-2c", "an8net", 0, 0): arrays()}
    again = write_submission(tmp_path / "new/b", submission.form, folds)
    assert again.form == submission.form and again.path.read_bytes() == RIGHT
    assert again.path.stat().st_mode == (tmp_path / "a").stat().st_mode


def test_one_that_would_be_refused_is_not_written(tmp_path):
    submission = read_submission(written(tmp_path / "a", RIGHT))
    with pytest.raises(SubmissionError, match=rf"^{re.escape(str(tmp_path / 'b'))} lacks the tensor"):
        write_submission(tmp_path / "b", submission.form, {})
    with pytest.raises(OSError, match="Is a directory"):
        write_submission(tmp_path, submission.form, {Setup("tiny-2c", "an8net", 0, 0): arrays()})
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


# The file.


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "link", "pipe"):
        refused(tmp_path / name, "is not a file; name one that 'an8flower submit' has written")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("nowhere", "dangling"):
        with pytest.raises(FileNotFoundError):
            read_submission(tmp_path / name)


def test_an_archive_of_version_0_1(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("submission.json", "{}")
    refused(
        tmp_path / "a", "is a zip archive, as version 0.1 wrote submissions; pack it with 'an8flower submit'"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a valid safetensors file: 'header too small'; pack it with 'an8flower submit'"),
        (b"hello", "is not a safetensors file with a header of at most 4194304 bytes"),
        (b"\x80\x04K*.", "is not a safetensors file"),  # a pickle
        (b"\x80\x04" + bytes(20), "is not a valid safetensors file"),
        (b"\xff" * 3000, "is not a safetensors file with a header of at most 4194304 bytes"),
        (RIGHT[: len(RIGHT) // 2], "'incomplete metadata, file not fully covered'"),
        (RIGHT[:-1], "'incomplete metadata, file not fully covered'"),
        (RIGHT[:100], "'invalid header length'"),
        (RIGHT[100:], "is not a"),
        (RIGHT + b"x", "'incomplete metadata, file not fully covered'"),
        (b"#!/bin/sh\n" + RIGHT, "is not a safetensors file with a header"),
        (save(arrays()), "is not a submission: its metadata has no 'form'; pack it with"),
        (save(arrays(), {"format": "pt"}), "is not a submission: its metadata has no 'form'"),
        (content(other="x"), "has metadata 'other'; known are form, script"),
        (content(script="import os"), "has a script in its metadata, but none in its form"),
        (content(plugin(script="a.py"), {}), "has a script in its form, but none in its metadata"),
        (content(plugin(script="a.py"), {}, script="#" * (2**20 + 1)), "script has 1048577 bytes; the"),
        (content(plugin(script="a.py"), {}, script="é" * 2**20), "script has 2097152 bytes; the"),
        (content(" " * (2**20 + 1)), "the form has 1048577 bytes; the limit is 1048576"),
        (content(fold=arrays(view=None)), f"lacks the tensor '{FOLD}/view'"),
        (content(fold=arrays(extra=np.zeros(1))), f"that the form does not describe, '{FOLD}/extra'"),
        (content(fold=arrays(**{"../../evil": np.zeros(1)})), f"not describe, '{FOLD}/../../evil'"),
        (content(fold=arrays(**{"\x1b[2J": np.zeros(1)})), f"not describe, '{FOLD}/\\x1b[2J'"),
        (content(plugin()), "has a tensor that the form does not describe"),
    ],
)  # fmt: skip
def test_files_that_are_no_submissions(tmp_path, data, message):
    refused(written(tmp_path / "a", data), message)


def test_a_file_that_is_too_large_costs_nothing(tmp_path):
    path = written(tmp_path / "large", RIGHT)
    os.truncate(path, FILE_BYTES + 1)  # sparse, on the disk too
    (tmp_path / "header").write_bytes((2**40).to_bytes(8, "little") + bytes(100))
    with at_most(2**20):
        refused(path, f"has {FILE_BYTES + 1} bytes; the limit is {FILE_BYTES}")
        refused(tmp_path / "header", "with a header of at most 4194304 bytes")


TEXT = json.dumps(header(RIGHT))
MAPS = f"{FOLD}/heatmaps"
BEGIN, END = header(RIGHT)[MAPS]["data_offsets"]


def moved(shape: Any, begin: Any, end: Any, dtype: str = "F32") -> dict[str, Any]:
    """The header with other heatmaps."""
    return changed(header(RIGHT), **{MAPS: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}})


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (changed(header(RIGHT), **{f"{FOLD}/view": header(RIGHT)[f"{FOLD}/crop"]}), "'invalid offset"),
        (moved([6, 8, 8], BEGIN + 1, END + 1), "'invalid offset for"),
        (moved([6, 8, 8], END, BEGIN), "'invalid "),
        (moved([6, 8, 8], 2**40, 2**40 + 1536), "'inv"),
        (moved([6, 8, 8], -8, 1536), "'invalid JSON in header: "),
        (moved([6, 8, 9], BEGIN, END), "'invalid shape, data type, or"),
        (moved([2**62, 2**62], BEGIN, END), "'overflow"),
        (moved([-6, -8, 8], BEGIN, END), "'invalid JSON in header: "),
        (moved([6, 8, 8], BEGIN, END, dtype="O"), "'invalid JSON in header: "),
        (changed(header(RIGHT), **{MAPS: None}), "'incomplete metadata, file not fully covered'"),
        ({"__metadata__": {"form": 1}}, "'invalid JSON in header: "),
        ({"__metadata__": []}, "'invalid JSON in header: "),
        (TEXT.replace(f'"{MAPS}"', f'"{MAPS}": {json.dumps(header(RIGHT)[MAPS])}, "{MAPS}"').encode(),
         f": '{MAPS}' appears twice in one JSON object"),
        (TEXT.replace('"form"', '"form": "{}", "form"').encode(),
         ": 'form' appears twice in one JSON object"),
        (TEXT.replace('"__metadata__"', '"__metadata__": {}, "__metadata__"').encode(), "'invalid JSON"),
        (TEXT.replace('"dtype"', '"dtype": "F16", "dtype"').encode(), "'invalid JSON in header: "),
        (b"{", "'invalid JSON in header: "),
        (b"\xff\xfe{}", "'invalid UTF-8 in header: "),
        (b"[" * 100_000, "'invalid JSON in header: "),
        (b'{"a":' * 100_000, "'invalid JSON in header: "),
    ],
)  # fmt: skip
def test_headers_that_cannot_be(tmp_path, about, message):
    refused(written(tmp_path / "a", with_header(about, RIGHT)), message)


# The form.


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "is not JSON: "),
        ("", "is not JSON: "),
        ("[" * 100_000, "is nested too deeply"),
        ("[" * 900 + "]" * 900, " is "),  # too deep, or no object, by the release of Python
        ('{"a": 1, "a": 2}', "'a' appears twice in one JSON object"),
        ('{"a": NaN}', "has NaN, which is not JSON"),
        ('{"a": -Infinity}', "has -Infinity, which is not JSON"),
        ("9" * 10_000, "is not JSON: "),
        ("[]", "the form is a list of 0; it must be an object"),
        ("null", "the form is null; it must be an object"),
        ("true", "the form is true; it must be an object"),
        (json.dumps(form()).replace("0.25", "1e999"), "cells[0].scores.iou_auc is inf; it must be a finite"),
    ],
)  # fmt: skip
def test_json_that_is_no_form(tmp_path, said, message):
    refused(written(tmp_path / "a", content(said)), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 3}, "schema_version is 3; it must be 2; the release that wrote the file reads"),
        ({"schema_version": "2"}, "schema_version is '2'; it must be 2"),
        ({"schema_version": True}, "schema_version is true; it must be 2"),
        ({"schema_version": 2.0}, "schema_version is 2.0; it must be 2"),
        ({"kind": "pickle"}, "kind is 'pickle'; it must be 'plugin' or 'heatmaps'"),
        ({"kind": None}, "the form lacks 'kind'"),
        ({"method": None}, "the form lacks 'method'"),
        ({"extra": 1}, "the form has an unknown entry 'extra'; known are schema_version, kind"),
        ({"method__\x1b[2J": 1}, "method has an unknown entry '\\x1b[2J'; known are name"),
        ({"method__name": "../../etc"}, "method.name is '../../etc'; it must be the method's name"),
        ({"method__name": "mine\n"}, "method.name is 'mine\\n'"),
        ({"method__name": "a|b"}, "method.name is 'a|b'"),
        ({"method__name": "a" * 61}, "at most 60 letters"),
        ({"method__authors": []}, "method.authors is a list of 0; it must be a list of 1 to 50 authors"),
        ({"method__authors": ["\x1b[31mred"]}, "method.authors[0] is '\\x1b[31mred'; it must be one line"),
        ({"method__authors": "me"}, "method.authors is 'me'; it must be a list"),
        ({"method__paper": "two\nlines"}, "method.paper is 'two\\nlines'; it must be one line of plain text"),
        ({"method__paper": "\u202eright to left"}, "method.paper is '\\u202eright to left'"),
        ({"method__paper": "half \ud800"}, "method.paper is 'half \\ud800'"),
        ({"method__paper": "x" * 301}, "it must be the paper, e.g. with its arXiv number, or none; 1 to 300"),
        ({"method__paper": ""}, "method.paper is ''; it must be the paper"),
        ({"method__code": "javascript:alert(1)"}, "method.code is 'javascript:alert(1)'; it must be an http"),
        ({"method__code": 'https://x.org/"><script>'}, "it must be an http(s) address of at most"),
        ({"method__commit": "master"}, "method.commit is 'master'; it must be a commit, 7 to 64"),
        ({"command": "c\x00"}, "command is 'c\\x00'; it must be one line"),
        ({"created": "yesterday"}, "created is 'yesterday'; it must be a time in UTC"),
        ({"versions__\x1b": "1"}, "versions has an entry '\\x1b'; its names must be names of packages"),
        ({"cells": []}, "cells is a list of 0; it must be a list of 1 to 150 folds"),
        ({"cells__0": 1}, "cells[0] is 1; it must be an object"),
        ({"cells__0__fold": 5}, "cells[0].fold is 5; it must be an integer from 0 to 4"),
        ({"cells__0__fold": True}, "cells[0].fold is true; it must be an integer"),
        ({"cells__0__fold": 0.5}, "cells[0].fold is 0.5"),
        ({"cells__0__fold": 0.0}, "cells[0].fold is 0.0"),
        ({"cells__0__seed": -1}, "cells[0].seed is -1"),
        ({"cells__0__variant": "../.."}, "cells[0].variant is '../..'; it must be a name"),
        ({"cells__0__model": "a/b"}, "cells[0].model is 'a/b'; it must be a name"),
        ({"cells__0__folds": "random"}, "cells[0].folds is 'random'; it must be 'interleaved' or 'blocks'"),
        ({"cells__0__dataset_digest": "0"}, "cells[0].dataset_digest is '0'; it must be a SHA-256"),
        ({"cells__0__scores__iou_auc": "1"}, "cells[0].scores.iou_auc is '1'; it must be a finite number"),
        ({"cells__0__scores__iou_auc": 10**400}, "cells[0].scores.iou_auc is a huge number"),
        ({"cells__0__scores__../a": 1}, "cells[0].scores has an entry '../a'; its names must be names of"),
        ({"cells__0__scores__iou_auc": None}, "cells[0].scores lacks 'iou_auc'"),
        ({"metrics__iou_auc": None}, "metrics lacks 'iou_auc', a score that tiny-2c an8net fold 0 claims"),
        ({"cells__0__heatmaps_sha256": None}, "cells[0] lacks 'heatmaps_sha256'"),
        ({"cells": form()["cells"] * 2}, "cells has the same variant, model, seed and fold twice"),
        ({"reference": "a"}, "reference is 'a'; it must be left out of a submission of heatmaps"),
        ({"script": "a.py"}, "script is 'a.py'; it must be left out of a submission of heatmaps"),
        ({"kind": "plugin"}, "the form lacks 'reference'"),
        ({"kind": "plugin", "reference": "a"}, "heatmaps_sha256 is '"),
    ],
)  # fmt: skip
def test_entries_that_cannot_be(tmp_path, changes, message):
    refused(written(tmp_path / "a", content(form(**changes))), message)


@pytest.mark.parametrize(
    "reference", ["/tmp/evil.py:run", "evil.py:run", "../x:y", "os.system", "a b", "a\n", "-x", "x@../y", "é"]
)
def test_a_reference_that_would_read_a_file_of_this_machine(tmp_path, reference):
    refused(written(tmp_path / "a", content(plugin(reference=reference), {})), "reference is ")


@pytest.mark.parametrize("script", ["../evil.py", "a/b.py", "evil.so", "/x.py", "__.pyc", "a.py\n", "a\0.py"])
def test_a_script_that_would_be_written_elsewhere(tmp_path, script):
    said = plugin(script=script)
    refused(written(tmp_path / "a", content(said, {}, script="run = print")), "script is ")


# The heatmaps.


nan = np.zeros((6, 8, 8), np.float32)
nan[4, 3, 3] = np.nan
inf = np.zeros((6, 8, 8), np.float16)
inf[[0, 5], 0, 0] = np.inf
WRONG = [
    ({"heatmaps": np.zeros((6, 8, 8))}, "heatmaps has the type 'float64'; it must be float32 or float16"),
    ({"heatmaps": np.zeros((6, 8, 8), np.complex64)}, "heatmaps has the type "),
    ({"heatmaps": np.zeros((6, 8, 8), bool)}, "heatmaps has the type "),
    ({"heatmaps": np.zeros((6, 8, 9), np.float32)}, "has the shape (6, 8, 9); it must be (6, 8, 8)"),
    ({"heatmaps": np.zeros((5, 8, 8), np.float32)}, "heatmaps has the shape (5, 8, 8)"),
    ({"heatmaps": np.zeros((6, 64), np.float32)}, "heatmaps has the shape (6, 64)"),
    ({"heatmaps": np.zeros((), np.float32)}, "heatmaps has the shape ()"),
    ({"heatmaps": np.zeros((0, 8, 8), np.float32)}, "heatmaps has the shape (0, 8, 8)"),
    ({"heatmaps": nan}, "the heatmap of class 2, view 5, crop 2, rotation 1 has NaN or an infinity; every"),
    ({"heatmaps": inf}, "class 1, view 5, crop 1, rotation 1 has NaN or an infinity, and those of 1 more"),
    ({"predicted": np.array([0, 0, 0, 1, 1, 2])}, "predicted must be classes from 0 to 1"),
    ({"predicted": np.array([0, 0, 0, 1, 1, -1])}, "predicted must be classes from 0 to 1"),
    ({"predicted": np.full(6, 2**64 - 1, np.uint64)}, "predicted must be classes from 0 to 1"),
    ({"predicted": np.zeros(6)}, "predicted has the type 'float64'; it must be integers"),
    (
        {"view": np.full(6, 6)},
        "it has class 1, view 6, crop 1, rotation 1 instead of class 1, view 5, crop 1",
    ),
    ({"crop": np.array([1, 2, 2, 1, 2, 3])}, "crop 2, rotation 1 instead of class 1, view 5, crop 3"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
@pytest.mark.parametrize("kind", ["submission", "own"])
def test_heatmaps_that_cannot_be(tmp_path, kind, changes, message):
    path, fold = tmp_path / "a", arrays(**changes)
    path.write_bytes(
        content(form(cells__0__heatmaps_sha256=digest(fold)), fold)
        if kind == "submission"
        else npz(**changes)
    )
    with pytest.raises(SubmissionError, match=re.escape(message)) as caught:
        heatmaps_in(path) if kind == "submission" else read_own(path, IMAGES)
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


def test_types_that_numpy_does_not_have(tmp_path):
    for dtype, shape in (("BF16", [6, 8, 16]), ("F8_E4M3", [6, 8, 32]), ("F4", [6, 8, 64])):
        path = written(tmp_path / "a", with_header(moved(shape, BEGIN, END, dtype), RIGHT))
        with pytest.raises(SubmissionError, match=f"heatmaps has the type '{dtype}'; it must be float32"):
            heatmaps_in(path)


def test_a_tensor_of_another_size_is_not_read(tmp_path):
    fold = arrays(heatmaps=np.zeros((50, 224, 224), np.float32))
    path = written(tmp_path / "a", content(form(), fold))
    with at_most(2**20), pytest.raises(SubmissionError, match="has the shape"):
        heatmaps_in(path)


def test_damaged_or_replaced_heatmaps(tmp_path):
    path = written(tmp_path / "a", RIGHT)
    submission = read_submission(path)
    data = bytearray(RIGHT)
    data[-1] ^= 1
    path.write_bytes(data)
    for read in (lambda: submission.heatmaps(submission.form.claims[0], IMAGES), lambda: heatmaps_in(path)):
        with pytest.raises(SubmissionError, match="do not have the SHA-256 that the form gives"):
            read()
    path.write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(SubmissionError, match="is not a valid safetensors file"):
        submission.heatmaps(submission.form.claims[0], IMAGES)


def test_images_in_any_order(tmp_path):
    usual = heatmaps_in(written(tmp_path / "a", RIGHT))
    order = np.array([3, 1, 5, 0, 4, 2])
    shuffled = {name: value[order] for name, value in arrays().items()}
    again = heatmaps_in(
        written(tmp_path / "b", content(form(cells__0__heatmaps_sha256=digest(shuffled)), shuffled))
    )
    shuffled["heatmaps"] = np.asfortranarray(shuffled["heatmaps"].astype(">f4"))
    own = read_own(written(tmp_path / "c", npz(**shuffled)), IMAGES)
    for other in (again, own):
        np.testing.assert_array_equal(other.maps, usual.maps)
        np.testing.assert_array_equal(other.predicted, usual.predicted)
        assert digest(other.to_arrays(IMAGES)) == digest(usual.to_arrays(IMAGES))
        assert all(array.flags.c_contiguous for array in other.to_arrays(IMAGES).values())


# The user's own heatmaps, of which some may come from others.


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def npz_of(data: bytes) -> bytes:
    """An .npz file whose heatmaps are these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", data if name == "heatmaps" else b"")
    return buffer.getvalue()


def npy(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + data


TEN_GB = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (50000, 224, 224), }\n", bytes(256))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an .npz file that np.savez wrote"),
        (b"\x80\x04K*.", "is not an .npz file that np.savez wrote"),
        (npz()[:-30], "is not an .npz file that np.savez wrote"),
        (npz(heatmaps=np.array([Evil()] * 6)), "np.savez wrote (ValueError: 'Object"),
        (npz(predicted=None), "lacks the array 'predicted'; it must have heatmaps, class, view"),
        (npz(extra=np.zeros(3)), "has an unknown array 'extra'; it must have heatmaps"),
        (npz(heatmaps=np.zeros((6, 8, 8), [("a", "<f4")])), "heatmaps has the type "),
        (npz(heatmaps=np.zeros((6, 8, 8), "S4")), "heatmaps has the type "),
        (npz(heatmaps=np.zeros(3 * 2**20, np.float32)), "; its images need at most "),
        (npz_of(TEN_GB), "is not an .npz file that np.savez wrote"),
        (npz_of(npy("__import__('os').mkdir('x')")), "is not an .npz file"),
        (npz_of(npy("(" * 900)), "is not an .npz file that np.savez wrote"),
    ],
)  # fmt: skip
def test_files_of_ones_own_that_cannot_be(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "own.npz", data)
    with pytest.raises(SubmissionError, match=re.escape(message)) as caught:
        read_own(path, IMAGES)
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == [path]


# The schema.


def test_the_published_schema_is_the_one_that_is_checked():
    schema = json.loads(SCHEMA.read_text())
    assert (DOCS / "submission.schema.json").read_bytes() == SCHEMA.read_bytes()
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(form())


def test_every_rule_of_the_schema_says_what_would_be_right():
    def rules(schema: Any) -> Iterator[dict[str, Any]]:
        for name, value in schema.items():
            if name in ("properties", "$defs"):
                for inner in value.values():
                    yield from rules(inner)
            elif (
                name in ("items", "then", "else", "propertyNames", "additionalProperties")
                and value is not False
            ):
                yield from rules(value)
        if set(schema) - {"properties", "items", "required", "$ref"}:
            yield schema

    assert [rule for rule in rules(json.loads(SCHEMA.read_text())) if "description" not in rule] == []


def test_the_form_that_the_docs_show_is_one():
    (block,) = re.findall(r"```json\n(.*?)```", (DOCS / "submit.md").read_text(), re.DOTALL)
    assert parse_form(block, "docs").kind == "heatmaps"
