"""Methods explained together: the same maps as alone, for fewer passes."""

from __future__ import annotations

import pytest
import torch

import explainers
from benchmark.board.paper import TABLE_1
from explainers.backward.backprop import backpropagate
from explainers.base import Explainer, ExplainerError, ExplainerSpec

TARGETS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def images(generator):
    return torch.rand(5, 3, 28, 28, generator=generator)


@pytest.fixture
def truth(images):
    return {"masks": images.mean(1) < 0.4, "object_masks": images.mean(1) < 0.6}


def fitted(names, model, images, truth):
    batch = (images, TARGETS, truth["masks"])
    every = [explainers.get(name) for name in names]
    return [one.fit(model, [batch if one.spec.needs_masks else batch[:2]]) for one in every]


def plug(build) -> Explainer:
    return Explainer.from_spec(ExplainerSpec(build.__name__, build, "tests"))


def test_maps_are_those_of_the_methods_alone(written, images, truth):
    cheap = [name for name in explainers.names() if not explainers.registry.get(name).costly]
    every = fitted(
        [*cheap, "grad_cam@conv1", "guided_grad_cam@relu1", "smooth_grad?samples=3"], written, images, truth
    )
    together = explainers.explain_many(every, written, images, TARGETS, **truth)
    assert list(together) == [one.name for one in every]
    for one in every:
        alone = one(written, images, TARGETS, **truth)
        torch.testing.assert_close(together[one.name], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


def test_all_of_table_1_takes_one_forward_pass(modular, images, truth):
    every = fitted(TABLE_1, modular, images, truth)
    passes = []
    conv = modular.conv1.forward
    modular.conv1.forward = lambda x: passes.append(len(x)) or conv(x)
    explainers.explain_many(every, modular, images, TARGETS)
    assert passes == [2, 1, 5]  # the first image examines the model, which was changed
    passes.clear()
    for one in every:
        one(modular, images, TARGETS)
    assert passes.count(5) == len(TABLE_1)


def test_a_method_that_fails_spoils_no_other(modular, images):
    def raises(model, images, targets):
        raise RuntimeError("on purpose")

    def writes(model, images, targets):
        images.zero_()
        return images.mean(1)

    def prunes(model, images, targets):
        model.conv1.weight.data.zero_()
        return images.mean(1)

    pixels, failed = images.clone(), {}
    found = explainers.explain_many(
        ["grad_cam", plug(raises), plug(writes), "guided_backprop", plug(prunes), "gradient"],
        modular, images, TARGETS, failed=failed,
    )  # fmt: skip
    assert torch.equal(images, pixels)
    assert list(found) == ["grad_cam", "guided_backprop", "gradient"] and list(failed) == [
        "raises",
        "writes",
        "prunes",
    ]
    for name, heatmaps in found.items():
        torch.testing.assert_close(heatmaps, explainers.get(name)(modular, images, TARGETS))
    assert failed["writes"].check == "input" and failed["prunes"].check == "model"
    with pytest.raises(
        ExplainerError, match=r"'prunes' fails 'model': it changed the values of conv1.weight"
    ):
        explainers.explain_many([plug(prunes)], modular, images, TARGETS)


def test_passes_on_other_images_are_not_mixed_up(modular, images):
    """Images made on the way come and go, often at the same place in memory."""

    def shifted(model, images, targets):
        total = torch.zeros_like(images)
        for k in range(20):
            total += backpropagate(model, images + k / 20, layer="logits", channels=targets, resample="conv")
        return total.norm(dim=1)

    together = explainers.explain_many(["guided_backprop", plug(shifted)], modular, images, TARGETS)
    torch.testing.assert_close(together["shifted"], plug(shifted)(modular, images, TARGETS))


def test_callers_in_inference_mode(modular, images):
    with torch.inference_mode():
        found = explainers.explain_many(["grad_cam", "guided_grad_cam"], modular, images * 1, TARGETS * 1)
    assert torch.equal(found["grad_cam"].clone(), explainers.get("grad_cam")(modular, images, TARGETS))
