"""What every registered metric that asks the model again must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Modular, with_weights
from torch import nn

import explainers
from benchmark.metrics import Case, metrics
from explainers.conformance import probes

NAMES = [name for name in metrics.names() if metrics.get(name).kind == "faithfulness"]


@pytest.fixture(params=NAMES)
def metric(request):
    return metrics.get(request.param)


def explained(model, images, targets, method="gradient") -> Case:
    explain = explainers.get(method)
    return Case(model, explain, images, targets, explain(model, images, targets))


@pytest.fixture
def case(modular, generator) -> Case:
    return explained(modular, torch.rand(4, 3, 28, 28, generator=generator), torch.tensor([0, 1, 2, 0]))


def rows(case: Case, some) -> Case:
    return replace(
        case, images=case.images[some], targets=case.targets[some], heatmaps=case.heatmaps[some].contiguous()
    )


def test_there_are_some():
    assert {"deletion", "insertion", "max_sensitivity", "model_randomisation"} <= set(NAMES)


def test_one_float64_an_image_within_bounds(metric, case):
    scores = metric.compute(case)
    assert scores.shape == (4,) and scores.dtype == np.float64
    assert (scores >= metric.bounds[0]).all() and (scores <= metric.bounds[1]).all()
    assert len(set(scores)) == 4, "the score does not look at the image"
    assert metric.source and metric.compute.__doc__


def test_order_and_company_do_not_matter(metric, case):
    scores = metric.compute(case)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(metric.compute(rows(case, order)), scores[order], rtol=1e-4)
    alone = np.concatenate([metric.compute(rows(case, slice(k, k + 1))) for k in range(4)])
    np.testing.assert_allclose(alone, scores, rtol=1e-4)


def test_the_same_again_whatever_the_global_seed(metric, case):
    found = []
    for seed in (1, 2):
        with probes.global_seed(seed):
            before = probes.random_states()
            found.append(metric.compute(case))
            assert probes.random_states() == before
    np.testing.assert_array_equal(*found)


def test_model_and_batch_are_left_alone(metric, case):
    probes.put_in_use(case.model)
    before = probes.state(case.model)
    tensors = [getattr(case, name).clone() for name in ("images", "targets", "heatmaps")]
    metric.compute(case)
    assert probes.state(case.model) == before
    for name, tensor in zip(("images", "targets", "heatmaps"), tensors, strict=True):
        assert torch.equal(getattr(case, name), tensor)


def test_the_model_is_in_eval_mode(metric, generator):
    class Dropping(Modular):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.dropout(x, training=self.training))

    def with_mode(training: bool):
        model = with_weights(Dropping()).train(training)
        return metric.compute(explained(model, images, torch.tensor([0, 1])))

    images = torch.rand(2, 3, 28, 28, generator=generator)
    np.testing.assert_array_equal(with_mode(True), with_mode(False))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_invalid_map_is_nan_and_touches_no_other(metric, case, value):
    scores = metric.compute(case)
    case.heatmaps[1, 5, 7] = value
    broken = metric.compute(case)
    assert np.isnan(broken).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(np.delete(broken, 1), np.delete(scores, 1))


def test_no_images_give_no_scores(metric, case):
    assert metric.compute(rows(case, slice(0, 0))).shape == (0,)


def test_a_callers_inference_mode_changes_nothing(metric, case):
    scores = metric.compute(case)
    with torch.inference_mode():
        np.testing.assert_array_equal(metric.compute(rows(case, [0, 1, 2, 3])), scores)


class Patch(nn.Module):
    """Class 1 if rows 4 to 10, columns 12 to 18 are bright; nothing else is looked at."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = 20 * (x[:, :, 4:10, 12:18].mean(dim=(1, 2, 3)) - 0.75)
        return torch.stack([torch.zeros_like(seen), seen], dim=1)


def patch_case(heatmaps: torch.Tensor, generator) -> Case:
    images = torch.rand(len(heatmaps), 3, 28, 28, generator=generator)
    images[:, :, 4:10, 12:18] = 1
    targets = torch.ones(len(heatmaps), dtype=torch.int64)
    return Case(Patch(), lambda model, images, targets: heatmaps, images, targets, heatmaps)


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_the_truth_beats_a_random_map_and_the_opposite_loses(name, generator):
    metric = metrics.get(name)
    truth, chance = torch.zeros(5, 28, 28), torch.rand(5, 28, 28, generator=generator)
    truth[:, 4:10, 12:18] = 1
    sign = 1 if metric.higher_is_better else -1
    best, middle, worst = (
        sign * metric.compute(patch_case(maps, generator)) for maps in (truth, chance, 1 - truth)
    )
    assert (best > middle + 0.1).all() and (middle > worst + 0.1).all()


def test_a_constant_map_is_worth_as_much_as_chance(generator):
    for name in ("deletion", "insertion"):
        compute = metrics.get(name).compute
        chance = compute(patch_case(torch.rand(40, 28, 28, generator=generator), generator))
        constant = compute(patch_case(torch.ones(1, 28, 28), generator))
        assert abs(constant[0] - chance.mean()) < 3 * chance.std()


def test_a_steady_map_beats_one_that_jumps_and_a_zero_one_is_undefined(case):
    compute = metrics.get("max_sensitivity").compute
    steady = explained(case.model, case.images, case.targets, "centre")
    jumping = explained(case.model, case.images, case.targets, "random")
    assert (compute(steady) == 0).all() and (compute(jumping) > 0.3).all()
    still = replace(steady, heatmaps=torch.zeros(4, 28, 28))
    assert np.isnan(compute(still)).all()


def test_what_looks_at_the_model_beats_what_looks_at_the_image(case):
    compute = metrics.get("model_randomisation").compute
    assert (compute(explained(case.model, case.images, case.targets, "sobel")) == 1).all()
    assert (compute(case) < 0.9).all()


def test_constant_maps_before_and_after_randomisation(case):
    compute = metrics.get("model_randomisation").compute
    silent = replace(case, explain=lambda model, images, targets: torch.zeros(4, 28, 28))
    assert (compute(silent) == 0).all()
    case.heatmaps[:2] = 3
    assert np.isnan(compute(case)).tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_what_cannot_be_is_refused(name, case):
    compute = metrics.get(name).compute
    with pytest.raises(ValueError, match="steps"):
        compute(case, steps=0)
    with pytest.raises(ValueError, match=r"\(4, 28, 28\).*\(4, 27, 28\)"):
        compute(replace(case, heatmaps=case.heatmaps[:, 1:]))


def test_no_samples_and_no_blur_are_refused(case):
    with pytest.raises(ValueError, match="samples"):
        metrics.get("max_sensitivity").compute(case, samples=0)
    with pytest.raises(ValueError, match="blur"):
        metrics.get("insertion").compute(case, blur=0.0)
