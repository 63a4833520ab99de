"""Submissions of strangers: every hostile or broken one is refused in one clear line."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from submissions import IMAGES, MEMBER, arrays, entries, members, npy, npz, zipped

from benchmark.submission import archive
from benchmark.submission.arrays import read_maps
from benchmark.submission.checking import KEYWORDS, keywords_of
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import read_submission
from benchmark.submission.schema import SCHEMA

DOCS = Path(__file__).parent.parent / "docs"


def refused(path: Path, message: str) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(SubmissionError, match=re.escape(message)) as caught:
        read_submission(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 500 and str(path) in said
    assert sorted(path.parent.rglob("*")) == before


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Inside, no more than so many bytes are allocated."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def test_one_that_is_right_is_read(tmp_path):
    submission = read_submission(zipped(tmp_path / "a.zip", members()))
    assert submission.described.explainer == "submitted:mine"
    said = entries(method__licence="", method__contact="", method__note="")
    assert submission.described.entries(submission.files) == said
    maps = read_maps(submission.read(MEMBER), "here", IMAGES)
    assert maps.heatmaps.shape == (6, 8, 8) and maps.predicted.tolist() == [0, 0, 0, 1, 1, 1]


# The file.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil.npz", "leads out of the file, by .. or the like"),
        ("heatmaps/../../evil.npz", "leads out of the file"),
        ("./submission.json", "leads out of the file"),
        ("heatmaps//fold0.npz", "leads out of the file"),
        ("/etc/passwd", "has an absolute path; paths are within the file"),
        ("C:/evil.npz", "has a backslash or a colon in its name"),
        ("..\\evil.npz", "has a backslash or a colon in its name"),
        ("heatmaps/", "is a folder; only files are members"),
        ("a\x1b[2Jb", "has a name with characters that do not belong there"),
        ("\u202egnp.exe", "has a name with characters that do not belong there"),
        ("notes.txt", "has a member 'notes.txt', which submission.json does not list"),
        ("inner.zip", "has a member 'inner.zip', which submission.json does not list"),
    ],
)
def test_names_that_lead_elsewhere_or_do_not_belong(tmp_path, name, message):
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    refused(zipped(tmp_path / "a.zip", [*members(), (info, b"evil")]), message)


def test_a_name_cut_short_by_a_zero_byte(tmp_path):
    path = zipped(tmp_path / "a.zip", [*members(), ("submission.jsonX.py", b"evil")])
    path.write_bytes(path.read_bytes().replace(b"submission.jsonX.py", b"submission.json\0.py"))
    refused(path, "has a name with characters that do not belong there")


@pytest.mark.parametrize(
    ("kind", "message"), [(stat.S_IFLNK, "is a symbolic link"), (stat.S_IFIFO, "is no plain file")]
)
def test_links_and_pipes(tmp_path, kind, message):
    info = zipfile.ZipInfo(MEMBER)
    info.external_attr = (kind | 0o777) << 16
    refused(
        zipped(tmp_path / "a.zip", [(info, b"/etc/passwd"), members()[1]]), f"{message}; only plain files"
    )


@pytest.mark.parametrize("name", ["submission.json", "SUBMISSION.json"])
def test_the_same_member_twice(tmp_path, name):
    with pytest.warns(UserWarning) if name.islower() else pytest.MonkeyPatch.context():
        path = zipped(tmp_path / "a.zip", [*members(), (name, b"{}")])
    refused(path, "is there twice")


def test_a_bomb_by_ratio(tmp_path):
    bomb = [*members(), ("bomb", bytes(20 * 2**20))]
    refused(zipped(tmp_path / "a.zip", bomb, zipfile.ZIP_DEFLATED), "unpacks to more than 100 times its size")


def test_a_bomb_by_its_total(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", members())
    with zipfile.ZipFile(path) as one:
        total = sum(info.file_size for info in one.infolist())
    small = archive.Caps(total_bytes=total - 1)
    with (
        pytest.raises(SubmissionError, match=rf"unpacks to {total} bytes; it may have {total - 1}"),
        archive.opened(path, "it", small),
    ):
        pass
    with (
        pytest.raises(SubmissionError, match="bytes; it may have 10"),
        archive.opened(path, "it", archive.Caps(file_bytes=10)),
    ):
        pass


def test_a_bomb_that_says_it_is_small(tmp_path):
    # The directory promises 100 bytes of what unpacks to 50 MiB.
    content = [(MEMBER, bytes(50 * 2**20)), members()[1]]
    path = zipped(tmp_path / "a.zip", content, zipfile.ZIP_DEFLATED)
    size = struct.pack("<L", 50 * 2**20)
    listed = entries()["files"][MEMBER]["bytes"]
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<L", listed)))
    submission = read_submission(path)  # it looks right until it is read
    with at_most(5 * 2**20), pytest.raises(SubmissionError, match=r"cannot be read|should have"):
        submission.read(MEMBER)


def directory(data: bytes) -> int:
    """Where the central directory begins."""
    return struct.unpack("<L", data[-6:-2])[0]


def test_members_that_overlap(tmp_path):
    path = zipped(tmp_path / "a.zip", [*members(), ("other", b"x" * 100)])
    data = path.read_bytes()
    begin, mark = data.rindex(b"PK\1\2"), directory(data)
    first = data[mark + 42 : mark + 46]  # where the first member starts
    path.write_bytes(data[: begin + 42] + first + data[begin + 46 :])
    with pytest.raises(SubmissionError):
        read_submission(path)


def test_too_many_members(tmp_path):
    many = [(f"m{k}", b"") for k in range(201)]
    refused(zipped(tmp_path / "a.zip", [*members(), *many]), "has 203 members; it may have 200")
    # Thousands of entries that the end of the file does not own up to.
    path = zipped(tmp_path / "b.zip", [(f"member{k:05}", b"") for k in range(5000)])
    data = path.read_bytes()
    path.write_bytes(data[:-14] + struct.pack("<2H", 2, 2) + data[-10:])
    refused(path, "has 2 members; it may have 200")


@pytest.mark.parametrize("place", [6, 8])
def test_encrypted_or_oddly_compressed(tmp_path, place):
    path = zipped(tmp_path / "a.zip", members())
    data = bytearray(path.read_bytes())
    mark = directory(data)
    data[mark + place + 2] |= 1 if place == 6 else 12
    path.write_bytes(data)
    refused(path, "is encrypted; it must not be" if place == 6 else "is compressed otherwise than by deflate")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no zip file; write it with 'an8flower submit'"),
        (b"hello", "is no zip file"),
        (b"\x80\x04K*.", "is no zip file"),  # a pickle
        (os.urandom(3000), "is no zip file"),
    ],
)
def test_no_zip_file(tmp_path, data, message):
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", message)


def test_cut_short_or_with_something_around_it(tmp_path):
    path = zipped(tmp_path / "a.zip", members())
    data = path.read_bytes()
    for cut in (len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        refused(path, "is a zip file that is cut short, or has a comment")
    path.write_bytes(data[100:])
    refused(path, "has data outside its members, or is cut short")
    path.write_bytes(b"#!/bin/sh\n" + data)
    refused(path, "has data outside its members")
    path.write_bytes(data[:-2] + b"\5\0hello")
    refused(path, "is a zip file that is cut short, or has a comment")
    path.write_bytes(data.replace(data[200:210], bytes(10), 1))
    with pytest.raises(SubmissionError, match="cannot be read"):
        read_submission(path).read(MEMBER)


def test_folders_and_missing_files(tmp_path):
    (tmp_path / "a.zip").mkdir()
    refused(tmp_path / "a.zip", "is no file; name one that 'an8flower submit' has written")
    with pytest.raises(FileNotFoundError):
        read_submission(tmp_path / "b.zip")


# What it says.


def test_no_submission_json(tmp_path):
    refused(zipped(tmp_path / "a.zip", members()[:1]), "has no submission.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "submission.json is no JSON: "),
        (b"\xff\xfe{}", "submission.json is no JSON: "),
        (b"[" * 100_000, "submission.json is nested too deeply"),
        (b" " * (2**20 + 1), "submission.json has 1048577 bytes; it may have 1048576"),
        (b'{"a": 1, "a": 2}', "submission.json has 'a' twice in one object"),
        (b'{"a": NaN}', "submission.json holds NaN, which is no JSON"),
        (b'{"a": -Infinity}', "submission.json holds -Infinity"),
        (b"9" * 10_000, "submission.json is no JSON: "),
        (b"[]", "submission.json is a list of 0; it must be an object"),
        (b"null", "submission.json is null; it must be an object"),
        (b"true", "submission.json is true; it must be an object"),
    ],
)
def test_json_that_is_none(tmp_path, data, message):
    refused(zipped(tmp_path / "a.zip", members(data)), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2, this release reads 1; install the release"),
        ({"schema_version": "1"}, "schema_version is '1'; it must be 1"),
        ({"schema_version": True}, "schema_version is true; it must be 1"),
        ({"kind": "pickle"}, "kind is 'pickle'; it must be 'plugin' or 'heatmaps'"),
        ({"method": None}, "submission.json lacks 'method'"),
        ({"extra": 1}, "submission.json has an unknown entry 'extra'; known are schema_version, kind"),
        ({"method__name": "../../etc"}, "method.name is '../../etc'; it must be the method's name"),
        ({"method__name": "mine\n"}, "method.name is 'mine\\n'"),
        ({"method__name": "a|b"}, "method.name is 'a|b'"),
        ({"method__name": "a" * 61}, "at most 60 characters"),
        ({"method__authors": []}, "method.authors is a list of 0; it must be a list of 1 to 50 authors"),
        ({"method__authors": ["\x1b[31mred"]}, "method.authors[0] is '\\x1b[31mred'; it must be an author"),
        ({"method__authors": "me"}, "method.authors is 'me'; it must be a list"),
        ({"method__paper": "two\nlines"}, "method.paper is 'two\\nlines'; it must be the paper"),
        ({"method__paper": "\u202eright to left"}, "method.paper is '\\u202eright to left'"),
        ({"method__paper": "half \ud800"}, "method.paper is 'half \\ud800'"),
        ({"method__paper": "x" * 301}, "at most 300 characters"),
        ({"method__code": "javascript:alert(1)"}, "method.code is 'javascript:alert(1)'; it must be an http"),
        ({"method__code": 'https://x.org/"><script>'}, "it must be an http(s) address, or none"),
        ({"method__commit": "master"}, "method.commit is 'master'; it must be a commit, 7 to 64"),
        ({"command": "c\x00"}, "command is 'c\\x00'; it must be the exact command"),
        ({"created": "yesterday"}, "created is 'yesterday'; it must be a time in UTC"),
        ({"cells": []}, "cells is a list of 0; it must be a list of 1 to 150 folds"),
        ({"cells__0__fold": 5}, "cells[0].fold is 5; it must be a whole number from 0 to 4"),
        ({"cells__0__fold": True}, "cells[0].fold is true; it must be a whole number"),
        ({"cells__0__fold": 0.5}, "cells[0].fold is 0.5"),
        ({"cells__0__seed": -1}, "cells[0].seed is -1"),
        ({"cells__0__variant": "../.."}, "cells[0].variant is '../..'; it must be a name"),
        ({"cells__0__model": "a/b"}, "cells[0].model is 'a/b'; it must be a name"),
        ({"cells__0__folds": "random"}, "cells[0].folds is 'random'; it must be 'interleaved' or 'blocks'"),
        ({"cells__0__dataset_digest": "0"}, "cells[0].dataset_digest is '0'; it must be a SHA-256"),
        ({"cells__0__scores__iou_auc": "1"}, "cells[0].scores.iou_auc is '1'; it must be a finite number"),
        ({"cells__0__scores__iou_auc": 10**400}, "cells[0].scores.iou_auc is a huge number"),
        ({"cells__0__scores__../a": 1}, "cells[0].scores has an entry '../a', which it cannot have"),
        ({"cells__0__scores__iou_auc": None}, "lack 'iou_auc'"),
        ({"metrics__iou_auc": None}, "metrics lacks 'iou_auc'"),
        ({"cells__0__heatmaps": None}, "it must be 'heatmaps/tiny-2c/an8net/fold0.npz'"),
        ({"cells__0__heatmaps": MEMBER.replace("0", "1")}, "it must be 'heatmaps/tiny-2c/an8net/fold0.npz'"),
        ({"files__../x": {"bytes": 1, "sha256": "0" * 64}}, "files has an entry '../x', which it cannot"),
        ({f"files__{MEMBER}__bytes": 1}, "bytes, not the 1 that submission.json gives"),
        ({f"files__{MEMBER}": None}, "does not list 'heatmaps/tiny-2c/an8net/fold0.npz' among its files"),
        ({"explainer": {"reference": "grad_cam"}}, "of the kind 'heatmaps' has no entry 'explainer'"),
        ({"kind": "plugin"}, "of the kind 'plugin' needs an entry 'explainer'"),
    ],
)  # fmt: skip
def test_entries_that_cannot_be(tmp_path, changes, message):
    refused(zipped(tmp_path / "a.zip", members(entries(**changes))), message)


def test_infinity_by_another_name(tmp_path):
    said = json.dumps(entries()).replace("0.25", "1e999").encode()
    refused(zipped(tmp_path / "a.zip", members(said)), "cells[0].scores.iou_auc is inf; it must be a finite")


@pytest.mark.parametrize(
    "reference", ["/tmp/evil.py:run", "evil.py:run", "../x:y", "os.system", "a b", "a\n", "-x", "x@../y", "é"]
)
def test_a_reference_that_would_read_a_file_of_this_machine(tmp_path, reference):
    said = entries(kind="plugin", explainer={"reference": reference}, cells__0__heatmaps=None, files={})
    refused(zipped(tmp_path / "a.zip", members(said)[1:]), "explainer.reference is ")


@pytest.mark.parametrize("script", ["../evil.py", "code/a/b.py", "code/evil.so", "/code/x.py", "code/__.pyc"])
def test_a_script_that_is_none(tmp_path, script):
    explainer = {"reference": "run", "script": script}
    said = entries(kind="plugin", explainer=explainer, cells__0__heatmaps=None, files={})
    refused(zipped(tmp_path / "a.zip", members(said)[1:]), "explainer.script is ")


def test_the_same_fold_twice(tmp_path):
    said = entries()
    said["cells"] *= 2
    refused(
        zipped(tmp_path / "a.zip", members(said)), "cells has the same variant, model, seed and fold twice"
    )


def test_a_member_that_is_not_the_one_listed(tmp_path):
    data = bytearray(npz())
    data[200] ^= 1
    path = zipped(tmp_path / "a.zip", [(MEMBER, bytes(data)), members()[1]])
    with pytest.raises(SubmissionError, match=r"is not the file whose SHA-256 submission\.json gives"):
        read_submission(path).read(MEMBER)


# The heatmaps.


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def header(text: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    said = text.encode("latin1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(said)) + said + data


TEN_GB = header("{'descr': '<f4', 'fortran_order': False, 'shape': (50000, 224, 224), }\n", bytes(256))
RIGHT = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8, 8), }\n"
nan = np.zeros((6, 8, 8), np.float32)
nan[4, 3, 3] = np.nan
inf = np.zeros((6, 8, 8), np.float16)
inf[[0, 5], 0, 0] = np.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heatmaps": npy(np.array([Evil()] * 6), pickled=True)}, "heatmaps holds Python objects (a pickle)"),
        ({"class": npy(np.array([Evil()] * 6), pickled=True)}, "class holds Python objects (a pickle)"),
        ({"heatmaps": b"\x80\x04K*."}, "heatmaps is no .npy file with a plain header"),
        ({"heatmaps": np.zeros((6, 8, 8), [("a", "<f4")])}, "must be float32 or float16"),
        ({"heatmaps": header(RIGHT.replace("'<f4'", "[('a', '|O')]"))}, "heatmaps holds Python objects"),
        ({"heatmaps": header(RIGHT.replace("'<f4'", "('<f4', (2,))"))}, "must be float32 or float16"),
        ({"heatmaps": np.zeros((6, 8, 8))}, "heatmaps is of type 'float64'; it must be float32 or float16"),
        ({"heatmaps": np.zeros((6, 8, 8), ">f4")}, "heatmaps is of type '>f4'"),
        ({"heatmaps": np.zeros((6, 8, 8), np.complex64)}, "heatmaps is of type 'complex64'"),
        ({"heatmaps": np.zeros((6, 8, 8), "S4")}, "heatmaps is of type '|S4'"),
        ({"heatmaps": np.zeros((6, 8, 9), np.float32)}, "has the shape (6, 8, 9); it must be (6, 8, 8)"),
        ({"heatmaps": np.zeros((5, 8, 8), np.float32)}, "heatmaps has the shape (5, 8, 8)"),
        ({"heatmaps": np.zeros((6, 64), np.float32)}, "heatmaps has the shape (6, 64)"),
        ({"heatmaps": np.zeros((), np.float32)}, "heatmaps has the shape ()"),
        ({"heatmaps": TEN_GB}, "heatmaps has the shape (50000, 224, 224); it must be (6, 8, 8)"),
        ({"heatmaps": header(RIGHT, bytes(10))}, "heatmaps has 83 bytes; 1609 go with its shape and type"),
        ({"heatmaps": header(RIGHT, bytes(1537))}, "heatmaps has 1610 bytes; 1609 go with"),
        ({"heatmaps": header(RIGHT, bytes(1536), b"\3\0")}, "with a plain header"),
        ({"heatmaps": header("(" * 900)}, "with a plain header"),
        ({"heatmaps": header("1L" + "\n")}, "with a plain header"),
        ({"heatmaps": header("__import__('os').mkdir('x')")}, "with a plain header"),
        ({"heatmaps": header("x" * 2000)}, "with a plain header"),
        ({"heatmaps": header(RIGHT.replace("(6, 8, 8)", "(-6, -8, 8)"), bytes(1536))}, "has the shape (-6"),
        ({"heatmaps": nan}, "the map of class 2, view 5, crop 2, rotation 1 holds NaN or an infinity; every"),
        ({"heatmaps": inf}, "the map of class 1, view 5, crop 1, rotation 1 holds NaN or an infinity, and 1"),
        ({"predicted": np.array([0, 0, 0, 1, 1, 2])}, "predicted must be classes from 0 to 1"),
        ({"predicted": np.array([0, 0, 0, 1, 1, -1])}, "predicted must be classes from 0 to 1"),
        ({"predicted": np.full(6, 2**64 - 1, np.uint64)}, "predicted must be classes from 0 to 1"),
        ({"predicted": np.zeros(6)}, "predicted is of type 'float64'; it must be whole numbers"),
        ({"predicted": None}, "lacks the array 'predicted'; it must have heatmaps, class, view"),
        ({"extra": np.zeros(3)}, "has an array 'extra.npy'; it must have heatmaps"),
        ({"view": np.full(6, 6)}, "class 1, view 6, crop 1, rotation 1 stands where class 1, view 5, crop 1"),
        ({"crop": np.array([1, 2, 2, 1, 2, 3])}, "crop 2, rotation 1 stands where class 1, view 5, crop 3"),
    ],
)  # fmt: skip
def test_heatmaps_that_cannot_be(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SubmissionError, match=re.escape(message)) as caught:
        read_maps(npz(**changes), "fold0.npz", IMAGES)
    assert str(caught.value).startswith("fold0.npz") and str(caught.value).isprintable()
    assert not any(tmp_path.iterdir())


def test_an_npz_larger_than_its_images_can_need(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as one:
        one.writestr("heatmaps.npy", bytes(10 * 2**20))
    with pytest.raises(SubmissionError, match=r"fold0\.npz unpacks to 10485760 bytes; it may have"):
        read_maps(buffer.getvalue(), "fold0.npz", IMAGES)
    with pytest.raises(SubmissionError, match=r"fold0\.npz has 1000000 bytes; it may have"):
        read_maps(bytes(10**6), "fold0.npz", IMAGES)


def test_a_header_that_claims_ten_gigabytes_costs_nothing():
    data = npz(heatmaps=TEN_GB)
    with at_most(2**20), pytest.raises(SubmissionError):
        read_maps(data, "fold0.npz", IMAGES)


def test_images_in_any_order_and_columns_first():
    usual = read_maps(npz(), "here", IMAGES)
    order = np.array([3, 1, 5, 0, 4, 2])
    shuffled = {name: value[order] for name, value in arrays().items()}
    shuffled["heatmaps"] = np.asfortranarray(shuffled["heatmaps"])
    again = read_maps(npz(**shuffled), "here", IMAGES)
    np.testing.assert_array_equal(again.heatmaps, usual.heatmaps)
    np.testing.assert_array_equal(again.predicted, usual.predicted)
    assert read_maps(usual.to_npz(IMAGES), "here", IMAGES).heatmaps.tobytes() == usual.heatmaps.tobytes()


# The schema.


def test_the_published_schema_is_the_one_that_is_checked():
    assert json.loads((DOCS / "submission.schema.json").read_text()) == SCHEMA


def test_the_checker_knows_every_keyword_of_the_schema():
    assert keywords_of(SCHEMA) <= KEYWORDS
    source = Path(sys.modules["benchmark.submission.checking"].__file__).read_text()
    _, _, code = source.partition("def read_json")
    assert [name for name in KEYWORDS if f'"{name}"' not in code] == []
