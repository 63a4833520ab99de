"""Find modules under their other names: `an8flower.explainers` for `explainers`, and names of version 0.1.

`explainers` and `benchmark` are generic names, which folders of a user may have too. So both packages are
also parts of `an8flower`; under these names they are always found, next to the package `an8flower`. A module
that has moved is still found under its old name for one release, with a DeprecationWarning.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

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
    "benchmark.experiments.calibration": "benchmark.experiments.evidence.calibration",
    "benchmark.experiments.cheating": "benchmark.experiments.evidence.cheating",
    "benchmark.experiments.clusters": "benchmark.experiments.evidence.clusters",
    "benchmark.experiments.metric_vectors": "benchmark.experiments.evidence.metric_vectors",
    "benchmark.experiments.parity": "benchmark.experiments.evidence.parity",
    "benchmark.experiments.reliability": "benchmark.experiments.evidence.reliability",
    "benchmark.experiments.screenshots": "benchmark.experiments.evidence.screenshots",
    "benchmark.experiments.stride_fix": "benchmark.experiments.evidence.stride_fix",
    "benchmark.experiments.generation": "benchmark.experiments.speed.generation",
    "benchmark.experiments.lasso": "benchmark.experiments.speed.lasso",
    "benchmark.experiments.methods": "benchmark.experiments.speed.methods",
    "benchmark.experiments.metrics": "benchmark.experiments.speed.metrics",
    "benchmark.experiments.running": "benchmark.experiments.speed.running",
    "benchmark.experiments.scale": "benchmark.experiments.speed.scale",
    "benchmark.submission.archive": "benchmark.submission.file",
    "benchmark.submission.arrays": "benchmark.submission.heatmaps",
    "benchmark.submission.checking": "benchmark.submission.form",
    "benchmark.submission.schema": "benchmark.submission.form",
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


def install(*names: str) -> None:
    """Let imports find modules under their other names, and some packages of ours wherever Python runs.

    Args:
        names: "benchmark" or "explainers". From now on an import of it finds this project's package, also
            if the working directory has a folder of that name.
    Raises:
        ImportError: if another module of that name is already imported.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in names:
        there = sys.modules.get(name)
        if there is not None and not _is_ours(there, name):
            raise ImportError(
                f"another module {name!r} is already imported, from {_place_of(there)}; an8flower has a "
                "package of that name, and one process can hold only one of the two: rename yours, or use "
                "an8flower in a process that does not import it",
                name=name,
            )
    _claimed.update(names)


_HOME = Path(__file__).resolve().parents[2]
_claimed: set[str] = set()


def _is_ours(module: ModuleType, name: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == _HOME / name / "__init__.py"


def _place_of(module: ModuleType) -> str:
    folders = list(getattr(module, "__path__", ()))
    return str(getattr(module, "__file__", None) or (folders[0] if folders else "an unknown place"))


class _Finder(MetaPathFinder):
    """The first finder: for a module below an alias, the usual one would load the file a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = current(fullname)
        if name != fullname:
            top = name.partition(".")[0]
            # Modules of `benchmark` import `explainers`.
            install(*{"benchmark": ("benchmark", "explainers"), "explainers": ("explainers",)}.get(top, ()))
            real = importlib.util.find_spec(name)
            if real is None:
                return None
            spec = ModuleSpec(fullname, _Same(name), origin=real.origin)
            spec.submodule_search_locations = real.submodule_search_locations
            return spec
        init = _HOME / fullname / "__init__.py"
        if fullname in _claimed and init.is_file():
            return importlib.util.spec_from_file_location(fullname, init)
        return None


class _Same(InspectLoader):
    """Returns the module that has the current name, so that no module exists twice."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._warn(spec.name)
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which the import has replaced

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code that `python -m` runs."""
        self._warn(fullname)
        loader = self._loader()
        return loader.get_code(self._name) if loader else None

    def get_source(self, fullname: str) -> str | None:
        loader = self._loader()
        return loader.get_source(self._name) if loader else None

    def is_package(self, fullname: str) -> bool:
        loader = self._loader()
        return loader.is_package(self._name) if loader else False

    def _loader(self) -> InspectLoader | None:
        spec = importlib.util.find_spec(self._name)
        return spec.loader if spec and isinstance(spec.loader, InspectLoader) else None

    def _warn(self, name: str) -> None:
        if name in MOVED:
            warnings.warn(f"{name} is now {self._name}", DeprecationWarning, stacklevel=3)
