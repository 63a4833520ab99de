"""Importing the package is quick and light, tried in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "cv2", "OpenGL", "pyrender", "trimesh", "pandas", "matplotlib", "numpy")


@pytest.mark.parametrize("package", ["an8flower", "benchmark", "benchmark.cli"])
def test_import_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([name for name in {HEAVY} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_public_names_are_the_functions_also_after_their_modules():
    code = (
        "import an8flower.generation, an8flower.dataset\n"
        "import benchmark.training, benchmark.harness, benchmark.board\n"
        "from an8flower import An8Flower, generate, verify\n"
        "from benchmark import evaluate, leaderboard, load_model, train\n"
        "from benchmark.metrics import iou_auc, iou_curve\n"
        "import explainers\n"
        "explainers.get('grad_cam', layer='last_conv')\n"
        "print(all(map(callable, (An8Flower, generate, verify, evaluate, leaderboard, load_model, train))))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "True"
