"""Solve the μ-lasso: predict classes from responses, with the L1 norm of a class's weights at most μ."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_ITERATIONS = 20_000  # a safety limit, not reached in ordinary use
PATIENCE = 1000  # iterations in which the gap must shrink by a tenth; else double precision is exhausted
MEMORY = 10  # previous objectives that the nonmonotone line search compares with
DIRECT = 2000  # largest number of features whose equations are solved directly
RIDGE = 1e-15  # times the trace: makes singular equations solvable; refinement removes its effect
RANK = 1e-13  # times the trace: smaller values in the Gram matrix count as rounding errors
FLOOR = 1e-6  # times ½ l'l: a smaller objective is within the rounding error of the Gram form
FRESH = 300  # largest number of features that one step adds, if their equations are solved
STEPS = 100  # steps of the active set per iteration; the next iteration continues
BLOCK = 2048  # rows of the Gram matrix computed at once


@dataclass(frozen=True)
class MuLasso:
    """Weights of all classes, and how close they are to the optimum.

    Args:
        weights: (m, C) float64, one column per class.
        gap: (C,) float64, bounds on the excess of the objective over its minimum, relative to the objective
            (see `_measure`).
        objective: (C,) float64, ½ ||X^T w - l||² per class.
        iterations: iterations of the projected gradient, for all classes at once.
    """

    weights: Array
    gap: Array
    objective: Array
    iterations: int


class Gram:
    """The sums over images that the μ-lasso needs: X X^T, X L^T and squared labels; filled by batches."""

    def __init__(self) -> None:
        self.gram: Array = np.zeros((0, 0))  # (m, m) X X^T
        self.cross: Array = np.zeros((0, 0))  # (m, C) X L^T
        self.squares: Array = np.zeros(0)  # (C,) sums of squared labels
        self.count = 0  # number of images

    def partial_fit(self, X: Any, L: Any) -> Self:  # noqa: N803
        """Add a batch.

        Args:
            X: (m, n) responses, an array or a tensor.
            L: (C, n) labels, 1 where the image is of the class.
        Raises:
            ValueError: unless both are finite matrices with equal numbers of images and with as many rows
                as in earlier batches.
        """
        responses, labels = _matrix(X, "X"), _matrix(L, "L")
        if responses.shape[1] != labels.shape[1]:
            raise ValueError(
                f"X has {responses.shape[1]} images and L has {labels.shape[1]}; they must agree"
            )
        if not self.gram.size:
            self.gram = np.zeros((len(responses), len(responses)))
            self.cross = np.zeros((len(responses), len(labels)))
            self.squares = np.zeros(len(labels))
        for name, rows, expected in zip("XL", (responses, labels), self.cross.shape, strict=True):
            if len(rows) != expected:
                raise ValueError(f"{name} has {len(rows)} rows, but earlier batches had {expected}")
        for start in range(0, len(responses), BLOCK):  # block rows of the upper triangle, then mirrored
            stop = start + BLOCK
            product = responses[start:stop] @ responses[start:].T
            self.gram[start:stop, start:] += product
            self.gram[stop:, start:stop] += product[:, BLOCK:].T
        self.cross += responses @ labels.T
        self.squares += np.square(labels).sum(axis=1)
        self.count += responses.shape[1]
        return self


def mu_lasso(X: Any, L: Any, mu: float = 5.0, tol: float = 1e-8) -> MuLasso:  # noqa: N803
    """Solve min ||X^T W - L^T||_F subject to ||w||_1 <= mu for every column w of W (m, C).

    Args:
        X: (m, N) responses, an array or a tensor.
        L: (C, N) labels, 1 where the image is of the class.
        mu: largest L1 norm of the weights of one class.
        tol: relative duality gap to reach.
    Returns:
        the weights; with a RuntimeWarning if double precision does not allow the requested gap.
    Raises:
        ValueError: for an invalid mu or tol, no images, or data that `Gram.partial_fit` rejects.
    Source: Oramas, Wang, Tuytelaars, "Visual Explanation by Interpretation", ICLR 2019, eq. 1.
    """
    return solve(Gram().partial_fit(X, L), mu, tol)


def solve(gram: Gram, mu: float = 5.0, tol: float = 1e-8) -> MuLasso:
    """Solve the μ-lasso from its Gram form, all classes at once.

    Each iteration makes a step of the spectral projected gradient for all classes whose gap is still too
    large. Then each class is solved exactly on its few features and those that the step has added.

    Args:
        gram: the sums over all images.
        mu, tol: as for `mu_lasso`.
    Returns:
        as `mu_lasso`.
    Raises:
        ValueError: for an invalid mu or tol, or if there are no images.
    Source:
        Birgin, Martínez, Raydan, "Nonmonotone spectral projected gradient methods on convex sets", 2000;
        van den Berg, Friedlander, "Probing the Pareto frontier for basis pursuit solutions", 2008.
    """
    if not 0 <= mu < np.inf:
        raise ValueError(f"mu is {mu}; it must be a finite number, 0 or more")
    if not tol > 0:
        raise ValueError(f"tol is {tol}; it must be more than 0")
    if not gram.count:
        raise ValueError("no images to learn from; give at least one to Gram.partial_fit")
    count = len(gram.squares)
    best, gap, objective = np.zeros(gram.cross.shape), np.full(count, np.inf), np.zeros(count)
    age, rates, history = np.zeros(count), np.zeros(count), np.full((count, MEMORY), -np.inf)
    classes, cross, iterations = np.arange(count), gram.cross.T, 0  # one row per class
    weights: Array = np.zeros(cross.shape)
    inverse: Array | None = None
    while True:
        gradient = weights @ gram.gram - cross
        values, scale, reached = _measure(weights, gradient, cross, gram.squares[classes], mu, inverse)
        age[classes] = np.where(reached < 0.9 * gap[classes], 0, age[classes] + 1)
        better = reached < gap[classes]
        c = classes[better]
        best[:, c], gap[c], objective[c] = weights[better].T, reached[better], values[better]
        stay = (gap[classes] > tol) & (age[classes] < PATIENCE) & (iterations < MAX_ITERATIONS)
        if not stay.any():
            break
        if not stay.all():
            classes, cross, values, scale = classes[stay], cross[stay], values[stay], scale[stay]
            weights, gradient = weights[stay], gradient[stay]
        history[classes, iterations % MEMORY] = values
        iterations += 1
        slack = history[classes].max(axis=1) - values
        stepped, rates[classes], change = _step(gram.gram, weights, gradient, rates[classes], slack, mu)
        for rows in zip(weights, stepped, gradient, change, 0.1 * tol * scale, strict=True):
            _refine(gram.gram, mu, *rows)
        weights = stepped
        if inverse is None:
            inverse = _idle(gram.gram, weights, cross, mu)
    if len(short := np.flatnonzero(gap > tol)):
        named = ", ".join(map(str, short[:10])) + ", ..." * (len(short) > 10)
        message = f"stalled short of the relative gap {tol:g}, at {gap.max():.2g} or less, in classes {named}"
        warnings.warn(message + "; a smaller mu or a larger tol would do", RuntimeWarning, stacklevel=2)
    return MuLasso(best, gap, objective, iterations)


def _step(
    gram: Array, weights: Array, gradient: Array, rates: Array, slack: Array, mu: float
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Make a step of the projected gradient.

    Returns:
        the new weights, the Barzilai-Borwein rates of the next step, and the change of the objectives.
    """
    rates = np.where(rates > 0, rates, mu / _largest(gradient))
    move = project(weights - rates[:, None] * gradient, mu) - weights
    slope, curve, length = _dot(move, gradient), _dot(move, move @ gram), _dot(move, move)
    exact = np.clip(np.divide(-slope, curve, out=np.ones_like(slope), where=curve > 0), 0, 1)
    share = np.where(slope + curve / 2 <= slack + 1e-4 * slope, 1.0, exact)
    move *= share[:, None]
    move += weights
    rates = np.divide(length, curve, out=np.zeros_like(slope), where=curve > 0)
    return move, rates, share * slope + share**2 * curve / 2


def project(points: Array, mu: float) -> Array:
    """Project each row exactly onto the points whose L1 norm is at most `mu`.

    Source: Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", 2008.
    """
    sizes = np.abs(points)
    sizes.sort(axis=1)
    sums = np.cumsum(sizes[:, ::-1], axis=1)
    sums -= mu
    sums /= np.arange(1, points.shape[1] + 1)  # the threshold of each prefix; the largest one applies
    threshold = np.maximum(sums.max(axis=1), 0)[:, None]
    inside = points - np.clip(points, -threshold, threshold)
    norms = np.maximum(np.abs(inside).sum(axis=1), mu)[:, None]  # may exceed mu by rounding errors
    inside *= np.divide(mu, norms, out=np.ones_like(norms), where=norms > 0)
    return inside


def _refine(
    gram: Array, mu: float, old: Array, new: Array, gradient: Array, change: float, enough: float
) -> None:
    """Replace `new`, in place, by the optimum on the features of `old` and the largest features it adds.

    This is an active set method: solve for the active features with fixed signs; stop where a weight
    reaches 0 (its feature becomes inactive) or the surface of the ball is reached; otherwise activate the
    feature with the steepest gradient.
    """
    fresh = np.flatnonzero((old == 0) & (new != 0))
    fresh = fresh[np.argsort(-np.abs(new[fresh]), kind="stable")[:FRESH]]
    if len(chosen := np.union1d(np.flatnonzero(old), fresh)) > DIRECT:
        return
    full = gram[np.ix_(chosen, chosen)]
    w, g = old[chosen], gradient[chosen]
    cross, signs, barred = full @ w - g, np.sign(w), np.zeros(len(w), dtype=bool)
    tight, settled = bool(np.abs(w).sum() >= mu * (1 - 1e-12)), False
    for _ in range(STEPS):
        if settled or not signs.any():
            outside = np.where((signs != 0) | barred, -1.0, np.abs(g))
            steepest, level = int(outside.argmax()), np.abs(g[signs != 0]).max(initial=0.0)
            if outside[steepest] <= level or mu * np.abs(g).max() + w @ g <= enough:
                break
            signs[steepest] = -np.sign(g[steepest])
        on = np.flatnonzero(signs)
        step, tight = _newton(full[np.ix_(on, on)], g[on], signs[on], tight)
        growth = step * signs[on]
        reach = np.divide(np.abs(w[on]), -growth, out=np.full(len(on), np.inf), where=growth < 0)
        share, room = min(1.0, float(reach.min())), max(mu - float(np.abs(w).sum()), 0.0)
        surfaced = not tight and share * growth.sum() > room
        if surfaced:
            share, tight = room / float(growth.sum()), True
        out = on[(reach <= share) & (share < 1)]
        w[on] += share * step
        w[out] = signs[out] = 0
        barred[:] = barred & (share == 0)
        barred[out] = share == 0  # a feature that leaves at once must not return at once
        g = full[:, on] @ w[on] - cross
        settled = not surfaced and not len(out)
    move = w - old[chosen]
    if gradient[chosen] @ move + move @ full @ move / 2 <= change:  # false if STEPS was too few
        new[:] = 0
        new[chosen] = w


def _newton(gram: Array, gradient: Array, signs: Array, tight: bool) -> tuple[Array, bool]:
    """Return the step to the optimum: on the surface of the ball if `tight` and the constraint is active."""
    n, scale = len(gram), float(np.trace(gram)) / len(gram)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = gram + np.eye(n) * (RIDGE * np.trace(gram))
    if tight:
        system[n, :n] = system[:n, n] = signs * scale
        step = np.linalg.solve(system, np.append(-gradient, 0.0)).astype(np.float64, copy=False)
        if step[n] >= 0:  # the multiplier of the norm
            return step[:n], True
    return np.linalg.solve(system[:n, :n], -gradient).astype(np.float64, copy=False), False


def _idle(gram: Array, weights: Array, cross: Array, mu: float) -> Array | None:
    """Set classes whose least-squares solution lies inside the ball to this solution, in place.

    Returns:
        the inverse of the Gram matrix; None while the constraint is active for all classes, or if there
        are more than DIRECT features.
    """
    if len(gram) > DIRECT or (np.abs(weights).sum(axis=1) > mu * (1 - 1e-9)).all():
        return None
    ridged = gram + np.eye(len(gram)) * (RANK * np.trace(gram))
    inverse: Array = np.linalg.inv(ridged).astype(np.float64, copy=False)
    solutions = cross @ inverse
    for _ in range(10):  # remove the effect of the ridge
        solutions -= (solutions @ gram - cross) @ inverse
    inside = np.abs(solutions).sum(axis=1) <= mu
    weights[inside] = solutions[inside]
    return inverse


def _measure(
    weights: Array, gradient: Array, cross: Array, squares: Array, mu: float, inverse: Array | None
) -> tuple[Array, Array, Array]:
    """Return the objectives, their scales and the gaps relative to these scales.

    The gap is the duality gap mu ||g||_inf + w'g. If the inverse is known, the Newton decrement g'G⁺g
    (twice the excess over least squares) is another bound, whose rounding error does not grow with mu.
    """
    inner = _dot(weights, gradient)
    objective = np.maximum((inner - _dot(weights, cross) + squares) / 2, 0)
    gap = np.maximum(mu * _largest(gradient) + inner, 0)
    if inverse is not None:
        gap = np.minimum(gap, np.abs(_dot(gradient @ inverse, gradient)))
    scale = np.maximum(objective, FLOOR * squares / 2)
    return objective, scale, np.divide(gap, scale, out=np.zeros_like(gap), where=scale > 0)


def _largest(rows: Array) -> Array:
    return np.asarray(np.maximum(rows.max(axis=1), -rows.min(axis=1)))


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _matrix(values: Any, name: str) -> Array:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    matrix: Array = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be a matrix with a column per image")
    if not len(matrix):
        raise ValueError(f"{name} has no rows; it needs at least one")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"{name}[{row}, {column}] is {matrix[row, column]}; all values must be finite")
    return matrix
