"""Passes and memory are what they are for a network small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Modular, with_weights
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

import explainers
from an8flower.ground.memo import sharing
from benchmark.measuring import cost as costs
from benchmark.measuring.cost import MIB, Meter, cost
from explainers import Explainer, ExplainerSpec
from explainers.conformance import probes

# Multiply-accumulates of conftest's network: 28 -> 12 -> 10 -> 5, outputs times inputs of each.
CONV1, CONV2, FC = 12 * 12 * 4 * 3 * 25, 10 * 10 * 6 * 4 * 9, 3 * 6 * 5 * 5
WHOLE = CONV1 + CONV2 + FC


@pytest.fixture
def batch(generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(5, 3, 28, 28, generator=generator), torch.tensor([0, 1, 2, 0, 1])


def own(saliency) -> Explainer:
    return Explainer(ExplainerSpec("own", saliency, source="tests"), {}, saliency)


def passes(explainer, model, images, targets, **truths) -> tuple[float, float]:
    measured = cost(explainer, model, images, targets, repeats=1, **truths)
    return measured.forward_passes, measured.backward_passes


@pytest.mark.parametrize(
    ("name", "parameters", "forward", "backward"),
    [
        ("gradient", {}, 1, 1),
        ("deconvnet", {}, 1, 1),
        ("guided_backprop", {}, 1, 1),
        ("input_x_gradient", {}, 1, 1),
        ("grad_cam", {}, 1, FC / WHOLE),
        ("grad_cam", {"layer": "conv1"}, 1, (CONV2 + FC) / WHOLE),
        ("smooth_grad", {"samples": 7}, 7, 7),
        ("rise", {"samples": 9}, 9, 0),
        ("random", {}, 0, 0),
        ("sobel", {}, 0, 0),
    ],
)
def test_passes_of_methods_however_the_model_is_written(written, batch, name, parameters, forward, backward):
    found = passes(explainers.get(name, **parameters), written, *batch)
    assert found == pytest.approx((forward, backward), abs=1e-12)


def test_the_oracle_takes_no_pass(modular, batch):
    masks = torch.zeros(5, 28, 28, dtype=torch.bool)
    assert passes(explainers.get("oracle"), modular, *batch, masks=masks) == (0, 0)


def test_vebi_goes_forward_once_and_back_from_the_height_of_each_feature(modular, batch):
    images, targets = batch
    vebi = explainers.get("vebi", mu=50.0).fit(modular, [(images, targets)])
    images, targets = images[:1].expand(5, -1, -1, -1), targets[:1].expand(5)  # of equal heights
    (features, *_) = vebi.method.explain(modular, images, targets).evidence
    below = {"conv1": CONV1, "relu1": CONV1}
    heights = [below.get(feature.layer.name, CONV1 + CONV2) for feature in features]
    found = passes(vebi, modular, images, targets)
    assert len(features) > 1
    assert found == pytest.approx(((CONV1 + CONV2) / WHOLE, sum(heights) / WHOLE))


def test_a_pass_is_one_whoever_makes_it(modular, batch):
    def twice_and_a_half(model, images, targets):
        with torch.no_grad():
            model(images)
            model(images.flip(3))
            model(images[: len(images) // 2 + 1])  # 3 of 5
        return images[:, 0]

    assert passes(own(twice_and_a_half), modular, *batch) == pytest.approx((2 + 3 / 5, 0))


def test_larger_images_are_more_of_a_pass():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean(dim=(2, 3)))

    def enlarged(model, images, targets):
        return model(nn.functional.interpolate(images, scale_factor=2))[:, :1, None].expand(-1, 8, 8).clone()

    model = Pooled().requires_grad_(False)
    conv, fc = 8 * 8 * 4 * 27, 8
    forward, backward = passes(
        own(enlarged), model, torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    )
    assert (forward, backward) == pytest.approx(((4 * conv + fc) / (conv + fc), 0))


def test_own_ways_back_with_the_weights_are_backward(modular, batch):
    def by_hand(model, images, targets):
        kernels = model.conv1.weight.flip(2, 3).transpose(0, 1)
        signal = model.conv1(images)
        with torch.no_grad():
            nn.functional.conv_transpose2d(signal, model.conv1.weight, stride=2)
            nn.functional.conv2d(signal, kernels)
        return signal.new_zeros(images[:, 0].shape) + signal.sum() * 0

    expected = CONV1 / WHOLE, 2 * CONV1 / WHOLE
    assert passes(own(by_hand), modular, *batch) == pytest.approx(expected)


def test_arithmetic_beside_the_model_is_no_pass(modular, batch):
    def filtered(model, images, targets):
        kernel = torch.ones(3, 3, 5, 5)
        gram = images.flatten(1) @ images.flatten(1).T
        return nn.functional.conv2d(images, kernel, padding=2)[:, 0] + gram.mean()

    assert passes(own(filtered), modular, *batch) == (0, 0)


def test_attention_is_counted_with_and_without_a_graph():
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)

        def forward(self, x):
            return self.layer(x.flatten(2)).mean(dim=1)

    def forwards(model, images, targets):
        with torch.no_grad():
            model(images)
        return images[:, 0]

    def gradients(model, images, targets):
        leaf = images.detach().requires_grad_()
        (signal,) = torch.autograd.grad(model(leaf).sum(), leaf)
        return signal[:, 0]

    model = Attending().eval()
    images, targets = torch.rand(4, 5, 2, 3), torch.zeros(4, dtype=torch.int64)
    assert passes(own(forwards), model, images, targets) == (1, 0)
    assert passes(own(gradients), model, images, targets) == pytest.approx((1, 1))
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_without_weights_has_no_passes_to_count(batch):
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3))

    assert np.isnan(passes(explainers.get("gradient"), Mean(), *batch)).all()


def test_memory_is_what_a_method_holds_at_once(modular, batch):
    images, targets = batch

    def holding(model, images, targets):
        for _ in range(3):
            block = torch.ones(2 * MIB // 4)
            block = block * 2  # two of them at once, 4 MiB
            view = block.view(2, -1)[1]
            view += 1
            del view, block
        return images[:, 0].clone()

    measured = cost(own(holding), modular, images, targets, repeats=1)
    weights = sum(tensor.nbytes for tensor in modular.state_dict().values())  # the guard's copy
    small = 3 * images[:, 0].nbytes + weights
    assert 4 * MIB <= measured.peak_mib_per_image * 5 * MIB <= 4 * MIB + small + 4096


def test_memory_is_counted_until_the_last_tensor_that_holds_it_goes(modular):
    with Meter(modular) as meter:
        first = torch.zeros(256)
        view = first[:10]
        del first
        torch.zeros(256)
        assert meter.peak_bytes == 2048
        del view
        torch.zeros(300)
    assert meter.peak_bytes == 2048


@pytest.mark.parametrize(("graph", "tensors"), [(False, 2), (True, 9)])
def test_a_graph_holds_memory(modular, graph, tensors):
    with Meter(modular) as meter:
        values = torch.ones(1024, requires_grad=graph)
        for _ in range(8):
            values = values.sigmoid()
    assert meter.peak_bytes == tensors * 4096


def test_time_is_a_median_that_counting_does_not_touch(modular, batch, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])  # calls of 5, 1 and 2 seconds
    monkeypatch.setattr(costs.time, "process_time", lambda: next(clock))
    metered = []

    def saliency(model, images, targets):
        metered.append((len(images), isinstance(_get_current_dispatch_mode(), Meter)))
        return images[:, 0]

    assert cost(own(saliency), modular, *batch, repeats=3).ms_per_image == pytest.approx(2000 / 5)
    assert metered == [(1, False), (5, True), (5, False), (5, False), (5, False)]


def test_the_model_is_left_alone_and_nothing_is_shared(generator):
    model = with_weights(Modular())
    probes.put_in_use(model)
    before = probes.state(model)
    images, targets = torch.rand(2, 3, 28, 28, generator=generator), torch.tensor([0, 1])
    gradient = explainers.get("gradient")
    with sharing(model, images, targets):
        gradient(model, images, targets)
        assert passes(gradient, model, images, targets) == (1, 1)
    assert probes.state(model) == before


def test_what_cannot_be_measured_is_refused(modular, batch):
    images, targets = batch
    with pytest.raises(ValueError, match="images"):
        cost(explainers.get("gradient"), modular, images[:0], targets[:0])
    with pytest.raises(ValueError, match="repeats"):
        cost(explainers.get("gradient"), modular, images, targets, repeats=0)
