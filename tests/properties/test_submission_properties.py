"""Whatever bytes come in, a submission is read or refused, and nothing else happens."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))  # under pytest the folder of this file is there alone
from submissions import IMAGES, MEMBER, entries, members, npz, zipped

from benchmark.submission.arrays import read_maps
from benchmark.submission.checking import must_fit, read_json
from benchmark.submission.errors import SubmissionError
from benchmark.submission.form import ABOUT, describe, read_submission
from benchmark.submission.schema import SCHEMA

with TemporaryDirectory() as _folder:
    RIGHT = zipped(Path(_folder) / "a.zip", members()).read_bytes()
NPZ = npz()

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def damaged(right: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes changed, put in or left out; mostly near the end, where a zip file's directory is."""
    place = st.integers(0, len(right)) | st.integers(1, min(400, len(right))).map(lambda k: len(right) - k)
    change = st.tuples(place, st.integers(0, 6), st.binary(max_size=6))

    def changed(changes: list[tuple[int, int, bytes]]) -> bytes:
        data = right
        for start, removed, put in changes:
            data = data[:start] + put + data[start + removed :]
        return data

    put = st.tuples(place, st.binary(min_size=1, max_size=4))
    overwrite = put.map(lambda one: (one[0], len(one[1]), one[1]))
    few = (st.lists(kind, min_size=1, max_size=4) for kind in (change, overwrite))
    return st.one_of(*few).map(changed)


def read(data: bytes) -> None:
    """Read as a stranger's file: it is right, or refused in one line, and no file is made."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "inner" / "a.zip"
        path.parent.mkdir()
        path.write_bytes(data)
        try:
            submission = read_submission(path)
            for member in submission.files:
                submission.read(member)
        except SubmissionError as error:
            assert str(error).isprintable()
        assert [one for one in Path(folder).rglob("*") if one.is_file()] == [path]


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes(data):
    read(data)


@settings(max_examples=200)
@given(damaged(RIGHT))
def test_a_damaged_submission(data):
    read(data)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=20)), max_size=4))
def test_a_zip_file_of_anything(content):
    infos = []
    for name, data in content:
        infos.append((zipfile.ZipInfo("x"), data))
        infos[-1][0].filename = name.encode("utf-8", "replace").decode()
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        read(zipped(Path(folder) / "a.zip", [*members(), *infos]).read_bytes())


@settings(max_examples=80)
@given(st.sampled_from([*entries(), "new"]), junk)
def test_entries_of_anything(name, value):
    said = json.dumps(entries(**{name: 0}) | {name: value}).encode()
    with TemporaryDirectory() as folder:
        read(zipped(Path(folder) / "a.zip", [(MEMBER, NPZ), (ABOUT, said)]).read_bytes())


@given(junk)
def test_json_of_anything(value):
    try:
        must_fit(read_json(json.dumps(value).encode(), "it"), SCHEMA, "it")
        describe(value, "it: ")
    except SubmissionError as error:
        assert str(error).isprintable()


@settings(max_examples=200)
@given(damaged(NPZ))
def test_damaged_heatmaps(data):
    try:
        maps = read_maps(data, "fold0.npz", IMAGES)
    except SubmissionError as error:
        assert str(error).startswith("fold0.npz") and str(error).isprintable()
    else:
        assert maps.heatmaps.shape == (6, 8, 8) and np.isfinite(maps.heatmaps).all()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_a_header_of_anything(header):
    try:
        read_maps(npz(heatmaps=b"\x93NUMPY\1\0" + header + bytes(1536)), "fold0.npz", IMAGES)
    except SubmissionError as error:
        assert str(error).isprintable()
