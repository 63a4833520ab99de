"""What can go wrong when a model is explained, and the warning about activations without a rule."""

from __future__ import annotations


class ExplainerError(ValueError):
    """An explainer breaks a rule that all explainers must follow; the message names both.

    Args:
        explainer: name of the explainer.
        check: name of the check that fails, one of `conformance.CHECKS`.
        detail: what was observed, and what would be right.
    """

    def __init__(self, explainer: str, check: str, detail: str) -> None:
        super().__init__(explainer, check, detail)  # as they are, so that the error can be pickled
        self.explainer, self.check, self.detail = explainer, check, detail

    def __str__(self) -> str:
        return f"explainer {self.explainer!r} fails {self.check!r}: {self.detail}"


class ModelError(ValueError):
    """A model cannot be explained, or not by this method; the message says why and what would be right."""


class NoReLURuleWarning(UserWarning):
    """A method with a rule for ReLUs explains a model with other activations, where it has no rule."""
