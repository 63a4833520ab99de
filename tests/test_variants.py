"""The built-in variants, and one from a plug-in package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from an8flower.drawing.renderer import Renderer
from an8flower.ground.registry import UnknownNameError
from an8flower.protocol import PART_IDS
from an8flower.variants import variants

EXAMPLE = Path(__file__).parent.parent / "docs/examples/an8flower-leaf-3c"


def test_the_papers_variants_are_there():
    assert {"single-6c", "double-12c", "part-2c"} <= set(variants.names())
    single, double, part = (variants.get(name).classes for name in ("single-6c", "double-12c", "part-2c"))
    assert [len(classes) for classes in (single, double, part)] == [6, 12, 2]
    assert [spec.part for spec in double] == ["petals"] * 6 + ["stem"] * 6
    # Classes 1 to 6 are those of single-6c, 7 to 12 the same colours on the stem.
    assert [spec.colours["petals"] for spec in double[:6]] == [spec.colours["petals"] for spec in single]
    assert [spec.colours["stem"] for spec in double[6:]] == [spec.colours["petals"] for spec in single]
    assert [spec.part for spec in part] == ["balls", "thorns"]


MEASURE = """
import json, sys
import numpy as np
from an8flower.drawing.renderer import Renderer
from an8flower.protocol import PART_IDS
from an8flower.variants import variants
variant = variants.get(sys.argv[1])
renderer = Renderer(variant)
told = {}
parts = {}
for k, spec in enumerate(variant.classes):
    if spec.part in parts:
        continue  # the same part in another colour
    frames = [renderer.render(k, view).part_ids for view in range(1, 41)]
    parts[spec.part] = [float(np.mean(ids == PART_IDS[spec.part]) * 1.44) for ids in frames]
    rows = np.concatenate([np.flatnonzero(ids.any(axis=1)) for ids in frames])
    columns = np.concatenate([np.flatnonzero(ids.any(axis=0)) for ids in frames])
    told[spec.part] = [int(v) for v in (rows.min(), rows.max(), columns.min(), columns.max())]
print(json.dumps({"shares": parts, "bounds": told}))
"""
EXPECTED_SHARE = {
    "petals": (0.02, 0.06),
    "stem": (0.007, 0.02),
    "balls": (0.005, 0.015),
    "thorns": (0.005, 0.015),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["double-12c", "part-2c"])
def test_every_part_is_seen_in_every_view_and_no_crop_cuts_the_plant(name):
    run = subprocess.run([sys.executable, "-c", MEASURE, name], capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)
    for part, shares in measured["shares"].items():
        low, high = EXPECTED_SHARE[part]
        assert min(shares) >= 0.003 and low < np.mean(shares) < high, part
    for top, bottom, left, right in measured["bounds"].values():
        assert top >= 50 and bottom < 250 and left >= 50 and right < 250
        assert bottom - top > 185


@pytest.mark.slow
def test_a_variant_from_another_package_is_drawn(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    packages = tmp_path / "packages"
    source = tmp_path / "source"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    subprocess.run([*install, "--target", packages, source], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(packages)}

    def an8flower(*arguments: str) -> str:
        command = [sys.executable, "-m", "benchmark", *arguments]
        run = subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return run.stdout

    listed = json.loads(an8flower("list", "variants", "--json"))["variants"]
    assert "leaf-3c" in [entry["name"] for entry in listed]
    made = json.loads(an8flower("generate", "--variant", "leaf-3c", "--viewpoints", "7", "--json"))
    assert made["files"]["image"] == 75
    assert "every file is as recorded" in an8flower("verify", "--variant", "leaf-3c", "--regenerate", "all")
    with pytest.raises(UnknownNameError):
        variants.get("leaf-3c")  # it is not installed here


@pytest.fixture(scope="module")
def drawn(renderer: Renderer):
    """Frame and twins of two classes."""
    return [(renderer.render(k, 31), renderer.render_twins(k, 31)) for k in (0, 3)]


class TestTwins:
    """Twins of single-6c, drawn by the shared renderer."""

    def test_part_only_is_the_part_and_nothing_else(self, drawn):
        (red, red_twins), (_, blue_twins) = drawn
        petals = red.part_ids == PART_IDS["petals"]
        close = np.abs(red_twins.part_only.astype(int) - red.image)[petals]
        assert np.quantile(close, 0.9) == 0  # only at the edge, other neighbours mix in
        empty = (red_twins.part_only == blue_twins.part_only).all(axis=2)
        assert empty[red.part_ids == 0].mean() > 0.98 and not empty[petals].any()
        stem = red.part_ids == PART_IDS["stem"]
        assert (red_twins.part_only[stem] != red.image[stem]).any(axis=1).all()

    def test_all_but_part_tells_no_class(self, drawn):
        (red, red_twins), (_, blue_twins) = drawn
        np.testing.assert_array_equal(red_twins.all_but_part, blue_twins.all_but_part)
        rest = red.part_ids == PART_IDS["pot"]
        np.testing.assert_array_equal(red_twins.all_but_part[rest], red.image[rest])
        petals = red_twins.all_but_part[red.part_ids == PART_IDS["petals"]].astype(int)
        assert (np.ptp(petals, axis=1) < 40).mean() > 0.99  # grey
