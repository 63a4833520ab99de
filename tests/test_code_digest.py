"""The digest of what code computes: what changes it, and what does not."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from itertools import count
from pathlib import Path

import pytest

import explainers
from benchmark.certificate import certify
from benchmark.measuring import code_digest as digests
from benchmark.measuring.code_digest import code_digest
from benchmark.metrics import metrics
from explainers.scripts import spec

REPOSITORY = Path(__file__).parents[1]
# A method, a score and the certificate: the file that holds each.
FILES = {
    "method": "explainers/cam.py",
    "learned": "explainers/vebi/explainer.py",
    "metric": "benchmark/metrics/iou.py",
    "certificate": "benchmark/certificate/answers.py",
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


@pytest.mark.slow
def test_it_is_the_digest_of_the_registered_methods(edited):
    assert code_digest(explainers.registry.get("grad_cam").build) == edited(FILES["method"])
    assert code_digest(explainers.registry.get("vebi").build.func) == edited(FILES["learned"])
    assert code_digest(metrics.get("iou_auc").compute) == edited(FILES["metric"])
    assert code_digest(certify) == edited(FILES["certificate"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changed", "old", "new"),
    [
        # docstrings
        ("method", "explainers/cam.py", "weight each channel by its mean", "other words"),
        ("learned", "explainers/vebi/lasso.py", "Solve the μ-lasso", "Reworded: the μ-lasso"),
        ("metric", "benchmark/metrics/iou.py", "the exact area under IoU(t)", "the area below IoU(t)"),
        ("certificate", "benchmark/certificate/answers.py", "Run a model on", "Apply a model to"),
        # comments, layout, annotations
        ("method", "explainers/backward/backprop.py", "\n\n\n", "\n\n# a comment\n\n\n"),
        ("method", "explainers/cam.py", "model: nn.Module", "model: torch.nn.Module"),
        ("metric", "benchmark/metrics/iou.py", "NDArray[np.float64] = np.arange", '"an array" = np.arange'),
        # what a registration says in words, and the text of an error
        ("method", "explainers/cam.py", "Selvaraju et al. 2017, arXiv", "Selvaraju and others, arXiv"),
        ("method", "explainers/maps.py", "reduce must be one of", "reduce is none of"),
        # a keyword argument of the dataset that was renamed
        ("certificate", "benchmark/certificate/pictures.py", "scheme=folds", "folds=folds"),
        # names of local variables
        ("method", "explainers/cam.py", "alpha", "share"),
        # files that are not imported, and those that call all methods alike
        ("method", "explainers/conformance/checks.py", "CPU", "GPU"),
        ("method", "explainers/baselines.py", "0.5", "0.6"),
        ("method", "explainers/base.py", "it changed", "it altered"),
        ("learned", "explainers/vebi/figures.py", 'colors="cyan"', 'colors="white"'),
        ("metric", "benchmark/metrics/pointing.py", "SIDE_PX", "2 * SIDE_PX"),
        ("metric", "benchmark/board/rows.py", "SEED = 0", "SEED = 1"),
        ("certificate", "benchmark/certificate/checks.py", "SCHEMA_VERSION = 3", "SCHEMA_VERSION = 4"),
        ("certificate", "an8flower/ground/progress.py", "LINE_EVERY_S = 5.0", "LINE_EVERY_S = 6.0"),
    ],
)
def test_what_computes_nothing_changes_no_digest(edited, kind, changed, old, new):
    assert edited(FILES[kind], changed, old, new) == edited(FILES[kind])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changed", "old", "new"),
    [
        ("method", "explainers/cam.py", '"last_conv"', '"last_relu"'),  # a default
        ("method", "explainers/cam.py", "mean(dim=(2, 3))", "mean(dim=(2,))"),
        ("method", "explainers/backward/backprop.py", "once(", "twice("),  # imported directly
        (
            "method",
            "explainers/backward/stride_fix.py",
            '"stride 1"',
            '"stride 2"',
        ),  # imported by what it imports
        ("method", "explainers/cam.py", "from explainers.maps import", "from explainers.baselines import"),
        ("learned", "explainers/vebi/lasso.py", "1e-", "2e-"),
        ("metric", "benchmark/metrics/iou.py", "np.arange(1, 101)", "np.arange(0, 101)"),
        ("metric", "benchmark/metrics/ranked.py", "ValueError", "TypeError"),  # what it raises
        ("certificate", "benchmark/certificate/judging.py", "ENOUGH = 0.99", "ENOUGH = 0.98"),
        ("certificate", "benchmark/covers.py", "+ 1\n", "+ 2\n"),
        # a constant by name, out of a module that is not followed
        ("certificate", "an8flower/protocol.py", "CROP_SIZE_PX = 250", "CROP_SIZE_PX = 240"),
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
    with explainers.registry.temporarily():
        build = spec(tmp_path / "mine.py", "of_a_script").build
    assert digests.is_script(build.__module__) and code_digest(build)


@pytest.fixture
def digest_of(tmp_path):
    """The digest of `f` in the module `mine` of some files, which are written and imported."""
    folders = count()

    def digest(files, module="mine", script=True):
        folder = tmp_path / f"of{next(folders)}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        before, path = set(sys.modules), list(sys.path)
        sys.path.insert(0, str(folder))
        try:
            if script:
                name = f"an8flower_script_{folder.name}"
                found = importlib.util.spec_from_file_location(name, folder / f"{module}.py")
                sys.modules[name] = importlib.util.module_from_spec(found)
                sys.path.insert(0, str((folder / f"{module}.py").parent))
                found.loader.exec_module(sys.modules[name])
            else:
                name = module
                importlib.invalidate_caches()
                importlib.import_module(name)
            return code_digest(sys.modules[name].f)
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - before:
                del sys.modules[name]

    return digest


WRAP = (
    "import functools\n\n\ndef wrap(g):\n    @functools.wraps(g)\n    def inner(*a):\n        return g(*a)\n"
    "    return inner\n"
)
TRY = "try:\n    from {} import K\nexcept ImportError:\n    from {} import K\n\n\ndef f():\n    return K\n"
LIB = "from k import K\n\n\ndef f():\n    return K\n"
CHECKED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    K = {}\n\n\ndef f(): ..."
TWO = {"a.py": "K = 1\n", "b.py": "K = 2\n"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            {"mine.py": "import torch\n\n\n@torch.no_grad()\ndef f():\n    return 1\n"},
            {"mine.py": "import torch\n\n\n@torch.no_grad()\ndef f():\n    return 2\n"},
            id="under a decorator of a library",
        ),
        pytest.param(
            {"mine.py": "from wrap import wrap\n\n\n@wrap\ndef f():\n    return 1\n", "wrap.py": WRAP},
            {"mine.py": "from wrap import wrap\n\n\n@wrap\ndef f():\n    return 2\n", "wrap.py": WRAP},
            id="under a decorator of one's own",
        ),
        pytest.param(
            {
                "mine.py": "from functools import partial\nfrom g import g\nf = partial(g, a=2)\n",
                "g.py": "def g(a): ...",
            },
            {
                "mine.py": "from functools import partial\nfrom g import g\nf = partial(g, a=3)\n",
                "g.py": "def g(a): ...",
            },
            id="in a partial",
        ),
        pytest.param(
            {"mine.py": "def f(x):\n    raise KeyError(x * 2)\n"},
            {"mine.py": "def f(x):\n    raise KeyError(x * 3)\n"},
            id="a value that is raised",
        ),
        pytest.param(
            {"mine.py": TRY.format("a", "b"), **TWO},
            {"mine.py": TRY.format("b", "a"), **TWO},
            id="the order of imports that depend on something",
        ),
        pytest.param(
            {"mine.py": "from a import *\nfrom b import *\n\n\ndef f():\n    return K\n", **TWO},
            {"mine.py": "from b import *\nfrom a import *\n\n\ndef f():\n    return K\n", **TWO},
            id="the order of star imports",
        ),
        pytest.param(
            {
                "mine.py": "from lib import f\n",
                "lib.py": LIB,
                "k.py": "K = 1",
            },
            {
                "mine.py": "from lib import f\n",
                "lib.py": LIB,
                "k.py": "K = 2",
            },
            id="what a helper imports",
        ),
        pytest.param(
            {"mine.py": CHECKED.format(1)},
            {"mine.py": CHECKED.format(2)},
            id="what a type checker does not see",
        ),
    ],
)
def test_what_scripts_compute_is_found_behind_anything(digest_of, before, after):
    assert digest_of(before) == digest_of(before) != digest_of(after)


@pytest.mark.parametrize("init", ["__init__.py", "of_no_import.txt"])
def test_packages_of_others_with_and_without_an_init_file(digest_of, init):
    def files(constant, first=""):
        return {
            f"plug/{init}": first, "plug/sub/method.py": "from ..k import K\n\n\ndef f():\n    return K\n",
            f"plug/sub/{init}": "", "plug/k.py": f"K = {constant}\n",
        }  # fmt: skip

    def digest(*what):
        return digest_of(files(*what), "plug.sub.method", script=False)

    assert digest(1) == digest(1) != digest(2)
    assert (digest(1, "seed = 1\n") != digest(1)) == (init == "__init__.py")


def test_a_script_in_the_folder_of_a_package_finds_its_helper(digest_of):
    def files(constant):
        return {
            "p/__init__.py": "", "p/helper.py": f"K = {constant}\n",
            "p/mine.py": "from helper import K\n\n\ndef f():\n    return K\n",
        }  # fmt: skip

    assert digest_of(files(1), "p/mine") == digest_of(files(1), "p/mine") != digest_of(files(2), "p/mine")


def test_code_without_a_file_is_refused_in_words():
    made: dict[str, object] = {}
    exec("def made_up():\n    return 1\n", {"__name__": "nowhere"}, made)
    with pytest.raises(
        ValueError, match=r"the code of 'made_up' is not in a file; save it in one and name it as"
    ):
        code_digest(made["made_up"])


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
    assert digest == "eece6d0a1579a16130418100e02add4008d9db7fd7689e58836669eeba679ba5"
