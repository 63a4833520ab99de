"""A run as data: what to draw, train and measure, from a TOML file, from options, or from code."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from an8flower.drawing.factors import parse
from an8flower.ground.registry import unknown
from an8flower.protocol import FOLDS, Scheme
from benchmark.metrics import metrics
from benchmark.models import models
from benchmark.setups import PLAIN, Setup
from benchmark.store import Cell
from benchmark.training.recipes import recipes
from benchmark.training.weights import path_of
from explainers import get


class PlanError(ValueError):
    """An invalid plan; the message names the entry and its valid values."""


@dataclass(frozen=True)
class Plan:
    """variants x models x recipes x seeds x folds x explainers, each measured with all metrics.

    Args:
        variants, models, recipes: registry names.
        folds: from 0 to 4.
        seeds: of the training.
        explainers: names as `explainers.get` reads them, "name@all" for every layer with a map; empty for
            all registered explainers except the costly ones.
        metrics: registry names, or a kind ("localisation", "faithfulness") for all of its metrics.
        scheme: how views are grouped into folds.
        viewpoints: views of the dataset, from 1; empty for all 40.
        root, checkpoints, results: folders of data, weights, and records.
        drawing_seed: of the plant's shape.
        factors: what varies in addition to the class, e.g. "size=0.4..1"; see `an8flower.drawing.factors`.
        certificate: test whether the models use the part, which needs the twins of the images.
        tables: measure cells again whose table of per-image scores is missing; a board needs none.
        limit_s, limit_gib: seconds and GiB that an explainer may take for one call; None for no limit.
        device: "cpu", "cuda", "mps", or "auto" for the best available one.
    """

    variants: tuple[str, ...] = ("single-6c",)
    models: tuple[str, ...] = ("an8net",)
    recipes: tuple[str, ...] = (PLAIN,)
    folds: tuple[int, ...] = tuple(range(FOLDS))
    seeds: tuple[int, ...] = (0,)
    explainers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("localisation",)
    scheme: Scheme = "interleaved"
    viewpoints: tuple[int, ...] = ()
    root: Path = Path("data")
    checkpoints: Path = Path("checkpoints")
    results: Path = Path("runs")
    drawing_seed: int = 0
    factors: tuple[str, ...] = ()
    certificate: bool = False
    tables: bool = False
    limit_s: float | None = 600.0
    limit_gib: float | None = 8.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for fold in self.folds:
            if fold not in range(FOLDS):
                raise PlanError(f"fold {fold} does not exist; there are {FOLDS}, from 0 to {FOLDS - 1}")
        if self.scheme not in get_args(Scheme):
            raise PlanError(f"unknown scheme {self.scheme!r}; known are {', '.join(get_args(Scheme))}")
        for name in ("variants", "models", "recipes", "folds", "seeds", "metrics"):
            if not getattr(self, name):
                raise PlanError(f"{name} is empty, so there is nothing to do; name at least one")
        for model in self.models:
            models.get(model)
        for recipe in self.recipes:
            recipes.get(recipe)
        for explainer in self.explainers:
            get(explainer)
        self.metric_names()
        parse(self.factors)
        for name in self.recipes:
            own = recipes.get(name).factors
            try:
                parse((*self.factors, *own))
            except ValueError as error:
                raise PlanError(
                    f"the factors of the plan do not go with those of the recipe {name!r}, "
                    f"{', '.join(own)}: {error}"
                ) from None

    @property
    def twins(self) -> bool:
        """Whether the images must have their twins: for the certificate, or for a recipe."""
        return self.certificate or any(recipes.get(name).twins for name in self.recipes)

    def datasets(self) -> list[tuple[str, str]]:
        """Return variant and recipe of each dataset that is needed; recipes with equal images share one."""
        roots = {self.data_root(name): name for name in reversed(self.recipes)}
        return list(product(self.variants, reversed(roots.values())))

    def setups(self) -> Iterator[Setup]:
        """Yield every trained model that is measured, once."""
        models = product(self.variants, self.models, self.recipes, self.seeds, self.folds)
        yield from dict.fromkeys(
            Setup(variant, model, seed, fold, recipe) for variant, model, recipe, seed, fold in models
        )

    def boards(self) -> list[tuple[str, str]]:
        """Return variant and name of the models of each board, see `setups.model_name`."""
        return list(dict.fromkeys((setup.variant, setup.model_name) for setup in self.setups()))

    def data_root(self, recipe: str) -> Path:
        """Return the folder that holds the datasets of a recipe, see `Recipe.data_root`."""
        return recipes.get(recipe).data_root(self.root)

    def weights_path(self, setup: Setup) -> Path:
        """Return where the weights of a model are stored."""
        return path_of(self.checkpoints, setup)

    def cell(self, setup: Setup, explainer: str) -> Cell:
        """Return where the measurement of an explainer, by name, is stored."""
        return Cell(self.results, setup.variant, setup.model, explainer, setup.fold, setup.seed, setup.recipe)

    def metric_names(self) -> tuple[str, ...]:
        """Return the names of the metrics, with kinds resolved, in the order of the registry.

        Raises:
            UnknownNameError: for a name that is not registered.
        """
        specs = {name: metrics.get(name) for name in metrics.names()}
        kinds = {spec.kind for spec in specs.values()}
        wanted = {metrics.get(name).name for name in self.metrics if name not in kinds}
        return tuple(name for name, spec in specs.items() if name in wanted or spec.kind in self.metrics)

    def absolute(self) -> Plan:
        """Return the plan with absolute paths, for another process, perhaps on another machine."""
        return replace(self, **{name: getattr(self, name).absolute() for name in _PATHS})

    def with_(self, **changes: Any) -> Plan:
        """Return the plan with some entries changed; a value of None changes nothing."""
        changed = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **{name: _as_field(name, value) for name, value in changed.items()})


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a TOML file with the fields of `Plan`; paths are relative to the file's folder.

    Raises:
        PlanError: if it is not TOML, or an entry is unknown or of the wrong type.

    Example of a file:

        variants = ["single-6c", "double-12c"]
        explainers = ["vebi", "grad_cam@all", "captum:Saliency"]
        metrics = ["localisation", "deletion"]
        folds = [0, 1]
    """
    path = Path(path)
    try:
        entries = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}") from error
    return _plan_of(entries, path)


_FIELDS = {field.name: field for field in fields(Plan)}
_ITEMS = {
    "variants": str, "models": str, "recipes": str, "explainers": str, "metrics": str, "factors": str,
    "folds": int, "seeds": int, "viewpoints": int,
}  # fmt: skip
_PATHS = ("root", "checkpoints", "results")


def _plan_of(entries: Mapping[str, Any], path: Path) -> Plan:
    values: dict[str, Any] = {name: path.parent / getattr(Plan, name) for name in _PATHS}
    for name, value in entries.items():
        if name not in _FIELDS:
            raise PlanError(f"{path}: {unknown('entry', name, _FIELDS)}")
        values[name] = _checked(name, value, path)
    try:
        return Plan(**{name: _as_field(name, value) for name, value in values.items()})
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _checked(name: str, value: Any, path: Path) -> Any:
    def refuse(right: str) -> PlanError:
        return PlanError(f"{path}: {name} is {value!r}; it must be {right}")

    if name in _ITEMS:
        kind = _ITEMS[name]
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            example = '["a", "b"]' if kind is str else "[0, 1]"
            raise refuse(f"a list, e.g. {example}")
        return value
    if name in _PATHS:
        if not isinstance(value, str):
            raise refuse('a path, e.g. "data"')
        return path.parent / value
    if name in ("limit_s", "limit_gib"):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise refuse("a number, 0 for no limit")
        return value or None
    kind = type(_FIELDS[name].default)
    if type(value) is not kind:
        raise refuse({int: "a whole number", bool: "true or false"}.get(kind, "a text"))
    return value


def _as_field(name: str, value: Any) -> Any:
    if name in _ITEMS:
        return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return Path(value) if name in _PATHS else value
