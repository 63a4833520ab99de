"""The μ-lasso against CLARABEL, spgl1, least squares and answers known by hand."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import cvxpy
import numpy as np
import pytest
import spgl1
import torch

from explainers.vebi import Gram, lasso, mu_lasso, solve


def labels(rng, classes: int, images: int):
    return (rng.random((classes, images)) < 0.3).astype(float)


def problem(kind: str):
    rng = np.random.default_rng(7)
    normal, uniform = rng.standard_normal, rng.random
    return {
        "random": lambda: (normal((30, 120)), labels(rng, 3, 120)),
        "correlated": lambda: (normal((1, 90)) + 1e-3 * normal((40, 90)), labels(rng, 2, 90)),
        "nonnegative": lambda: (
            uniform((60, 5)) @ uniform((5, 50)) + 0.1 * uniform((60, 50)),
            labels(rng, 2, 50),
        ),
        "rank-deficient": lambda: (normal((50, 6)) @ normal((6, 80)), labels(rng, 2, 80)),
        "m >> N": lambda: (normal((200, 15)), labels(rng, 2, 15)),
        "N >> m": lambda: (normal((6, 1500)), labels(rng, 3, 1500)),
        "scales": lambda: (uniform((20, 80)) * np.logspace(-3, 1, 20)[:, None], labels(rng, 2, 80)),
        "smooth": lambda: (
            np.exp(-np.square(np.linspace(0, 1, 60)[:, None] - np.linspace(0, 1, 40)) / 0.02),
            labels(rng, 2, 40),
        ),
        "duplicates": lambda: (np.tile(uniform((10, 40)), (3, 1)), labels(rng, 2, 40)),
        "network": lambda: (lambda x: (x / x.sum(axis=0), labels(rng, 3, 60)))(np.square(normal((80, 60)))),
    }[kind]()


KINDS = ["random", "correlated", "nonnegative", "rank-deficient", "m >> N", "N >> m", "scales", "smooth"]
KINDS += ["duplicates", "network"]
FULL_RANK = ["random", "N >> m"]


def by_clarabel(x, l, mu):  # noqa: E741
    w = cvxpy.Variable(len(x))
    task = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x.T @ w - l)), [cvxpy.norm1(w) <= mu])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may say that it is not sure of the last digits
        task.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return w.value * min(1, mu / np.abs(w.value).sum())


def by_spgl1(x, l, mu):  # noqa: E741
    logging.getLogger("spgl1").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return spgl1.spg_lasso(x.T, l, mu, opt_tol=1e-9, iter_lim=3000)[0]


def distance(x, l, w):  # noqa: E741
    return float(np.linalg.norm(x.T @ w - l.T))


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.1, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_nearer_than_clarabel_by_more_than_rounding(kind, mu):
    x, l = problem(kind)  # noqa: E741
    ours = mu_lasso(x, l, mu)
    theirs = np.stack([by_clarabel(x, row, mu) for row in l], axis=1)
    best, zero = distance(x, l, theirs), np.linalg.norm(l)
    assert distance(x, l, ours.weights) <= best * (1 + 1e-6) + 1e-6 * zero
    if kind not in ("smooth", "correlated"):  # where Clarabel itself is this exact
        assert distance(x, l, ours.weights) == pytest.approx(best, rel=1e-6, abs=1e-6 * zero)
    if kind in FULL_RANK:
        np.testing.assert_allclose(ours.weights, theirs, atol=1e-4)
    assert (np.abs(ours.weights).sum(axis=0) <= mu * (1 + 1e-12)).all()
    assert (ours.gap <= 1e-8).all()
    np.testing.assert_allclose(
        ours.objective, np.square(x.T @ ours.weights - l.T).sum(axis=0) / 2, rtol=1e-8, atol=1e-12 * zero**2
    )


@pytest.mark.parametrize("mu", [0.5, 4.0])
@pytest.mark.parametrize("kind", ["random", "rank-deficient", "m >> N", "N >> m", "duplicates", "network"])
def test_spgl1_agrees(kind, mu):
    x, l = problem(kind)  # noqa: E741
    theirs = np.stack([by_spgl1(x, row, mu) for row in l], axis=1)
    ours = mu_lasso(x, l, mu).weights
    assert distance(x, l, ours) == pytest.approx(
        distance(x, l, theirs), rel=1e-6, abs=1e-6 * np.linalg.norm(l)
    )
    if kind in FULL_RANK:
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["random", "m >> N", "N >> m", "network"])
def test_the_projected_gradient_alone_gets_there_too(kind, monkeypatch):
    x, l = problem(kind)  # noqa: E741
    with_equations = mu_lasso(x, l, 1.0)
    monkeypatch.setattr(lasso, "DIRECT", 0)
    alone = mu_lasso(x, l, 1.0)
    assert alone.gap.max() <= 1e-8 and alone.iterations > with_equations.iterations
    np.testing.assert_allclose(alone.objective, with_equations.objective, rtol=1e-7, atol=1e-9)


# All but "smooth": its least squares need weights that no Gram matrix in double precision knows.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "smooth"])
def test_a_ball_wide_enough_gives_least_squares(kind):
    x, l = problem(kind)  # noqa: E741
    free = np.linalg.lstsq(x.T, l.T)[0]
    mu = 2 * np.abs(free).sum(axis=0).max()
    ours = distance(x, l, mu_lasso(x, l, mu).weights)
    assert ours == pytest.approx(distance(x, l, free), rel=1e-6, abs=1e-6 * np.linalg.norm(l))


def test_no_room_gives_no_weights():
    x, l = problem("random")  # noqa: E741
    none = mu_lasso(x, l, 0)
    assert not none.weights.any() and not none.gap.any()
    np.testing.assert_allclose(none.objective, l.sum(axis=1) / 2)


@pytest.mark.parametrize("mu", [0.2, 1.0, 5.0])
def test_one_feature_by_hand(mu):
    x, l = np.array([[1.0, 2.0, -1.0]]), np.array([[2.0, 1.0, -3.0], [-4.0, 0.5, 1.0]])  # noqa: E741
    expected = np.clip(l @ x[0] / (x @ x.T)[0, 0], -mu, mu)
    np.testing.assert_allclose(mu_lasso(x, l, mu).weights[0], expected, atol=1e-12)


def test_orthogonal_features_by_hand():
    # X X^T = I, so the weights are the projection of X l: (3, 1) to the ball of 2.5 is (2.25, 0.25).
    assert mu_lasso(np.eye(2), [[3.0, 1.0]], 2.5).weights[:, 0] == pytest.approx([2.25, 0.25])


def test_a_feature_that_never_answers_weighs_exactly_nothing():
    x, l = problem("random")  # noqa: E741
    x[[3, 17]] = 0
    for mu in (0.5, 5.0, 1e4):
        weights = mu_lasso(x, l, mu).weights
        assert not weights[[3, 17]].any()
        np.testing.assert_allclose(
            np.delete(weights, [3, 17], 0), mu_lasso(np.delete(x, [3, 17], 0), l, mu).weights, atol=1e-10
        )


def test_a_class_without_images_weighs_exactly_nothing():
    x, l = problem("random")  # noqa: E741
    l[1] = 0
    solved = mu_lasso(x, l, 1.0)
    assert not solved.weights[:, 1].any() and solved.gap[1] == 0 and solved.weights[:, 0].any()
    assert not mu_lasso(np.zeros_like(x), l, 1.0).weights.any()


def test_one_class_is_that_column_of_all():
    x, l = problem("random")  # noqa: E741
    np.testing.assert_allclose(mu_lasso(x, l[1:2]).weights[:, 0], mu_lasso(x, l).weights[:, 1], atol=1e-10)


def test_batches_are_as_good_as_all_at_once(monkeypatch):
    x, l = problem("random")  # noqa: E741
    monkeypatch.setattr(lasso, "BLOCK", 7)  # several blocks, the last one smaller
    gram = Gram()
    for start in range(0, 120, 50):
        assert gram.partial_fit(x[:, start : start + 50], l[:, start : start + 50]) is gram
    np.testing.assert_allclose(gram.gram, x @ x.T, atol=1e-12)
    np.testing.assert_allclose(gram.cross, x @ l.T, atol=1e-12)
    np.testing.assert_allclose(gram.squares, np.square(l).sum(axis=1))
    assert gram.count == 120
    np.testing.assert_allclose(solve(gram, 1.0).weights, mu_lasso(x, l, 1.0).weights, atol=1e-10)


def test_tensors_and_single_precision_are_read_exactly():
    x, l = problem("random")  # noqa: E741
    x = x.astype(np.float32)
    expected = mu_lasso(x.astype(np.float64), l, 1.0)
    tensor = torch.from_numpy(x).requires_grad_()
    for given in (x, tensor):
        solved = mu_lasso(given, torch.from_numpy(l) > 0, 1.0)
        np.testing.assert_array_equal(solved.weights, expected.weights)
        assert solved.weights.dtype == solved.gap.dtype == solved.objective.dtype == np.float64


def test_it_says_so_if_it_stalls(monkeypatch):
    x, l = problem("random")  # noqa: E741
    with pytest.warns(
        RuntimeWarning, match=r"stalled short of the relative gap 1e-30, at .* in classes 0, 1, 2;"
    ):
        assert mu_lasso(x, l, 0.5, tol=1e-30).gap.max() < 1e-12
    monkeypatch.setattr(lasso, "MAX_ITERATIONS", 1)
    monkeypatch.setattr(lasso, "DIRECT", 0)
    with pytest.warns(RuntimeWarning, match="stalled"):
        assert mu_lasso(x, l, 0.5).iterations == 1


def slow_projection(v, mu):
    if np.abs(v).sum() <= mu:
        return v
    low, high = 0.0, np.abs(v).max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(np.abs(v) - middle, 0).sum() > mu:
            low = middle
        else:
            high = middle
    return np.sign(v) * np.maximum(np.abs(v) - high, 0)


@pytest.mark.parametrize("mu", [1e-3, 1.0, 20.0, 1e3])
def test_projection_is_the_bisection(mu):
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.standard_normal((20, 30)) * np.logspace(-3, 3, 20)[:, None], np.ones((1, 30)), np.zeros((1, 30))]
    )
    slow = np.stack([slow_projection(v, mu) for v in points])
    np.testing.assert_allclose(lasso.project(points, mu), slow, atol=1e-12 * 1e3)
    np.testing.assert_array_equal(lasso.project(points, 0), 0)


X, L = np.ones((3, 4)), np.ones((2, 4))
NAN = np.where(np.eye(3, 4) > 0, np.nan, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mu_lasso(X, L, -1), "mu is -1; it must be a finite number, 0 or more"),
        (lambda: mu_lasso(X, L, np.inf), "mu is inf"),
        (lambda: mu_lasso(X, L, np.nan), "mu is nan"),
        (lambda: mu_lasso(X, L, tol=0), "tol is 0; it must be more than 0"),
        (lambda: mu_lasso(X, L, tol=np.nan), "tol is nan"),
        (lambda: mu_lasso(X[0], L), r"X has shape \(4,\); it must be a matrix"),
        (lambda: mu_lasso(X, L[0]), r"L has shape \(4,\)"),
        (lambda: mu_lasso(X, L[:, :3]), "X has 4 images and L has 3; they must agree"),
        (lambda: mu_lasso(NAN, L), r"X\[0, 0\] is nan; all values must be finite"),
        (lambda: mu_lasso(X, -L / 0.0), r"L\[0, 0\] is -inf"),
        (lambda: mu_lasso(X[:, :0], L[:, :0]), "no images"),
        (lambda: mu_lasso(X[:0], L), "X has no rows"),
        (lambda: mu_lasso(X, L[:0]), "L has no rows"),
        (lambda: Gram().partial_fit(X, L).partial_fit(X[:2], L), "X has 2 rows, but earlier batches had 3"),
        (lambda: Gram().partial_fit(X, L).partial_fit(X, L[:1]), "L has 1 rows, but earlier batches had 2"),
        (lambda: solve(Gram()), "no images to learn from; give at least one"),
        (lambda: solve(Gram().partial_fit(X, L), mu=-2), "mu is -2"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=message):
        call()
