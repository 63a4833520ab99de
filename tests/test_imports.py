"""What importing the packages loads, in a fresh process, and the modules under their old names."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from an8flower import An8Flower
from an8flower.ground.memo import Memory
from an8flower.ground.moved import ALIASES, MOVED

HEAVY = ("torch", "cv2", "OpenGL", "pyrender", "trimesh", "pandas", "matplotlib", "numpy")


@pytest.mark.parametrize("package", ["an8flower", "benchmark", "benchmark.cli"])
def test_import_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([name for name in {HEAVY} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.slow
def test_public_names_are_the_functions_also_after_their_modules():
    code = (
        "import an8flower.drawing.generation, an8flower.dataset\n"
        "import benchmark.training.trainer, benchmark.measuring.harness, benchmark.board.rows\n"
        "from an8flower import An8Flower, generate, verify\n"
        "from benchmark import evaluate, leaderboard, load_model, train\n"
        "from benchmark.metrics import iou_auc, iou_curve\n"
        "import explainers\n"
        "explainers.get('grad_cam', layer='last_conv')\n"
        "print(all(map(callable, (An8Flower, generate, verify, evaluate, leaderboard, load_model, train))))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "True"


@pytest.mark.slow
def test_reading_a_dataset_loads_nothing_that_draws(data, tiny):
    code = (
        "import sys\n"
        "from an8flower import An8Flower\n"
        f"An8Flower({str(data)!r}, {tiny.name!r}, target=('label', 'mask', 'plant'))[0]\n"
        f"next(An8Flower({str(data)!r}, {tiny.name!r}, size_px=112).batches(2))\n"
        "print([name for name in ('trimesh', 'cv2', 'OpenGL', 'pyrender', 'an8flower.ground.jobs',"
        " 'an8flower.drawing') if name in sys.modules])"
    )
    An8Flower(data, tiny.name, size_px=112)  # writes the arrays
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.slow
def test_packages_are_also_parts_of_an8flower():
    code = (
        "import explainers, benchmark.metrics.iou, explainers.backward.backprop as backprop\n"
        "import an8flower.explainers, an8flower.benchmark.metrics.iou as iou\n"
        "from an8flower import benchmark as ours\n"
        "from an8flower.explainers.maps import upsampled\n"
        "from explainers.backprop import backpropagate\n"
        "print(an8flower.explainers is explainers, iou is benchmark.metrics.iou, ours is benchmark,"
        " backpropagate is backprop.backpropagate, iou.__spec__.name)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True"] * 4 + ["benchmark.metrics.iou"]


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_moved_is_found_under_its_old_name_with_a_warning(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        assert importlib.import_module(old) is importlib.import_module(MOVED[old])
    assert importlib.import_module(MOVED[old]).__spec__.name == MOVED[old]


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_module_itself(alias):
    assert importlib.import_module(alias) is importlib.import_module(ALIASES[alias])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("an8flower.folds", "VIEWS_A_BLOCK", "VIEWS_PER_BLOCK"),
        ("an8flower.drawing.generation", "Place", "FrameId"),
    ],
)
def test_a_renamed_name_is_found_with_a_warning(name, old, new):
    module = importlib.import_module(name)
    with pytest.warns(DeprecationWarning, match=f"{name}.{old} is now {new}"):
        assert getattr(module, old) is getattr(module, new)


def test_what_a_memory_has_stored_is_found_under_its_old_name():
    memory = Memory((object(),))
    with pytest.warns(DeprecationWarning, match=r"Memory\.made is now Memory\.results"):
        assert memory.made is memory.results
