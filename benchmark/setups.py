"""Which trained model: variant, architecture, training seed and fold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setup:
    """One trained model, which several cells share.

    Args:
        variant, model: registry names.
        seed: of the training.
        fold: from 0 to 4.
    """

    variant: str
    model: str
    seed: int
    fold: int

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.variant} {self.model}{seed} fold {self.fold}"
