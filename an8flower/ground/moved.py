"""Find modules under their other names: `an8flower.explainers` for `explainers`, and names of version 0.1.

`explainers` and `benchmark` are generic names for packages, so both are also parts of `an8flower`. A module
that has moved is still found under its old name for one release, with a DeprecationWarning.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Public names, which stay.
ALIASES = {
    "an8flower.explainers": "explainers",
    "an8flower.benchmark": "benchmark",
    "explainers.backprop": "explainers.backward.backprop",
}
# Names of modules in version 0.1; to be removed in 0.3.
MOVED = {
    "an8flower.registry": "an8flower.ground.registry",
    "an8flower.files": "an8flower.ground.files",
    "an8flower.progress": "an8flower.ground.progress",
    "an8flower.worker": "an8flower.ground.worker",
    "an8flower.cluster": "an8flower.ground.cluster",
    "an8flower.torchvision_shim": "an8flower.ground.torchvision_shim",
    "an8flower.engine": "an8flower.ground.jobs",
    "explainers.sharing": "an8flower.ground.memo",
    "an8flower.plant": "an8flower.drawing.plant",
    "an8flower.geometry": "an8flower.drawing.geometry",
    "an8flower.stage": "an8flower.drawing.stage",
    "an8flower.camera": "an8flower.drawing.camera",
    "an8flower.renderer": "an8flower.drawing.renderer",
    "an8flower.gl": "an8flower.drawing.gl",
    "an8flower.augment": "an8flower.drawing.augment",
    "an8flower.factors": "an8flower.drawing.factors",
    "an8flower.generation": "an8flower.drawing.generation",
    "an8flower.verification": "an8flower.drawing.verification",
    "explainers.trace": "explainers.backward.trace",
    "explainers.stride_fix": "explainers.backward.stride_fix",
    "explainers.reference": "explainers.names",
    "explainers.vebi.selector": "explainers.vebi.feature_selection",
    "explainers.vebi.selection": "explainers.vebi.selected_features",
    "explainers.checks": "explainers.conformance.checks",
    "explainers.probes": "explainers.conformance.probes",
    "explainers.limits": "explainers.conformance.limits",
    "benchmark.fitting": "benchmark.training.fitting",
    "benchmark.unfinished": "benchmark.training.state",
    "benchmark.weights": "benchmark.training.weights",
    "benchmark.loader": "benchmark.training.loader",
    "benchmark.training_figure": "benchmark.training.figure",
    "benchmark.harness": "benchmark.measuring.harness",
    "benchmark.survey": "benchmark.measuring.cells",
    "benchmark.subject": "benchmark.measuring.model_and_images",
    "benchmark.identity": "benchmark.measuring.identity",
    "benchmark.watch": "benchmark.measuring.limits",
    "benchmark.cost": "benchmark.measuring.cost",
    "benchmark.scores": "benchmark.measuring.scores",
    "benchmark.code_digest": "benchmark.measuring.code_digest",
    "benchmark.certifying": "benchmark.certificate.certifying",
    "benchmark.certified": "benchmark.certificate.certified",
    "benchmark.board_columns": "benchmark.board.columns",
    "benchmark.board_terminal": "benchmark.board.terminal",
    "benchmark.board_text": "benchmark.board.text",
    "benchmark.paper": "benchmark.board.paper",
    "benchmark.figures": "benchmark.board.figures",
    "benchmark.published": "benchmark.board.published",
    "benchmark.model_set": "benchmark.board.model_set",
    "benchmark.explaining": "benchmark.why",
}


def current(name: str) -> str:
    """Return the current name of a module.

    >>> current("an8flower.benchmark.metrics"), current("benchmark.harness"), current("benchmark.plan")
    ('benchmark.metrics', 'benchmark.measuring.harness', 'benchmark.plan')
    """
    for old, new in ALIASES.items():
        if name == old or name.startswith(f"{old}."):
            return current(new + name.removeprefix(old))
    return MOVED.get(name, name)


def install() -> None:
    """Let imports find modules under their other names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """The first finder: for a module below an alias, the usual one would load the file a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = current(fullname)
        return None if name == fullname else ModuleSpec(fullname, _Same(name))


class _Same(Loader):
    """Returns the module that has the current name, so that no module exists twice."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name in MOVED:
            warnings.warn(f"{spec.name} is now {self._name}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which the import has replaced
