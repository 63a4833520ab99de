"""Methods that are defined in the cells of a notebook, and what a notebook shows of our objects."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys

import pytest

import explainers
from an8flower import An8Flower
from benchmark import evaluate, explain_with_features, leaderboard

# A server with all imports done: for each session it forks a process, which runs the cells. `plain` does what
# IPython does: a cell is compiled under the name of no file, and `linecache` keeps its lines.
SERVER = """
import io, json, linecache, os, sys, traceback
import torch
import explainers, benchmark.measuring.code_digest, benchmark.metrics, benchmark.models
from contextlib import redirect_stdout
explainers.names()
torch.set_num_threads(1)

def show(thing):
    shown.append(thing)

def plain(cell, number):
    name = f"/tmp/ipykernel_1/{number}.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    exec(compile(cell, name, "exec"), vars(sys.modules["__main__"]))

def ipython(cell, number):
    from IPython.core.interactiveshell import InteractiveShell
    InteractiveShell.instance(user_ns=vars(sys.modules["__main__"])).run_cell(cell).raise_error()

run_cell = {"cells": plain, "IPython": ipython}[sys.argv[1]]
for line in sys.stdin:
    folder, cells = json.loads(line)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.chdir(folder)
        shown = []
        try:
            with redirect_stdout(io.StringIO()):
                for number, cell in enumerate(cells):
                    run_cell(cell, number)
            answer = ["ok", shown]
        except BaseException:
            answer = ["error", traceback.format_exc()]
        with os.fdopen(writing, "w") as file:
            file.write(json.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        print(file.read(), flush=True)
    os.wait()
"""
NEEDED = pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not installed")


@pytest.fixture(scope="module", params=["cells", pytest.param("IPython", marks=NEEDED)])
def server(request):
    command = [sys.executable, "-c", SERVER, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def session(server, tmp_path):
    """Run cells in a session of their own; return what they show."""

    def run(*cells: str) -> list:
        server.stdin.write(json.dumps([str(tmp_path), [START, *cells]]) + "\n")
        server.stdin.flush()
        kind, shown = json.loads(server.stdout.readline())
        assert kind == "ok", shown
        return shown

    return run


START = """
import json, torch
import explainers
from explainers import explainer
from benchmark.measuring.code_digest import code_digest
"""
METHOD = """
@explainer(source="me", class_agnostic=True)
def mine(model, images, targets):
    '''Brightness.'''
    return SCALE * images.mean(dim=1)
"""
DIGEST = "show(code_digest(explainers.get('mine').spec.build))"


def test_a_cell_that_runs_again_replaces_its_method(session):
    again = METHOD.replace("mean(dim=1)", "amax(dim=1)")
    call = "show(explainers.get('mine').spec.build(None, torch.arange(3.0).view(1, 3, 1, 1), None).item())"
    assert session("SCALE = 1", METHOD, call, METHOD, call, again + "\n" + call) == [1.0, 1.0, 2.0]
    names = session("SCALE = 1", METHOD, again, "show([n for n in explainers.names() if n == 'mine'])")
    assert names == [["mine"]]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (
            "explainers.registry",
            "explainers.registry.add(explainers.ExplainerSpec('mine', lambda: {}, 'me'))",
        ),
        ("variants", "variants.add(Variant('mine', variants.get('part-2c').classes[:{}], 'me'))"),
        ("metrics", "metrics.add(MetricSpec('mine', lambda maps, masks: {}, 'me'))"),
        ("models", "models.add(ModelSpec('mine', lambda classes: {}, 56, 'me'))"),
    ],
)
def test_every_registry_takes_what_a_cell_defines_again(session, kind, cell):
    imports = (
        "from an8flower.variants import Variant, variants\nfrom explainers import ExplainerSpec\n"
        "from benchmark.metrics import MetricSpec, metrics\nfrom benchmark.models import ModelSpec, models"
    )
    shown = f"show([str({kind}.get('mine') is last), {kind}.names().count('mine')])"
    assert session(imports, f"last = {cell.format(1)}", f"last = {cell.format(2)}", shown) == [["True", 1]]


@pytest.mark.parametrize("name", ["grad_cam", "vebi", "random"])
def test_a_cell_cannot_take_the_name_of_a_built_in_method(session, name):
    taken = METHOD.replace("def mine", f"def {name}")
    indented = taken.replace("\n", "\n    ")
    caught = f"try:\n    {indented}\nexcept ValueError as error:\n    show(str(error))"
    message, source = session("SCALE = 1", caught, f"show(explainers.get('{name}').spec.source)")
    assert message == f"explainer '{name}' is registered twice; give one of them another name"
    assert source != "me"


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ("nothing", "SCALE = 1"),
        ("the docstring", METHOD.replace("Brightness", "How bright")),
        ("a comment", METHOD.replace("    return", "    # why\n    return")),
        ("the source", METHOD.replace('"me"', '"you"')),
        ("an annotation", METHOD.replace("images,", "images: 'torch.Tensor',")),
        ("a name that is not used", "OTHER = 2"),
    ],
)
def test_what_computes_nothing_keeps_the_key_of_a_cell(session, change, new):
    before, after = session("SCALE = 1", METHOD, DIGEST, new, DIGEST)
    assert before == after, change


HELPED = METHOD.replace("images.mean", "helped(images).mean")
LEARNING = """
@explainer(source="me")
class mine:
    def fit(self, model, loader):
        return self

    def __call__(self, model, images, targets):
        return Settings.scale * images.mean(dim=1)
"""


@pytest.mark.parametrize(
    ("cells", "new"),
    [
        pytest.param(["SCALE = 1", METHOD], METHOD.replace("mean", "amax"), id="its code"),
        pytest.param(["SCALE = 1", METHOD], "SCALE = 2", id="a constant that it uses"),
        pytest.param(
            ["SCALE = torch.tensor(1.0)", METHOD], "SCALE = torch.tensor(2.0)", id="a tensor that it uses"
        ),
        pytest.param(
            ["SCALE = 1\ndef helped(x): return x", HELPED], "def helped(x): return x + 1", id="a function"
        ),
        pytest.param(
            ["SCALE = 1\nK = 1\ndef helped(x): return x + K", HELPED], "K = 2", id="what the function uses"
        ),
        pytest.param(["SCALE = 1\nhelped = lambda x: x", HELPED], "helped = lambda x: -x", id="a lambda"),
        pytest.param(
            ["class Settings:\n    scale = 1", LEARNING], "class Settings:\n    scale = 2", id="a class"
        ),
        pytest.param(
            ["from explainers.maps import scaled as helped\nSCALE = 1", HELPED],
            "from explainers.maps import reduced as helped", id="what is imported",
        ),
        pytest.param(
            ["from functools import partial\nSCALE = 1\nhelped = partial(torch.clamp, min=0)", HELPED],
            "helped = partial(torch.clamp, min=1)", id="a partial",
        ),
    ],
)  # fmt: skip
def test_what_computes_something_changes_the_key_of_a_cell(session, cells, new):
    before, after = session(*cells, DIGEST, new, DIGEST)
    assert before != after


USING = """
@explainer(source="me", class_agnostic=True)
def mine(model, images, targets):
    return use(images)
"""
NEEDS = """
import enum, functools, logging, pathlib, random, threading, types
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
import numpy as np
"""
# What a setting is, how a later cell changes it, and how the method uses it.
SETTINGS = {
    "dataclass": ("@dataclass\nclass C:\n    k: float = 1.0\ncfg = C(2.0)", "cfg.k = 5.0", "cfg.k"),
    "namespace": ("cfg = types.SimpleNamespace(k=1)", "cfg.k = 5", "cfg.k"),
    "nested object": (
        "cfg = types.SimpleNamespace(a=[types.SimpleNamespace(k=1)])", "cfg.a[0].k = 5", "cfg.a",
    ),
    "class attribute": ("class cfg:\n    k = 1", "cfg.k = 5", "cfg.k"),
    "class method": ("class cfg:\n    def k(self): return 1", "cfg.k = lambda self: 5", "cfg().k()"),
    "callable instance": (
        "class C:\n    def __init__(self): self.k = 1\n    def __call__(self): return self.k\ncfg = C()",
        "cfg.k = 5", "cfg()",
    ),
    "slots": ("class C:\n    __slots__ = 'k'\ncfg = C()\ncfg.k = 1", "cfg.k = 5", "cfg.k"),
    "layer": ("cfg = torch.nn.Linear(3, 1)", "cfg.weight.data.fill_(3.0)", "cfg.weight"),
    "bfloat16": ("cfg = torch.ones(1, dtype=torch.bfloat16)", "cfg[0] = 5", "cfg"),
    "sparse": ("cfg = torch.eye(2).to_sparse()", "cfg = (5 * torch.eye(2)).to_sparse()", "cfg"),
    "torch generator": ("cfg = torch.Generator().manual_seed(0)", "cfg.manual_seed(1)", "cfg"),
    "NumPy generator": ("cfg = np.random.default_rng(0)", "cfg = np.random.default_rng(1)", "cfg"),
    "masked array": ("cfg = np.ma.array([1, 2], mask=[0, 0])", "cfg.mask = [0, 1]", "cfg"),
    "mutable default": ("def cfg(k=[1]): return k[0]", "cfg.__defaults__[0][0] = 5", "cfg()"),
    "keyword default": ("def cfg(*, k=1): return k", "cfg.__kwdefaults__['k'] = 5", "cfg()"),
    "function attribute": ("def cfg(): ...", "cfg.k = 5", "getattr(cfg, 'k', 1)"),
    "cached function": (
        "k = 1\n@functools.lru_cache\ndef cfg(): return k", "k = 5\ncfg.cache_clear()", "cfg()",
    ),
    "bound method": (
        "class C:\n    k = 1\n    def f(self): return self.k\nc = C()\ncfg = c.f", "c.k = 5", "cfg()",
    ),
    "property": ("k = 1\nclass C:\n    @property\n    def k(self): return k\ncfg = C()", "k = 5", "cfg.k"),
    "default dict": ("cfg = Counter(k=1)", "cfg['k'] = 5", "cfg['k']"),
    "order": ("cfg = OrderedDict(a=1, b=2)", "cfg.move_to_end('a')", "list(cfg.values())[0]"),
    "queue": ("cfg = deque([1])", "cfg[0] = 5", "cfg[0]"),
    "path": ("cfg = pathlib.Path('a')", "cfg = pathlib.Path('b')", "len(str(cfg))"),
    "enumeration": (
        "class E(enum.Enum):\n    a = 1\n    b = 5\ncfg = E.a", "cfg = E.b", "cfg.value",
    ),
    "module made here": ("cfg = types.ModuleType('cfg')\ncfg.k = 1", "cfg.k = 5", "cfg.k"),
    "an object in itself": ("cfg = types.SimpleNamespace(k=1)\ncfg.me = cfg", "cfg.k = 5", "cfg.me.k"),
    "code without source": ("exec('def cfg(): return 1')", "exec('def cfg(): return 5')", "cfg()"),
    "same argument elsewhere": ("k = 1\ncfg = (lambda k: k, lambda: k)[1]", "k = 5", "cfg()"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_changed_setting_of_any_kind_changes_the_key(session, kind):
    made, changed, used = SETTINGS[kind]
    use = f"def use(images):\n    return images.mean(1), {used}"
    first, again, after = session(NEEDS, made, use, USING, DIGEST, USING, DIGEST, changed, DIGEST)
    assert first == again, "the same values have the same key"
    assert after != first, "another value has another key"


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind not in ("layer", "class method")])
def test_the_same_cells_in_another_session_have_the_same_key(session, kind):
    made, _, used = SETTINGS[kind]
    cells = [NEEDS, made, f"def use(images):\n    return images.mean(1), {used}", USING, DIGEST]
    assert session(*cells) == session(*cells)


@pytest.mark.parametrize(
    "made",
    ["threading.Lock()", "open('f', 'w')", "(k for k in [1])", "types.SimpleNamespace(k=threading.Lock())"],
)  # fmt: skip
def test_an_object_whose_value_cannot_be_told_is_measured_again(session, made):
    cells = [NEEDS, f"cfg = {made}", "def use(images):\n    return images.mean(1), cfg", USING]
    first, again = session(*cells, DIGEST, DIGEST)
    assert first != again


# A main module with a file, as in Spyder, in PyCharm, in marimo and under `python -i`.
MAIN = "import sys\nsys.modules['__main__'].__file__ = {file!r}"
OTHER = "import types\nother = types.ModuleType('other')\nother.explainer = explainer\n"


@pytest.mark.parametrize("file", ["script.py", "/tmp/marimo_1/__marimo__cell_a_.py", "/tmp/ipykernel_1/3.py"])
def test_a_cell_replaces_its_method_where_the_main_module_has_a_file(session, file):
    again = METHOD.replace("mean(dim=1)", "amax(dim=1)")
    call = "show(explainers.get('mine').spec.build(None, torch.arange(3.0).view(1, 3, 1, 1), None).item())"
    assert session(MAIN.format(file=file), "SCALE = 1", METHOD, again, call, METHOD, call) == [2.0, 1.0]


@pytest.mark.parametrize("first", ["other", "here"])
def test_two_modules_cannot_share_a_name(session, first):
    there = f"exec({METHOD!r}, vars(other))"
    cells = [there, METHOD] if first == "other" else [METHOD, there]
    caught = "\n    ".join(cells[1].strip().split("\n"))
    error = f"try:\n    {caught}\nexcept ValueError as error:\n    show(str(error))"
    (message,) = session(MAIN.format(file="script.py"), OTHER, "SCALE = 1", cells[0], error)
    assert message == "explainer 'mine' is registered twice; give one of them another name"


SCRIPT = """
import sys
from types import SimpleNamespace
from benchmark.measuring.code_digest import code_digest
cfg = SimpleNamespace(k=int(sys.argv[1]))
unused = sys.argv[2]
def mine(model, images, targets):
    return cfg.k * images.mean(dim=1)
print(code_digest(mine))
"""


def test_a_script_that_takes_its_settings_from_the_command_has_a_key_for_each(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def key(*arguments: str) -> str:
        command = [sys.executable, "script.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    first, other, unused = key("1", "a"), key("2", "a"), key("1", "b")
    assert first == unused != other


PASSED = """
import functools
def mine(model, images, targets): ...
class Mine:
    def __call__(self, model, images, targets): ...
"""


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        ("mine", "mine"),
        ("lambda model, images, targets: images", "my_method"),
        ("functools.partial(mine)", "my_method"),
        ("Mine()", "my_method"),
    ],
)
@pytest.mark.parametrize("call", ["evaluate('data', 'part-2c', explainers=[{}])", "explainers.get({})"])
def test_a_function_in_place_of_a_name_is_told_how_to_be_named(session, call, thing, name):
    cell = f"try:\n    {call.format(thing)}\nexcept TypeError as error:\n    show(str(error))"
    (message,) = session("from benchmark import evaluate", PASSED, cell)
    assert message.startswith("explainers are passed by name, not as the object ")
    assert f"pass its name, '{name}', or name its file, 'path/to/file.py:{name}'" in message
    assert "@explainer" in message and "\n" not in message


def test_the_object_of_a_registered_method_is_told_its_name(session):
    cell = "for thing in (mine, explainers.get('mine'), explainers.get('mine').spec):\n    try:\n"
    cell += "        explainers.get(thing)\n    except TypeError as error:\n        show(str(error))"
    messages = session("SCALE = 1", METHOD, cell)
    assert len(messages) == 3
    assert all(message.endswith("pass 'mine'") and "\n" not in message for message in messages)


@pytest.mark.parametrize("way", ["-c", "standard input"])
def test_a_method_whose_source_is_nowhere_is_refused_before_anything_is_measured(
    way, data, tiny, checkpoints, tmp_path
):
    code = (
        f"{START}{METHOD}\nfrom benchmark import evaluate\nSCALE = 1\n"
        f"evaluate({str(data)!r}, {tiny.name!r}, explainers=['sobel', 'mine'], folds=[0],"
        f" checkpoints={str(checkpoints)!r}, results='runs')\n"
    )
    command = [sys.executable, *(["-c", code] if way == "-c" else ["-"])]
    given = None if way == "-c" else code
    done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, text=True)
    assert done.stderr.endswith(
        "\nValueError: the code of 'mine' is not in a file; save it in one and name it as file.py:mine\n"
    )
    assert not list(tmp_path.rglob("*.json"))


def test_the_package_is_a_program(tmp_path):
    command = [sys.executable, "-m", "an8flower", "list", "variants"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "single-6c" in done.stdout and not done.stderr


def test_a_module_beside_a_notebook_counts(session, tmp_path):
    (tmp_path / "beside.py").write_text("def helped(x):\n    return x\n")
    cells = ["import sys\nsys.path.insert(0, '')", "from beside import helped\nSCALE = 1", HELPED, DIGEST]
    (before,) = session(*cells)
    (tmp_path / "beside.py").write_text("def helped(x):\n    return 2 * x\n")
    (after,) = session(*cells)
    assert before != after


def test_code_without_source_is_said_to_be(session):
    cell = (
        "exec('def f(model, images, targets): ...')\ntry:\n    code_digest(f)\nexcept ValueError as error:\n"
    )
    (message,) = session(cell + "    show(str(error))")
    assert message == "the code of 'f' is not in a file; save it in one and name it as file.py:f"


def test_a_method_of_a_cell_is_checked_and_measured(session, data, tiny, checkpoints):
    go = (
        "from benchmark import evaluate\n"
        f"records = evaluate({str(data)!r}, {tiny.name!r}, explainers=['mine'], folds=[0],"
        f" checkpoints={str(checkpoints)!r}, results='runs')\n"
        "show([[r.status, r.reason, r.scores['iou_auc'] if r.scores else None] for r in records])"
    )
    check = "from explainers.conformance import check\nshow(str(check('mine')))"
    other = METHOD.replace("images.mean(dim=1)", "images[:, 0]")
    passed, first, again, changed = session("SCALE = 1", METHOD, check, go, METHOD, go, other, go)
    assert "fail" not in passed, passed
    assert first == again and first[0][:2] == ["ok", None]
    assert changed[0][0] == "ok" and changed != first


LONGEST = 200  # characters of what a console shows of an object


@pytest.fixture(scope="module")
def records(data, tiny, checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    names = ["grad_cam", "random"]
    where = {"checkpoints": checkpoints, "results": folder, "folds": [0]}
    return folder, evaluate(data, tiny.name, explainers=names, **where)


def test_objects_are_short_in_a_console_and_tables_in_a_notebook(records, trained, data, tiny):
    folder, measured = records
    dataset = An8Flower(data, tiny.name, size_px=112)
    board = leaderboard(folder, tiny.name)
    things = {
        "Leaderboard(tiny-2c an8net: 2 explainers, best grad_cam": board,
        "Record(grad_cam, tiny-2c an8net fold 0: ok": measured[0],
        "Trained(an8net on tiny-2c fold 0: test accuracy": trained,
        f"Manifest({data / tiny.name}: 2 classes, 5 views, ": dataset.manifest,
        "Explainer('grad_cam@conv1')": explainers.get("grad_cam@conv1"),
        "Dataset An8Flower": dataset,
    }
    for start, thing in things.items():
        assert repr(thing).startswith(start) and len(repr(thing)) < LONGEST + len(str(data))
        assert thing._repr_html_().count("<table>") == 1
    assert "grad_cam" in board._repr_html_() and "IoU-AUC" in board._repr_html_()
    _, _, after = dataset._repr_html_().partition("base64,")
    assert base64.b64decode(after.partition('"')[0]).startswith(b"\x89PNG")
    batch = next(dataset.batches(4))
    assert "images=<float32 (4, 3, 112, 112)>" in repr(batch) and len(repr(batch)) < LONGEST


def test_text_of_others_is_escaped_in_a_notebook(records):
    from dataclasses import replace

    _, measured = records
    hostile = replace(measured[0], status="failed", reason="<script>alert(1)</script>")
    assert "<script>" not in hostile._repr_html_() and "&lt;script&gt;" in hostile._repr_html_()


def test_an_explanation_is_a_picture_in_a_notebook(data, tiny, checkpoints, tmp_path):
    from benchmark.training.weights import weights_path

    images = sorted((data / tiny.name / "images").rglob("*.png"))[:2]
    explained = explain_with_features(images, weights_path(checkpoints, tiny.name, "an8net", 0), root=data)
    assert repr(explained).startswith(f"Explained(2 images: {images[0].name} ")
    assert len(repr(explained)) < LONGEST and "\n" not in repr(explained)
    assert explained._repr_png_().startswith(b"\x89PNG")
