"""The digest of what code computes: what changes it, and what does not."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from itertools import count
from pathlib import Path

import pytest

import explainers
from benchmark import code_digest as digests
from benchmark.certificate import certify
from benchmark.code_digest import code_digest
from benchmark.metrics import metrics
from explainers.scripts import spec

REPOSITORY = Path(__file__).parents[1]
# A method, a score and the certificate: the file that holds each.
FILES = {
    "method": "explainers/cam.py",
    "learned": "explainers/vebi/explainer.py",
    "metric": "benchmark/metrics/iou.py",
    "certificate": "benchmark/certificate/judging.py",
}


@pytest.fixture
def edited(tmp_path):
    """The digest of a file in a copy of the project, after one text in one file was replaced."""
    copies = count()

    def digest(file: str, changed: str = "", old: str = "", new: str = "", *, moves=()) -> str:
        copy = tmp_path / str(next(copies))
        for package in digests.OURS:
            shutil.copytree(
                REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        if changed:
            text = (copy / changed).read_text()
            assert old in text, f"{changed} has no {old!r}"
            (copy / changed).write_text(text.replace(old, new))
        for source, target in moves:
            (copy / source).rename(copy / target)
        return digests._reached(copy / file, (digests._Place(copy, digests.OURS),))

    return digest


def test_it_is_the_digest_of_the_registered_methods(edited):
    assert code_digest(explainers.registry.get("grad_cam").build) == edited(FILES["method"])
    assert code_digest(explainers.registry.get("vebi").build) == edited(FILES["learned"])
    assert code_digest(metrics.get("iou_auc").compute) == edited(FILES["metric"])
    assert code_digest(certify) == edited(FILES["certificate"])


@pytest.mark.parametrize(
    ("kind", "changed", "old", "new"),
    [
        # docstrings
        ("method", "explainers/cam.py", "ReLU of the channels weighted", "Rectified channels, weighted"),
        ("learned", "explainers/vebi/lasso.py", '"""The μ-lasso', '"""Reworded: the μ-lasso'),
        ("metric", "benchmark/metrics/iou.py", "The area under IoU(t)", "Area below IoU(t)"),
        ("certificate", "benchmark/certificate/judging.py", "Ask a model about", "Query a model on"),
        # comments, layout, annotations
        ("method", "explainers/backprop.py", "\n\n\n", "\n\n# a comment\n\n\n"),
        ("method", "explainers/cam.py", "model: nn.Module", "model: torch.nn.Module"),
        ("metric", "benchmark/metrics/iou.py", "NDArray[np.float64] = np.arange", '"an array" = np.arange'),
        # what a registration says in words, and the text of an error
        ("method", "explainers/cam.py", "Selvaraju et al. 2017, arXiv", "Selvaraju and others, arXiv"),
        ("method", "explainers/maps.py", "reduce must be one of", "reduce is none of"),
        # names of local variables
        ("method", "explainers/cam.py", "alpha", "share"),
        # files that are not imported, and those that call all methods alike
        ("method", "explainers/checks.py", "CPU", "GPU"),
        ("method", "explainers/baselines.py", "0.5", "0.6"),
        ("method", "explainers/base.py", "it changed", "it altered"),
        ("learned", "explainers/vebi/figures.py", 'colors="cyan"', 'colors="white"'),
        ("metric", "benchmark/metrics/pointing.py", "SIDE_PX", "2 * SIDE_PX"),
        ("metric", "benchmark/board.py", "SEED = 0", "SEED = 1"),
        ("certificate", "benchmark/certificate/records.py", "SCHEMA_VERSION = 1", "SCHEMA_VERSION = 2"),
        ("certificate", "an8flower/progress.py", "LINE_EVERY_S = 5.0", "LINE_EVERY_S = 6.0"),
    ],
)
def test_what_computes_nothing_changes_no_digest(edited, kind, changed, old, new):
    assert edited(FILES[kind], changed, old, new) == edited(FILES[kind])


@pytest.mark.parametrize(
    ("kind", "changed", "old", "new"),
    [
        ("method", "explainers/cam.py", '"last_conv"', '"last_relu"'),  # a default
        ("method", "explainers/cam.py", "mean(dim=(2, 3))", "mean(dim=(2,))"),
        ("method", "explainers/backprop.py", "once(", "twice("),  # imported directly
        ("method", "explainers/stride_fix.py", '"stride 1"', '"stride 2"'),  # imported by what it imports
        ("method", "explainers/cam.py", "from explainers.maps import", "from explainers.baselines import"),
        ("learned", "explainers/vebi/lasso.py", "1e-", "2e-"),
        ("metric", "benchmark/metrics/iou.py", "np.arange(1, 101)", "np.arange(0, 101)"),
        ("metric", "benchmark/metrics/ranked.py", "ValueError", "TypeError"),  # what it raises
        ("certificate", "benchmark/certificate/judging.py", "SWAP = 0.9", "SWAP = 0.8"),
        ("certificate", "benchmark/certificate/pictures.py", "+ 1\n", "+ 2\n"),
        # a constant by name, out of a module that is not followed
        ("certificate", "an8flower/augment.py", "CROP_SIZE_PX = 250", "CROP_SIZE_PX = 240"),
    ],
)
def test_what_computes_something_changes_the_digest(edited, kind, changed, old, new):
    assert edited(FILES[kind], changed, old, new) != edited(FILES[kind])


def test_a_moved_module_keeps_the_digest(edited):
    before = edited("explainers/gradients.py")
    after = edited(
        "explainers/pixels.py", "explainers/gradients.py", "from explainers.maps", "from explainers.channels",
        moves=[
            ("explainers/gradients.py", "explainers/pixels.py"),
            ("explainers/maps.py", "explainers/channels.py"),
        ],
    )  # fmt: skip
    assert after == before


def test_a_script_changes_with_the_files_it_imports_from_its_folder(tmp_path):
    def digest(helper: str, neighbour: str = "") -> str:
        folder = tmp_path / helper.replace(" ", "") / (neighbour or "none")
        folder.mkdir(parents=True)
        (folder / "weights_of_it.py").write_text(f"scale = {helper}\n")
        (folder / "neighbour.py").write_text(neighbour)
        (folder / "mine.py").write_text(
            "from weights_of_it import scale\n\n\ndef mine(model, images, targets):\n"
            "    return scale * images.mean(1)\n"
        )
        name = f"script_{len(list(tmp_path.rglob('mine.py')))}"
        found = importlib.util.spec_from_file_location(f"an8flower_script_{name}", folder / "mine.py")
        module = importlib.util.module_from_spec(found)
        sys.path.insert(0, str(folder))
        try:
            found.loader.exec_module(module)
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("weights_of_it", None)
        return code_digest(module.mine)

    assert digest("1.0") == digest("1.0", "unused = 1") != digest("2.0")


def test_a_script_read_by_name_is_one(tmp_path):
    (tmp_path / "mine.py").write_text("def of_a_script(model, images, targets):\n    return images.mean(1)\n")
    explainers.names()
    kept = dict(explainers.registry._entries)
    try:
        build = spec(tmp_path / "mine.py", "of_a_script").build
    finally:
        explainers.registry._entries.clear()
        explainers.registry._entries.update(kept)
    assert digests.is_script(build.__module__) and code_digest(build)


def test_it_is_the_same_on_every_version_of_python(tmp_path):
    """Pinned: a run on another version must find the records of this one."""
    (tmp_path / "pinned.py").write_text(
        '"""Doc."""\nfrom __future__ import annotations\nimport numpy as np\n\n\n'
        "def pinned(a: int, /, b=2.5, *c, d=(1, None), **e) -> int:\n"
        '    """Doc."""\n    match a:\n        case [first, *rest] if first > -1:\n'
        '            return f"{first!r:>{b}} {rest}"\n'
        "    with open(a) as handle, np.errstate():\n        return [x async for x in handle] + [...]\n"
        "    try:\n        yield lambda q: q @ b\n"
        "    except* OSError as error:\n        raise ValueError('said') from error\n"
    )
    digest = digests._reached(tmp_path / "pinned.py", (digests._Place(tmp_path, ("pinned",)),))
    assert digest == "e4f23e0e6cf7e1b3fed490c5c0e1c756a75bc28c9cbaa117de9bc3abdabf623f"
