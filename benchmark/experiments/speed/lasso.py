"""Compare the μ-lasso with other solvers: `python -m benchmark.experiments.speed.lasso [--large]`."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmark.experiments.speed.links import medians
from explainers.vebi.lasso import Array, Gram, mu_lasso, solve

MU = 10.0
TOL = 1e-8
SMALL = (32, 32, 32, 64, 64, 64, 119, 119, 120)  # similar to a small network: 646 in total
LARGE = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6, 4096, 4096)  # VGG-16: 12416 in total


def main() -> None:
    """Measure the solvers and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="12416 features, 1000 classes: takes minutes")
    (large if parser.parse_args().large else compared)()


def synthetic(
    widths: Sequence[int], labels: NDArray[np.int64], classes: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Simulate the responses of a network to a batch: the squared share of each channel, as in VEBI.

    Args:
        widths: channels of each layer; consecutive layers of equal width are noisy copies, like those
            before and after a ReLU or a pooling.
        labels: (n,) classes of the images.
        classes: number of classes.
        rng: draws the images; the tuning of the channels is fixed.
    Returns:
        (channels, n) responses and (classes, n) labels in {0, 1}.
    """
    fixed, parts = np.random.default_rng(0), []
    scene = rng.gamma(2, 0.05, (10, len(labels)))
    for width, copies in groupby(widths):
        sizes = fixed.lognormal(size=(width, 1))
        wanted = 0.5 * fixed.standard_normal((width, classes))
        drive = fixed.random((width, 10)) @ scene + wanted[:, labels]
        drive = sizes * np.maximum(drive + 0.3 * rng.standard_normal(drive.shape), 0)
        for _ in copies:
            layer = np.square(drive * (1 + 0.1 * rng.standard_normal(drive.shape)))
            parts.append(layer / layer.sum(axis=0))
    return np.concatenate(parts), (np.arange(classes)[:, None] == labels).astype(np.float64)


def compared(images: int = 600, classes: int = 6, repeats: int = 3) -> None:
    """Time our solver, spgl1 and cvxpy with Clarabel alternately, on the problem of a small network."""
    rng = np.random.default_rng(1)
    x, labels = synthetic(SMALL, rng.integers(0, classes, images), classes, rng)
    table = Table(title=f"μ-lasso, {len(x)} features, {images} images, {classes} classes, μ = {MU:g}")
    for heading in ("solver", "seconds", "our seconds", "ratio", "its relative gap", "our gap"):
        table.add_column(heading)
    others: dict[str, Callable[[], Array]] = {
        "spgl1": lambda: spgl1_weights(x, labels, MU),
        "cvxpy, Clarabel": lambda: clarabel_weights(x, labels, MU),
    }
    ours = gaps(x, labels, mu_lasso(x, labels, MU, TOL).weights, MU).max()
    for name, other in others.items():
        mine, theirs = medians(lambda: mu_lasso(x, labels, MU, TOL), other, repeats)
        reached = gaps(x, labels, other(), MU).max()
        table.add_row(
            name, f"{theirs:.3f}", f"{mine:.3f}", f"{theirs / mine:.0f}x", f"{reached:.1e}", f"{ours:.1e}"
        )
    Console(width=110).print(table)


def large(images: int = 20_000, classes: int = 1000, batch: int = 1000) -> None:
    """Solve the problem of a large network from batches; print seconds and peak memory."""
    rng, gram, summing = np.random.default_rng(1), Gram(), 0.0
    for _ in range(0, images, batch):
        x, labels = synthetic(LARGE, rng.integers(0, classes, batch), classes, rng)
        begun = time.perf_counter()
        gram.partial_fit(x, labels)
        summing += time.perf_counter() - begun
    begun = time.perf_counter()
    solved = solve(gram, MU, TOL)
    solving = time.perf_counter() - begun
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = Table("what", "value", title="μ-lasso of a large network")
    table.add_row("problem", f"{sum(LARGE)} features, {images} images, {classes} classes, μ = {MU:g}")
    table.add_row("Gram matrix", f"{summing:.0f} s")
    table.add_row("solver", f"{solving:.0f} s, {solved.iterations} iterations")
    table.add_row("largest relative gap", f"{solved.gap.max():.1e}")
    table.add_row("features per class", f"{(solved.weights != 0).sum(axis=0).mean():.0f}")
    table.add_row("peak memory", f"{kib / (1024 * 1024 if sys.platform == 'darwin' else 1024):.0f} MiB")
    Console(width=110).print(table)


def gaps(x: Array, labels: Array, weights: Array, mu: float) -> Array:
    """Return relative duality gaps by definition, without the Gram matrix; weights are scaled to the ball."""
    weights = weights * np.minimum(1, mu / np.maximum(np.abs(weights).sum(axis=0), 1e-300))
    residual = x.T @ weights - labels.T
    gradient = x @ residual
    gap = mu * np.abs(gradient).max(axis=0) + (weights * gradient).sum(axis=0)
    relative: Array = gap / (np.square(residual).sum(axis=0) / 2)
    return relative


def spgl1_weights(x: Array, labels: Array, mu: float, tol: float = TOL) -> Array:
    """Return the weights by `spgl1.spg_lasso`, class by class, to the same relative gap."""
    spgl1: Any = importlib.import_module("spgl1")
    logging.getLogger("spgl1").setLevel(logging.ERROR)  # it logs every failed line search
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        columns = [spgl1.spg_lasso(x.T, row, mu, opt_tol=tol, iter_lim=100_000)[0] for row in labels]
    return np.stack(columns, axis=1)


def clarabel_weights(x: Array, labels: Array, mu: float) -> Array:
    """Return the weights by cvxpy with Clarabel, class by class."""
    cvxpy: Any = importlib.import_module("cvxpy")
    columns = []
    for row in labels:
        w = cvxpy.Variable(len(x))
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x.T @ w - row)), [cvxpy.norm1(w) <= mu])
        problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        columns.append(w.value)
    return np.stack(columns, axis=1)


if __name__ == "__main__":
    main()
