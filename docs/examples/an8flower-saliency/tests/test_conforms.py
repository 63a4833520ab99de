"""Check both explainers of the package."""

import pytest

from explainers.conformance import assert_conforms


@pytest.mark.parametrize("name", ["hi_res_cam", "gradients_from_mean"])
def test_conforms(name):
    assert_conforms(name)
