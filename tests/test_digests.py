"""The rendered images are those whose digests are recorded; an unintended change fails here."""

from __future__ import annotations

import json
import subprocess
import sys

import digest
import pytest

from an8flower.drawing.generation import RECIPE_VERSION

recorded = json.loads(digest.RECORDED.read_text())


def test_digests_belong_to_this_recipe():
    assert recorded["recipe_version"] == RECIPE_VERSION
    assert set(digest.NAMES) == set(recorded) - {"recipe_version"}


@pytest.mark.slow
@pytest.mark.parametrize("variant", digest.NAMES)
def test_pictures_are_those_that_were_recorded(variant):
    run = subprocess.run(
        [sys.executable, digest.__file__, variant], capture_output=True, text=True, check=True
    )
    drawn, expected = json.loads(run.stdout), recorded[variant]
    # Masks are the same on all platforms; colours only on the recorded one.
    assert drawn["part_ids"] == expected["part_ids"]
    if drawn["fingerprint"] == expected["fingerprint"]:
        assert drawn["colours"] == expected["colours"]
