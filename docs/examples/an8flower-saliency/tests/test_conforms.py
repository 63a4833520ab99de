"""Both explainers do what every explainer must."""

import pytest

from explainers.conformance.checking import assert_conforms


@pytest.mark.parametrize("name", ["hi_res_cam", "gradients_from_mean"])
def test_conforms(name):
    assert_conforms(name)
