"""The diagram and the table in docs/architecture.md are those of the code. See also test_docs.py."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from graphlib import CycleError
from itertools import pairwise
from pathlib import Path

import pytest

from benchmark.experiments.evidence.architecture import (
    PACKAGES,
    PAGE,
    PICTURE,
    Room,
    diagram,
    read_rooms,
    table,
    with_table,
)
from benchmark.experiments.evidence.layered import layout, without_shortcuts

REPOSITORY = Path(__file__).parent.parent
AGAIN = "run 'make architecture'"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def rooms() -> dict[str, Room]:
    return read_rooms()


def test_the_diagram_is_the_one_of_the_code(rooms):
    assert (REPOSITORY / PICTURE).read_text() == diagram(rooms), AGAIN


def test_the_table_of_rooms_is_the_one_of_the_code(rooms):
    page = (REPOSITORY / PAGE).read_text()
    assert page == with_table(page, rooms), AGAIN
    assert all(room.purpose for room in rooms.values())


def test_every_room_is_in_the_diagram_and_inside_it(rooms):
    svg = ET.fromstring(diagram(rooms))
    titles = [text.text for text in svg.iter(SVG + "text") if text.get("class") == "title"]
    assert sorted(titles) == sorted(room.title for room in rooms.values())
    width = float(svg.get("viewBox").split()[2])
    boxes = [box for box in svg.iter(SVG + "rect") if (box.get("class") or "").startswith("room")]
    assert len(boxes) == len(rooms)
    for box in boxes:
        left = float(box.get("x"))
        assert left >= 0 and left + float(box.get("width")) <= width


def test_imports_of_a_small_project_are_read(tmp_path):
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    for package in PACKAGES:
        write(f"{package}/__init__.py", '"""A package."""\n')
    write("an8flower/__init__.py", "if TYPE_CHECKING:\n    from an8flower.data.set import An8Flower\n")
    write("an8flower/data/__init__.py", '"""The data,\nin two lines.\n\nMore.\n"""')
    write("an8flower/data/set.py", "import numpy as np\n")
    write("explainers/cam.py", "def late():\n    import an8flower.data.set\n")
    write("benchmark/plan.py", "from an8flower import An8Flower\nfrom explainers import cam as other\n")
    write("benchmark/__main__.py", "from benchmark.plan import run\n")
    rooms = read_rooms(tmp_path)
    assert list(rooms) == ["an8flower.data", "benchmark.plan", "explainers.cam"]
    assert rooms["an8flower.data"] == Room("an8flower.data", ("set",), "The data, in two lines.", frozenset())
    assert rooms["explainers.cam"].imports == {"an8flower.data"}
    assert rooms["benchmark.plan"].imports == {"an8flower.data", "explainers.cam"}
    assert "| `benchmark.plan`" not in table(rooms) and "benchmark.plan" in table(rooms)
    assert "imports an8flower.data alone" in diagram(rooms)


def test_shortcuts_are_left_out_and_circles_are_refused():
    graph = {"a": frozenset("bcd"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset()}
    assert without_shortcuts(graph) == {
        "a": frozenset("b"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset(),
    }  # fmt: skip
    with pytest.raises(CycleError):
        without_shortcuts({"a": frozenset("b"), "b": frozenset("a")})


@pytest.mark.parametrize("seed", range(5))
def test_arrows_of_a_layout_point_downwards_and_boxes_do_not_overlap(seed):
    rng = random.Random(seed)
    names = [f"n{k:02}" for k in range(14)]
    graph = {
        name: frozenset(other for other in names[k + 1 :] if rng.random() < 0.25)
        for k, name in enumerate(names)
    }
    sizes = {name: (float(rng.randint(40, 120)), 30.0) for name in names}
    plan = layout(without_shortcuts(graph), sizes, 2000)
    for (start, end), route in plan.routes.items():
        assert plan.boxes[start][1] + sizes[start][1] < plan.boxes[end][1]
        assert all(y <= below for (_, y), (_, below) in pairwise(route))
    spots = [(*plan.boxes[name], *sizes[name]) for name in names]
    for k, (x, y, width, height) in enumerate(spots):
        assert 0 <= x <= 2000 - width and 0 <= y <= plan.height - height
        for right, below, other_width, other_height in spots[k + 1 :]:
            apart = x + width <= right or right + other_width <= x
            assert apart or y + height <= below or below + other_height <= y
    assert layout(without_shortcuts(graph), sizes, 2000) == plan
