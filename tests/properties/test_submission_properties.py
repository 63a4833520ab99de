"""Whatever bytes come in, a submission is read or refused, and nothing else happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest adds only the folder of this file
from submissions import FORM, IMAGES, content, form, header, npz, with_header

from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import read_submission
from benchmark.submission.form import parse_form
from benchmark.submission.heatmaps import Heatmaps, read_own

RIGHT = content()
NPZ = npz()

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def damaged(right: bytes, near: int) -> st.SearchStrategy[bytes]:
    """Some bytes changed, added or removed; mostly within `near` bytes of the start or the end."""
    size = len(right)
    place = st.integers(0, size) | st.integers(0, near) | st.integers(1, near).map(lambda k: size - k)
    change = st.tuples(place, st.integers(0, 6), st.binary(max_size=6))
    overwrite = st.tuples(place, st.binary(min_size=1, max_size=4)).map(
        lambda put: (put[0], len(put[1]), put[1])
    )

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        data = right
        for start, removed, put in changes:
            data = data[:start] + put + data[start + removed :]
        return data

    few = (st.lists(kind, min_size=1, max_size=4) for kind in (change, overwrite))
    return st.one_of(*few).map(apply)


def is_right(maps: Heatmaps) -> bool:
    return (
        maps.maps.shape == (6, 8, 8) and bool(np.isfinite(maps.maps).all()) and set(maps.predicted) <= {0, 1}
    )


def read(data: bytes) -> None:
    """Read a stranger's file: it is right, or refused in one line, and no file is written."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "inner" / "a"
        path.parent.mkdir()
        path.write_bytes(data)
        try:
            submission = read_submission(path)
            for claim in submission.form.claims:
                assert is_right(submission.heatmaps(claim, IMAGES))
        except SubmissionError as error:
            assert str(error).isprintable() and str(path) in str(error)
        assert [file for file in Path(folder).rglob("*") if file.is_file()] == [path]


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes(data):
    read(data)


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_any_header(about):
    read(with_header(about, RIGHT))


@settings(max_examples=300)
@given(damaged(RIGHT, near=2000))
def test_a_damaged_submission(data):
    read(data)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from([*header(RIGHT), "new"]), junk | st.sampled_from(list(header(RIGHT).values())))
def test_a_header_with_anything(name, value):
    read(with_header({**header(RIGHT), name: value}, RIGHT))


@settings(max_examples=150)
@given(st.sampled_from([*FORM, "script", "reference", "new"]), junk)
def test_a_form_with_anything(name, value):
    read(content(form(**{name: 0}) | {name: value}))


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from([*FORM["cells"][0], "new"]), junk)
def test_a_claim_with_anything(name, value):
    read(content(form(cells__0=FORM["cells"][0] | {name: value})))


@given(junk)
def test_json_of_anything(value: Any):
    try:
        parse_form(json.dumps(value), "it")
    except SubmissionError as error:
        assert str(error).isprintable()


@settings(max_examples=200)
@given(damaged(NPZ, near=400))
def test_a_damaged_file_of_ones_own(data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fold0.npz"
        path.write_bytes(data)
        try:
            assert is_right(read_own(path, IMAGES))
        except SubmissionError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()
