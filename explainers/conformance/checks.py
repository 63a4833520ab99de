"""The checks of an explainer: one small function per check, and the table of all checks.

A check takes a `MethodUnderTest` and returns what it observed, as text. It raises `FailedError` if that is
wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from an8flower.ground.deprecated import renamed
from explainers.base import ExplainerError
from explainers.conformance import probes
from explainers.conformance.limits import shortened
from explainers.conformance.probes import Instrumented, Modular, ProbeBatch
from explainers.conformance.under_test import MethodUnderTest

# Largest difference between two maps that should be equal, as a fraction of the map's greatest value.
RTOL = 1e-4
# Lower bound of a map's greatest value when differences are scaled, as a fraction of the batch's greatest.
FAINT = 1e-3


class FailedError(Exception):
    """What a check observed, if it is wrong."""


# Anything that a method raises counts as its failure, also SystemExit.
FAULTS = (Exception, SystemExit)


__getattr__ = renamed(__name__, {"Subject": "MethodUnderTest"})


def _finite(method: MethodUnderTest) -> str:
    wrong = ~method.maps.isfinite()
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        raise FailedError(f"{int(wrong.sum())} values are not finite, e.g. {method.maps[at]} at {at}")
    return f"from {method.maps.min():.3g} to {method.maps.max():.3g}"


def _repeatable(method: MethodUnderTest) -> str:
    return _require_equal(method.again(method.batch.clone()), method.maps, "called twice", tolerance=0)


def _singles(method: MethodUnderTest) -> str:
    rows = range(len(method.maps))
    alone = torch.cat([method.again(method.batch[k : k + 1].clone()) for k in rows])
    return _require_equal(alone, method.maps, "one image at a time")


def _order(method: MethodUnderTest) -> str:
    order = torch.tensor([2, 0, 3, 1])
    return _require_equal(method.again(method.batch[order]), method.maps[order], "in another order")


def _targets(method: MethodUnderTest) -> str:
    spec = method.explainer.spec
    if spec.needs_masks:
        return "it receives the ground truth"
    for_each = [
        method.again(replace(method.batch.clone(), targets=torch.full_like(method.batch.targets, k)))
        for k in range(probes.CLASSES)
    ]
    same = all(torch.equal(maps, for_each[0]) for maps in for_each)
    if same and not spec.class_agnostic:
        raise FailedError("the heatmaps are the same for every target; declare class_agnostic=True")
    if spec.class_agnostic and not same:
        raise FailedError("declared class_agnostic=True, but the heatmaps differ between targets")
    return "the same heatmaps, as declared" if same else "the heatmaps differ"


def _layout(method: MethodUnderTest) -> str:
    images = method.batch.images
    ways = {
        "of images with channels innermost": images.contiguous(memory_format=torch.channels_last),
        "of images that are a view of larger ones": images.repeat_interleave(2, dim=3)[..., ::2],
    }
    observed = ""
    for what, laid_out in ways.items():
        maps = method.again(replace(method.batch.clone(), images=laid_out))
        observed = _require_equal(maps, method.maps, what)
    return observed


def _model(method: MethodUnderTest) -> str:
    model = probes.model(Modular)
    probes.put_in_use(model)
    before = probes.state(model)
    method.explain(method.fresh(model), model, method.batch.clone())
    _require_unchanged(model, before)
    return "unchanged"


def _model_after_exception(method: MethodUnderTest) -> str:
    raised = 0
    for breaks_at, target in ((1, 0), (2, 0), (0, 99)):
        model = probes.model(Instrumented)
        explainer = method.fresh(model)
        model.batches.clear()
        model.breaks_at = breaks_at
        probes.put_in_use(model)
        before = probes.state(model)
        batch = replace(method.batch.clone(), targets=torch.full_like(method.batch.targets, target))
        try:
            method.explain(explainer, model, batch)
        except FAULTS as error:
            if isinstance(error, ExplainerError) and error.check in ("model", "time", "memory"):
                raise  # neither the model's error nor the target explains these
            raised += 1
        _require_unchanged(model, before)
    return f"unchanged; it raised in {raised} of 3 cases"


def _input(method: MethodUnderTest) -> str:
    explained, fitted = method.batch.clone(), ProbeBatch.drawn(12, seed=1)
    method.explain(method.fresh(method.model, fitted), method.model, explained)
    untouched = ProbeBatch.drawn(12, seed=1)
    for batch, expected, when in ((explained, method.batch, ""), (fitted, untouched, " in fit")):
        for name, now, before in zip(
            ("images", "targets", "masks", "object_masks"), batch.tensors, expected.tensors, strict=True
        ):
            if not torch.equal(now, before):
                raise FailedError(f"it wrote into the {name}{when}; work on a copy of them")
    return "unchanged"


def _as_written(kind: type[Modular]) -> Callable[[MethodUnderTest], str]:
    def run(method: MethodUnderTest) -> str:
        model = probes.model(kind)
        try:
            maps = method.explain(method.fresh(model), model, method.batch.clone())
        except ValueError as error:
            if isinstance(error, ExplainerError) and not error.check.endswith("ReLU"):
                raise
            return f"refuses: {' '.join(str(error).split())}"
        return _require_equal(maps, method.maps, "of the model written with modules")

    return run


def _seed(method: MethodUnderTest) -> str:
    answers, model = [], probes.model(Modular)
    for seed in (1, 2):
        with probes.global_seed(seed):
            before = probes.random_states()
            answers.append(method.explain(method.fresh(model), model, method.batch.clone()))
            for whose, state in probes.random_states().items():
                if state != before[whose]:
                    raise FailedError(f"it draws from the global generator of {whose}; take a seed instead")
    observed = _require_equal(answers[1], answers[0], "under another global seed", tolerance=0)
    own = method.explainer.parameters.get("seed")
    if isinstance(own, int):
        other = method.explain(method.fresh(method.model, seed=own + 1), method.model, method.batch.clone())
        observed += (
            f"; seed={own + 1} gives {'the same map' if torch.equal(other, answers[0]) else 'another'}"
        )
    return observed


def _inference_mode(method: MethodUnderTest) -> str:
    with torch.inference_mode():
        maps = method.again(method.batch.clone())
    return _require_equal(maps, method.maps, "in inference mode")


def _cost(method: MethodUnderTest) -> str:
    model = probes.model(Instrumented)
    explainer = method.fresh(model)
    for _ in range(2):  # the first call may include one-time look-ups
        model.batches.clear()
        start = time.perf_counter()
        method.explain(explainer, model, method.batch.clone())
        ms = (time.perf_counter() - start) * 1000
    n = len(method.maps)
    return f"{ms / n:.2g} ms per image on one CPU, forward passes per image: {sum(model.batches) / n:g}"


def _stdout(method: MethodUnderTest) -> str:
    if method.printed:
        raise FailedError(
            f"it printed {shortened(method.printed[0])!r}; use logging, standard output is for the command"
        )
    return "nothing printed"


def _require_equal(maps: torch.Tensor, expected: torch.Tensor, when: str, tolerance: float = RTOL) -> str:
    difference = _difference(maps, expected)
    observed = f"largest difference {difference:.2g} of the map's greatest value"
    if difference > tolerance:
        raise FailedError(f"another map {when}: {observed}")
    return observed if difference else "the same"


def _difference(maps: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over all images, each relative to the greatest value of its map."""
    if not torch.equal(maps.isfinite(), expected.isfinite()):
        return float("inf")
    a, b = (values.double().nan_to_num(0, 0, 0).flatten(1) for values in (maps, expected))
    greatest = b.abs().amax(dim=1)
    greatest = greatest.clamp(min=max(FAINT * float(greatest.max()), 1e-38))
    return float(((a - b).abs().amax(dim=1) / greatest).max())


def _require_unchanged(model: Modular, before: Mapping[str, Any]) -> None:
    after = probes.state(model)
    changed = [name for name in {**before, **after} if before.get(name, _NONE) != after.get(name, _NONE)]
    if changed:
        raise FailedError(f"it changed {', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}")


_NONE = object()


TABLE: dict[str, Callable[[MethodUnderTest], str]] = {
    "runs": lambda method: f"{len(method.maps)} maps",
    "tensor": lambda method: type(method.maps).__name__,
    "shape": lambda method: str(tuple(method.maps.shape)),
    "dtype": lambda method: str(method.maps.dtype),
    "device": lambda method: str(method.maps.device),
    "detached": lambda method: "no gradient graph",
    "finite": _finite,
    "repeatable": _repeatable,
    "singles": _singles,
    "order": _order,
    "targets": _targets,
    "layout": _layout,
    "model": _model,
    "model after an exception": _model_after_exception,
    "input": _input,
    "functional ReLU": _as_written(probes.Functional),
    "in-place ReLU": _as_written(probes.InPlace),
    "re-used ReLU": _as_written(probes.ReUsed),
    "seed": _seed,
    "inference mode": _inference_mode,
    "stdout": _stdout,
    "fork": lambda method: "one process",
    "process": lambda method: "unchanged",
    "time": lambda method: f"{method.took_s:.2g} s per batch, limit {method.limit_s:g} s",
    "memory": lambda method: f"within the limit of {method.limit_gib:g} GiB",
    "cost": _cost,
}
# Checks whose result is neither right nor wrong.
MEASUREMENTS = ("cost",)
# Checks that warn instead of failing.
WARNINGS = ("stdout",)
