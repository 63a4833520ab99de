"""A certificate that says "certified" must have the numbers for it."""

from __future__ import annotations

import json

import pytest
from synthetic_results import write_one_board

from an8flower.ground.digest import with_digest
from benchmark.certificate.records import readable_certificates, record_path
from benchmark.setups import Setup


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("kept", {"share": 0.9}, "certified is true, but part_only fails"),
        ("without", {"largest": 0.9}, "certified is true, but all_but_part fails"),
        ("without", {"own": 0.9}, "certified is true, but all_but_part fails"),
        ("kept", {"share": 2.0}, "kept: share is 2.0; it must be a number from 0 to 1"),
    ],
)
def test_a_verdict_that_its_numbers_contradict_is_not_believed(tmp_path, name, change, reason):
    write_one_board(tmp_path, ["vebi", "grad_cam"])
    path = record_path(tmp_path, Setup("single-6c", "an8net", seed=0, fold=0))
    record = json.loads(path.read_text())
    record[name][0] |= change
    del record["digest"]
    path.write_text(json.dumps(with_digest(record)))
    table, broken = readable_certificates(tmp_path, "single-6c", "an8net")
    assert 0 not in table["fold"].tolist()
    assert len(broken) == 1 and reason in broken[0]


@pytest.mark.parametrize(("name", "missing"), [("kept", "textured"), ("without", "pot_texture")])
def test_a_certificate_without_a_picture_is_not_believed(tmp_path, name, missing):
    write_one_board(tmp_path, ["vebi", "grad_cam"])
    path = record_path(tmp_path, Setup("single-6c", "an8net", seed=0, fold=0))
    record = json.loads(path.read_text())
    record[name] = [one for one in record[name] if one["picture"] != missing]
    del record["digest"]
    path.write_text(json.dumps(with_digest(record)))
    _, (reason,) = readable_certificates(tmp_path, "single-6c", "an8net")
    assert f"{name} lacks the picture {missing!r}" in reason
