"""An explainer under test: called within limits, on a small network, with its printed text captured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from explainers.base import Explainer
from explainers.conformance import probes
from explainers.conformance.limits import captured, limited, unaltered, unforked
from explainers.conformance.probes import Modular, ProbeBatch


@dataclass(frozen=True)
class MethodUnderTest:
    """An explainer under test, with the result of its first call.

    Args:
        explainer: the explainer, not fitted.
        limit_s, limit_gib: limits of one call, in seconds and GiB.
        batch: the images to explain.
        model: the network to explain.
        fitted: the explainer, fitted to training images.
        maps: (N, H, W) heatmaps of the first call.
        took_s: duration of the first call, in seconds.
        printed: lines that the explainer has printed so far; grows with each call.
    """

    explainer: Explainer
    limit_s: float
    limit_gib: float
    batch: ProbeBatch
    model: Modular
    fitted: Explainer
    maps: torch.Tensor
    took_s: float
    printed: list[str] = field(default_factory=list)

    @classmethod
    def prepare(cls, explainer: Explainer, limit_s: float, limit_gib: float) -> Self:
        """Fit the explainer and call it for the first time.

        Raises:
            anything that the explainer raises.
        """
        model, batch = probes.model(Modular), ProbeBatch.drawn()
        new = cls(explainer, limit_s, limit_gib, batch, model, explainer, torch.empty(0), 0.0)
        fitted = new.fresh(model)
        start = time.perf_counter()
        maps = new.explain(fitted, model, batch.clone())
        return replace(new, fitted=fitted, maps=maps, took_s=time.perf_counter() - start)

    def fresh(self, model: Modular, batch: ProbeBatch | None = None, **parameters: Any) -> Explainer:
        """Return a new explainer of the same method, fitted to `model`.

        Args:
            model: the network to fit it to.
            batch: the training images; by default 12 random ones.
            parameters: keyword arguments of the method to change.
        """
        batch = ProbeBatch.drawn(12, seed=1) if batch is None else batch
        taken = 3 if self.explainer.spec.needs_masks else 2
        halves = [batch.tensors[:taken] for batch in (batch[:6], batch[6:])]
        with self._limited():
            explainer = self.explainer
            if parameters or explainer.spec.needs_fit:
                explainer = Explainer.from_spec(explainer.spec, {**explainer.parameters, **parameters})
            return explainer.fit(model, halves)

    def explain(self, explainer: Explainer, model: Modular, batch: ProbeBatch) -> torch.Tensor:
        """Call an explainer within the limits and return its heatmaps (N, H, W)."""
        with self._limited():
            return explainer(
                model, batch.images, batch.targets, masks=batch.masks, object_masks=batch.object_masks
            )

    def again(self, batch: ProbeBatch) -> torch.Tensor:
        """Return the heatmaps of the fitted explainer for another batch."""
        return self.explain(self.fitted, self.model, batch)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        name = self.explainer.spec.name
        with (
            limited(name, seconds=self.limit_s, gib=self.limit_gib),
            captured(self.printed),
            unforked(name),
            unaltered(name),
        ):
            yield
