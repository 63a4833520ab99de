"""Fixtures that many tests share, above all small datasets and trained models, made once per test run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn
from waiting import until

import explainers
from an8flower import An8Flower, generate
from an8flower.drawing.renderer import Renderer
from an8flower.ground.files import locked
from an8flower.variants import Variant, variants
from benchmark.cli import main
from benchmark.training.recipes import Recipe
from benchmark.training.trainer import train
from benchmark.training.weights import Trained
from explainers.conformance import probes

# A shared machine must not fail a test by being slow.
settings.register_profile("an8flower", deadline=None, print_blob=True)
settings.load_profile("an8flower")

TINY = Variant("tiny-2c", variants.get("single-6c").classes[:4:3], "tests")
VIEWS = [1, 2, 3, 4, 5]
RECIPE = Recipe(epochs=12, batch=25)


# Fixtures that draw all views of a plant, or a dataset with twins or factors, or start a cluster.
SLOW_FIXTURES = {"dask_cluster", "part_2c", "turntable", "twinned", "varied"}


# Files that take longest. They run first, so that no process is left with one of them at the end.
LONGEST = (
    "test_reliability.py", "test_isolation.py", "test_pipeline.py", "test_plan.py", "test_harness.py",
    "test_plug_in.py", "test_generation.py", "test_digests.py", "test_variants.py", "test_training.py",
    "test_everyday.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort tests, and mark them by their fixtures and folder: browser, slow, oracle, attack."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if item.path.parent.name == "oracles":
            item.add_marker("oracle")
        if item.path.parent.name == "attack":
            item.add_marker("attack")
            item.add_marker("slow")


def pytest_configure(config: pytest.Config) -> None:
    """Compute in one thread: on networks as small as the tests', more threads mostly wait for each other."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests run


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return a folder by name; the given function fills it once per test run."""
    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # one of several processes: its folder is inside the run's
        base = base.parent

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        place, done = base / "once" / name, base / "once" / f"{name}.done"
        with locked(base / "once" / f"{name}.locks", wait=True):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                fill(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def tiny() -> Variant:
    """Two classes of single-6c."""
    return TINY


@pytest.fixture(scope="session")
def data(once: Once) -> Path:
    """A root with tiny-2c, one view for each fold: 10 frames, 250 images. Not to be changed."""
    return once("data", lambda root: generate(root, TINY, viewpoints=VIEWS, workers=2))


def copy_dataset(data: Path, root: Path) -> None:
    """Copy tiny-2c without its resized arrays, which another test process may be writing just now."""
    shutil.copytree(data / TINY.name, root / TINY.name, ignore=shutil.ignore_patterns("cache"))


@pytest.fixture
def copied(data: Path, tmp_path: Path) -> Path:
    """A root with a copy of tiny-2c, which the test may change."""
    copy_dataset(data, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def twinned(data: Path, once: Once) -> Path:
    """A root with tiny-2c as `data` has it, to which the twins were added. Not to be changed."""

    def fill(root: Path) -> None:
        copy_dataset(data, root)
        generate(root, TINY, viewpoints=[1], workers=2, twins=True)

    return once("twinned", fill)


@pytest.fixture(scope="session")
def part_2c(once: Once) -> Path:
    """A root with part-2c, one view for each fold; a command can find it by name. Not to be changed."""
    return once("part-2c", lambda root: generate(root, "part-2c", viewpoints=VIEWS, workers=2))


@pytest.fixture(scope="session")
def checkpoints(data: Path, once: Once) -> Path:
    """Folder with an8net trained on folds 0 and 1 of tiny-2c. Not to be changed."""

    def fill(folder: Path) -> None:
        for fold in (0, 1):
            train(data, TINY.name, fold=fold, checkpoints=folder, recipe=RECIPE)

    return once("checkpoints", fill)


@pytest.fixture(scope="session")
def trained(data: Path, checkpoints: Path) -> Trained:
    """an8net trained on fold 0 of tiny-2c."""
    return train(data, TINY.name, fold=0, checkpoints=checkpoints, recipe=RECIPE)


Called = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """Call the command in this process, in an empty folder, which saves the start of a process.

    What it registers, e.g. by a script, is removed.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["an8flower", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended, explainers.registry.temporarily():
            main()
        return subprocess.CompletedProcess(sys.argv, ended.value.code, *capsys.readouterr())

    return call


@dataclass(frozen=True)
class DaskCluster:
    """A scheduler and two workers on loopback, each in a process of its own."""

    address: str


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Dask as its own commands start it; not to be stopped."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    # As an installed package would be, whichever folder the tests run from; and the tests' own jobs.
    here = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": here, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}

    def start(stack: ExitStack, what: str, *options: str) -> subprocess.Popen:
        log = stack.enter_context((folder / f"{what}{len(list(folder.iterdir()))}.log").open("w"))
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(file), *options]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        stack.callback(lambda: (process.terminate(), process.wait()))
        return process

    with ExitStack() as stack:
        scheduler = start(stack, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until(lambda: file.exists() and file.read_text(), scheduler)
        for _ in range(2):
            options = ("--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1")
            start(stack, "worker", *options)
        yield DaskCluster(json.loads(file.read_text())["address"])


@pytest.fixture(scope="session")
def test_set(data: Path) -> An8Flower:
    """The test images of fold 0 of tiny-2c."""
    return An8Flower(data, TINY.name, fold=0, split="test", size_px=112)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One renderer for a file: closing one, as commands do in other files, breaks others of its process."""
    with Renderer(variants.get("single-6c")) as one:
        yield one


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded."""
    return torch.Generator().manual_seed(0)


class Modular(probes.Modular):
    """The network of the conformance checks without batch norm, so that every oracle can follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()


class Functional(Modular):
    """The same with functions: `torch.relu` and `Tensor.relu`; the checks have `functional.relu`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        return self.fc(nn.functional.max_pool2d(self.conv2(x).relu(), 2).flatten(1))


class InPlace(Modular):
    """The same with functions that overwrite their input, one as a statement; the checks have modules."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.conv1(x), inplace=True)
        x = self.conv2(x)
        x.relu_()
        return self.fc(self.pool(x).flatten(1))


class ReUsed(Modular, probes.ReUsed):
    """The same with one ReLU module called twice."""


@pytest.fixture(params=[Modular, Functional, InPlace, ReUsed], ids=lambda kind: kind.__name__)
def written(request: pytest.FixtureRequest) -> nn.Module:
    """One network, written in four ways, with the same weights; input (N, 3, 28, 28)."""
    return with_weights(request.param())


def with_weights(model: nn.Module) -> nn.Module:
    """The same weights for every way of writing it."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture
def modular() -> nn.Module:
    """The network of `written`, with modules."""
    return with_weights(Modular())
