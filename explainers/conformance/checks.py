"""What is checked of a method: one small function a check, and the table of them all.

A check takes a `Subject` to what was seen, in words, and raises `FailedError` if that is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from explainers.base import Explainer, ExplainerError
from explainers.conformance import probes
from explainers.conformance.limits import limited, quiet, unforked
from explainers.conformance.probes import Batch, Modular, Watched

# How far two maps may be apart that should be the same, as a fraction of the map's greatest value.
RTOL = 1e-4
# A map with less than this fraction of the batch's greatest value is measured as if it had that much.
FAINT = 1e-3


class FailedError(Exception):
    """What a check saw, if it is wrong."""


# Whatever a method raises is its failure, leaving the process by sys.exit included.
FAULTS = (Exception, SystemExit)


@dataclass(frozen=True)
class Subject:
    """A method under check, and what it gave when it was first called.

    Args:
        explainer: not fitted.
        limit_s, limit_gib: of one call.
        batch: what it is asked to explain, on `model`.
        fitted: the method once it has seen training images.
        maps: its first answer.
        took_s: how long that took.
    """

    explainer: Explainer
    limit_s: float
    limit_gib: float
    batch: Batch
    model: Modular
    fitted: Explainer
    maps: torch.Tensor
    took_s: float

    @classmethod
    def of(cls, explainer: Explainer, limit_s: float, limit_gib: float) -> Self:
        """Fit the method and call it for the first time.

        Raises:
            anything that the method does.
        """
        model, batch = probes.model(Modular), Batch.drawn()
        new = cls(explainer, limit_s, limit_gib, batch, model, explainer, torch.empty(0), 0.0)
        fitted = new.fresh(model)
        start = time.perf_counter()
        maps = new.explain(fitted, model, batch.clone())
        return replace(new, fitted=fitted, maps=maps, took_s=time.perf_counter() - start)

    def fresh(self, model: Modular, batch: Batch | None = None, **parameters: Any) -> Explainer:
        """Another of the same method, with other parameters if there are any, fitted to `model`."""
        batch = Batch.drawn(12, seed=1) if batch is None else batch
        taken = 3 if self.explainer.spec.needs_masks else 2
        halves = [batch.tensors[:taken] for batch in (batch[:6], batch[6:])]
        with self._limited():
            explainer = self.explainer
            if parameters or explainer.spec.needs_fit:
                explainer = Explainer.of(explainer.spec, {**explainer.parameters, **parameters})
            return explainer.fit(model, halves)

    def explain(self, explainer: Explainer, model: Modular, batch: Batch) -> torch.Tensor:
        """The method's maps, within the limits."""
        with self._limited():
            return explainer(
                model, batch.images, batch.targets, masks=batch.masks, object_masks=batch.object_masks
            )

    def again(self, batch: Batch) -> torch.Tensor:
        """Its maps of another batch."""
        return self.explain(self.fitted, self.model, batch)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        name = self.explainer.spec.name
        with limited(name, seconds=self.limit_s, gib=self.limit_gib), quiet(name), unforked(name):
            yield


def _finite(subject: Subject) -> str:
    wrong = ~subject.maps.isfinite()
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        raise FailedError(f"{int(wrong.sum())} values are not, e.g. {subject.maps[at]} at {at}")
    return f"from {subject.maps.min():.3g} to {subject.maps.max():.3g}"


def _repeatable(subject: Subject) -> str:
    return _must_equal(subject.again(subject.batch.clone()), subject.maps, "called twice", tolerance=0)


def _singles(subject: Subject) -> str:
    rows = range(len(subject.maps))
    alone = torch.cat([subject.again(subject.batch[k : k + 1].clone()) for k in rows])
    return _must_equal(alone, subject.maps, "one image at a time")


def _order(subject: Subject) -> str:
    order = torch.tensor([2, 0, 3, 1])
    return _must_equal(subject.again(subject.batch[order]), subject.maps[order], "in another order")


def _targets(subject: Subject) -> str:
    spec = subject.explainer.spec
    if spec.needs_masks:
        return "it is handed the truth"
    for_each = [
        subject.again(replace(subject.batch.clone(), targets=torch.full_like(subject.batch.targets, k)))
        for k in range(probes.CLASSES)
    ]
    same = all(torch.equal(maps, for_each[0]) for maps in for_each)
    if same and not spec.class_agnostic:
        raise FailedError("the maps are the same for every target; declare class_agnostic=True")
    if spec.class_agnostic and not same:
        raise FailedError("declared class_agnostic, yet targets change the maps")
    return "the same maps, as declared" if same else "the maps differ"


def _layout(subject: Subject) -> str:
    images = subject.batch.images
    ways = {
        "of images with channels innermost": images.contiguous(memory_format=torch.channels_last),
        "of images that are a view of larger ones": images.repeat_interleave(2, dim=3)[..., ::2],
    }
    seen = ""
    for what, laid_out in ways.items():
        maps = subject.again(replace(subject.batch.clone(), images=laid_out))
        seen = _must_equal(maps, subject.maps, what)
    return seen


def _model(subject: Subject) -> str:
    model = probes.model(Modular)
    probes.put_in_use(model)
    before = probes.state(model)
    subject.explain(subject.fresh(model), model, subject.batch.clone())
    _must_be_left(model, before)
    return "unchanged"


def _model_after_exception(subject: Subject) -> str:
    raised = 0
    for breaks_at, target in ((1, 0), (2, 0), (0, 99)):
        model = probes.model(Watched)
        explainer = subject.fresh(model)
        model.batches.clear()
        model.breaks_at = breaks_at
        probes.put_in_use(model)
        before = probes.state(model)
        batch = replace(subject.batch.clone(), targets=torch.full_like(subject.batch.targets, target))
        try:
            subject.explain(explainer, model, batch)
        except FAULTS as error:
            if isinstance(error, ExplainerError) and error.check in ("model", "time", "memory"):
                raise  # nothing that the model's error or the target explains
            raised += 1
        _must_be_left(model, before)
    return f"unchanged, it raised {raised} times of 3"


def _input(subject: Subject) -> str:
    seen, shown = subject.batch.clone(), Batch.drawn(12, seed=1)
    subject.explain(subject.fresh(subject.model, shown), subject.model, seen)
    for given, expected, when in ((seen, subject.batch, ""), (shown, Batch.drawn(12, seed=1), " in fit")):
        for name, now, before in zip(
            ("images", "targets", "masks", "object_masks"), given.tensors, expected.tensors, strict=True
        ):
            if not torch.equal(now, before):
                raise FailedError(f"it wrote into the {name}{when}; work on a copy of them")
    return "unchanged"


def _as_written(kind: type[Modular]) -> Callable[[Subject], str]:
    def seen(subject: Subject) -> str:
        model = probes.model(kind)
        try:
            maps = subject.explain(subject.fresh(model), model, subject.batch.clone())
        except ValueError as error:
            if isinstance(error, ExplainerError) and not error.check.endswith("ReLU"):
                raise
            return f"refuses: {' '.join(str(error).split())}"
        return _must_equal(maps, subject.maps, "of the model written with modules")

    return seen


def _seed(subject: Subject) -> str:
    found, model = [], probes.model(Modular)
    for seed in (1, 2):
        with probes.global_seed(seed):
            before = probes.random_states()
            found.append(subject.explain(subject.fresh(model), model, subject.batch.clone()))
            for whose, state in probes.random_states().items():
                if state != before[whose]:
                    raise FailedError(f"it draws from the global generator of {whose}; take a seed instead")
    seen = _must_equal(found[1], found[0], "under another global seed", tolerance=0)
    own = subject.explainer.parameters.get("seed")
    if isinstance(own, int):
        other = subject.explain(
            subject.fresh(subject.model, seed=own + 1), subject.model, subject.batch.clone()
        )
        seen += f"; seed={own + 1} gives {'the same map' if torch.equal(other, found[0]) else 'another'}"
    return seen


def _inference_mode(subject: Subject) -> str:
    with torch.inference_mode():
        maps = subject.again(subject.batch.clone())
    return _must_equal(maps, subject.maps, "in inference mode")


def _cost(subject: Subject) -> str:
    model = probes.model(Watched)
    explainer = subject.fresh(model)
    for _ in range(2):  # the first call may look things up
        model.batches.clear()
        start = time.perf_counter()
        subject.explain(explainer, model, subject.batch.clone())
        ms = (time.perf_counter() - start) * 1000
    n = len(subject.maps)
    return f"{ms / n:.2g} ms an image on one CPU, forward passes an image: {sum(model.batches) / n:g}"


def _must_equal(found: torch.Tensor, expected: torch.Tensor, when: str, tolerance: float = RTOL) -> str:
    difference = _difference(found, expected)
    seen = f"largest difference {difference:.2g} of the map's greatest value"
    if difference > tolerance:
        raise FailedError(f"another map {when}: {seen}")
    return seen if difference else "the same"


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest of any image's."""
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    a, b = (maps.double().nan_to_num(0, 0, 0).flatten(1) for maps in (found, expected))
    greatest = b.abs().amax(dim=1)
    greatest = greatest.clamp(min=max(FAINT * float(greatest.max()), 1e-38))
    return float(((a - b).abs().amax(dim=1) / greatest).max())


def _must_be_left(model: Modular, before: Mapping[str, Any]) -> None:
    after = probes.state(model)
    changed = [name for name in {**before, **after} if before.get(name, _NONE) != after.get(name, _NONE)]
    if changed:
        raise FailedError(f"it changed {', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}")


_NONE = object()


TABLE: dict[str, Callable[[Subject], str]] = {
    "runs": lambda subject: f"{len(subject.maps)} maps",
    "tensor": lambda subject: type(subject.maps).__name__,
    "shape": lambda subject: str(tuple(subject.maps.shape)),
    "dtype": lambda subject: str(subject.maps.dtype),
    "device": lambda subject: str(subject.maps.device),
    "detached": lambda subject: "no gradient graph",
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
    "stdout": lambda subject: "nothing printed",
    "fork": lambda subject: "one process",
    "time": lambda subject: f"{subject.took_s:.2g} s a batch, of {subject.limit_s:g} s allowed",
    "memory": lambda subject: f"within the {subject.limit_gib:g} GiB allowed",
    "cost": _cost,
}
# Those whose value is neither right nor wrong.
MEASUREMENTS = ("cost",)
