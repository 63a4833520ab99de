"""What determines a cell: data, weights, the explainer with its parameters and code, the protocol."""

from __future__ import annotations

from collections.abc import Iterable

from an8flower.ground.deprecated import renamed
from an8flower.manifest import Manifest
from benchmark.measuring.code_digest import code_digest
from benchmark.metrics import metrics
from benchmark.plan import Plan
from benchmark.record import Json
from benchmark.setups import PLAIN, model_name, model_options
from benchmark.store import ResultsError
from benchmark.training.weights import recipe_of
from explainers import Explainer

# Raise it whenever equal heatmaps no longer give equal scores.
PROTOCOL_VERSION = 1


def identity_of(explainer: Explainer, trained: Json, device: str, *, code: str | None = None) -> Json:
    """Return everything that determines the heatmaps of a cell.

    Args:
        explainer: with its parameters.
        trained: the record of the weights.
        device: kind of device it runs on, "cpu" or another; each rounds differently.
        code: SHA-256 of its code, if known; by default it is computed from its files.
    """
    made, recipe = trained["identity"], recipe_of(trained)
    return {
        **{name: made[name] for name in ("variant", "dataset_digest", "model", "fold", "folds")},
        **({} if recipe == PLAIN else {"recipe": recipe}),  # as in records of older releases
        "weights_sha256": trained["weights_sha256"],
        "explainer": explainer.spec.name,
        "library": explainer.spec.library,
        "parameters": dict(explainer.parameters),
        "code_sha256": code or code_digest(explainer.spec.build),
        "device": device,
        "protocol_version": PROTOCOL_VERSION,
    }


def metric_digests(names: Iterable[str]) -> dict[str, str]:
    """Return for each metric the SHA-256 of the code that computes it."""
    return {name: code_digest(metrics.get(name).compute) for name in names}


def check_fit(trained: Json, manifest: Manifest, plan: Plan, fold: int) -> None:
    """Check that weights and data belong together.

    Raises:
        ResultsError: if the weights were trained on other data or folds.
    """
    identity = trained["identity"]
    if (identity["dataset_digest"], identity["folds"]) != (manifest.images_digest, plan.scheme):
        chosen = model_options(model_name(identity["model"], recipe_of(trained)))
        raise ResultsError(
            f"the weights of fold {fold} in {plan.checkpoints} were trained on other data or folds; "
            f"run 'an8flower train --variant {identity['variant']} {chosen} "
            f"--root {manifest.folder.parent}' first"
        )


__getattr__ = renamed(__name__, {"must_fit": "check_fit"})
