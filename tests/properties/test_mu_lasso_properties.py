"""What must hold of the μ-lasso's weights whatever the responses and the labels."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from explainers.vebi import mu_lasso
from explainers.vebi.lasso import project


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, images, classes = draw(st.integers(1, 25)), draw(st.integers(1, 40)), draw(st.integers(1, 4))
    rank = draw(st.integers(1, 25))
    x = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, images))
    if draw(st.booleans()):
        x = np.maximum(x, 0)  # as after a ReLU, silent features among them
    return x, (rng.random((classes, images)) < 0.4).astype(float)


def solved(x, labels, mu):
    """The solution; where labels are all but met, rounding may end it short of the gap, and it says so."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = mu_lasso(x, labels, mu)
    short = result.gap > 1e-8
    assert len(told) == short.any() and (result.gap <= 1e-5).all()
    assert (result.objective <= 1e-3 * labels.sum(axis=1))[short].all()
    return result


sizes = st.sampled_from([0.0, 0.01, 0.3, 1.0, 5.0, 50.0])


@given(problems(), sizes)
def test_no_direction_leads_down(problem, mu):
    x, labels = problem
    weights = solved(x, labels, mu).weights
    assert (np.abs(weights).sum(axis=0) <= mu * (1 + 1e-12)).all()
    for w, label in zip(weights.T, labels, strict=True):
        gradient = x @ (x.T @ w - label)
        # Gaps are relative to the objective, so slopes are known to about the root of their bound.
        small = 1e-6 * (1 + np.abs(x @ label).max() + np.square(x).sum() * min(mu, np.abs(w).sum()))
        used, largest = w != 0, np.abs(gradient).max()
        if np.abs(w).sum() >= mu * (1 - 1e-9):
            np.testing.assert_allclose(gradient[used], -np.sign(w[used]) * largest, atol=small)
        else:
            assert largest <= small


@given(problems(), sizes, st.sampled_from([0.125, 3.0, 1000.0]))
def test_larger_responses_need_weights_as_much_smaller(problem, mu, factor):
    x, labels = problem
    mine, scaled = solved(x, labels, mu), solved(factor * x, labels, mu / factor)
    np.testing.assert_allclose(factor * x.T @ scaled.weights, x.T @ mine.weights, atol=1e-3)
    np.testing.assert_allclose(scaled.objective, mine.objective, rtol=1e-7, atol=1e-9)


@given(problems(), sizes, st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(problem, mu, random):
    x, labels = problem
    order = random.sample(range(len(labels)), len(labels))
    mine, moved = solved(x, labels, mu), solved(x, labels[order], mu)
    np.testing.assert_allclose(x.T @ moved.weights, x.T @ mine.weights[:, order], atol=1e-3)
    np.testing.assert_allclose(moved.objective, mine.objective[order], rtol=1e-7, atol=1e-9)


@given(problems(), sizes, sizes)
def test_more_room_never_hurts(problem, mu, more):
    x, labels = problem
    tight, wide = solved(x, labels, mu).objective, solved(x, labels, mu + more).objective
    assert (wide <= tight * (1 + 1e-7) + 1e-9).all()


@given(problems(), sizes)
def test_a_projected_point_is_inside_and_stays(problem, mu):
    points = project(problem[0], mu)
    assert (np.abs(points).sum(axis=1) <= mu * (1 + 1e-12)).all()
    np.testing.assert_allclose(project(points, mu), points, atol=1e-12)
