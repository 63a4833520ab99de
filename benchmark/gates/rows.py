"""The result of a gate: how the relevance of each method is divided between part and cheat."""

from __future__ import annotations

from dataclasses import dataclass

MOVES = 0.5  # a map moves if the share of the cheat rises by more than this
CHEATS = 0.5  # the least share of the images on which a model that cheats must follow the cheat


@dataclass(frozen=True)
class GateRow:
    """How the relevance of one method is divided between the part and the cheat.

    Args:
        explainer: name of the method.
        honest, cheating: share of the cheat, in [0, 1], mean over the same images: on the honest model, and
            on the one that cheats. NaN if the method failed.
        code_sha256: of the code of the method.
        reason: why the method failed, in one line; empty if it did not.
    """

    explainer: str
    honest: float
    cheating: float
    code_sha256: str
    reason: str = ""

    @property
    def moved(self) -> float:
        """How much the share of the cheat rises."""
        return self.cheating - self.honest

    @property
    def passed(self) -> bool:
        """Whether the map moves to the cheat."""
        return self.moved > MOVES


@dataclass(frozen=True)
class Gate:
    """The gate of some methods on one pair of models.

    Args:
        images: number of images on which the models were asked.
        follows, honest_follows: share of these for which the answer of the cheating, and of the honest,
            model becomes the class of a cheat that is inserted from another image.
        explained: number of images that were explained: those for which the answer of the cheating model
            does so, and that of the honest one does not.
        rows: one per method.
    """

    images: int
    follows: float
    honest_follows: float
    explained: int
    rows: tuple[GateRow, ...]

    @property
    def fault(self) -> str:
        """Why the two models are no test of a method, in one line; empty if they are one."""
        if self.follows < CHEATS:
            return (
                f"the answer of the cheating model follows the cheat on only {self.follows:.0%} of the images"
            )
        if self.honest_follows > 1 - CHEATS:
            share = f"{self.honest_follows:.0%}"
            return f"the answer of the honest model follows the cheat on {share} of the images"
        return ""
