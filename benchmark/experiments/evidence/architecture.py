"""The diagram and the table of rooms in docs/architecture.md, made from the imports in the code.

Run

    python -m benchmark.experiments.evidence.architecture

A room is a subpackage, or a module that lies directly in one of the three packages.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import Console

from an8flower.ground import files
from benchmark.experiments.evidence.layered import Layout, Point, layout, without_shortcuts

PACKAGES = ("benchmark", "explainers", "an8flower")  # from the top; imports point downwards
REPOSITORY = Path(__file__).resolve().parents[3]
PICTURE, PAGE = Path("docs/pictures/architecture.svg"), Path("docs/architecture.md")
BEGIN, END = "<!-- rooms: written by make architecture -->", "<!-- end of rooms -->"


@dataclass(frozen=True)
class Room:
    """A subpackage or a module that lies directly in a package.

    Args:
        name: such as "benchmark.board".
        modules: inside it, without `__init__`; none for a module.
        purpose: the first sentence of its docstring.
        imports: the names of the other rooms that it imports.
    """

    name: str
    modules: tuple[str, ...]
    purpose: str
    imports: frozenset[str]

    @property
    def package(self) -> str:
        """The package that it is in."""
        return self.name.partition(".")[0]

    @property
    def title(self) -> str:
        """Its name inside the package."""
        return self.name.partition(".")[2]


def read_rooms(repository: Path = REPOSITORY) -> dict[str, Room]:
    """Return the rooms of the three packages by name, read from the source files alone."""
    code = _Code(repository)
    rooms: dict[str, Room] = {}
    for name in sorted({_room_of(module) for module in code.trees} - set(PACKAGES)):
        inside = [module for module in code.trees if module == name or module.startswith(f"{name}.")]
        found = {_room_of(module) for one in inside for module in code.imports(one)}
        words = (ast.get_docstring(code.trees[name]) or "").partition("\n\n")[0]
        children = sorted({module.split(".")[2] for module in inside if module != name})
        imports = frozenset(found - {name, *PACKAGES})
        rooms[name] = Room(name, tuple(children), " ".join(words.split()), imports)
    return rooms


def diagram(rooms: Mapping[str, Room]) -> str:
    """Return the SVG: one band per package, one box per room, one arrow per import.

    An arrow is left out if another way of arrows leads to the same room. Arrows between packages are shown as
    dots on the imported room.
    """
    parts: list[str] = []
    y = 62.0
    for package in PACKAGES:
        band = {name: room for name, room in rooms.items() if room.package == package}
        inner = without_shortcuts({name: room.imports & band.keys() for name, room in band.items()})
        for letters in LETTERS:
            sizes = {name: _size(room, letters) for name, room in band.items()}
            plan = layout(inner, sizes, WIDTH - 2 * MARGIN - 2 * INSET)
            if all(0 <= x <= plan.width - sizes[name][0] for name, (x, _) in plan.boxes.items()):
                break
        height = plan.height + 70
        parts.append(
            f'<rect x="{MARGIN}" y="{y:g}" width="{WIDTH - 2 * MARGIN}" height="{height:.1f}" rx="14" '
            f'class="band {package}"/>'
            f'<text x="{MARGIN + INSET}" y="{y + 32:g}" class="package {package}">{package}</text>'
            f'<text x="{WIDTH - MARGIN - INSET:g}" y="{y + 31:g}" class="legend note">'
            f"{_below(band, rooms)}</text>"
        )
        origin = (MARGIN + INSET, y + 52)
        parts += _arrows(plan, origin, package)
        for name, room in band.items():
            users = [
                (above, sum(name in user.imports for user in rooms.values() if user.package == above))
                for above in PACKAGES[: PACKAGES.index(package)]
            ]
            parts.append(_box(room, letters, plan.boxes[name], sizes[name], origin, dict(users)))
        y += height + 18
    return _page("\n".join(parts), y + 4, len(rooms), sum(len(room.imports) for room in rooms.values()))


def table(rooms: Mapping[str, Room]) -> str:
    """Return the Markdown table of the rooms with what each is for."""
    lines = ["| room | what it is | modules |", "|---|---|---|"]
    for package in PACKAGES:
        lines += [
            f"| [{room.name}]({_path(room)}) | {room.purpose} | {', '.join(room.modules)} |"
            for room in rooms.values()
            if room.package == package
        ]
    return "\n".join(lines)


def _path(room: Room) -> str:
    return f"../{room.name.replace('.', '/')}{'' if room.modules else '.py'}"


def with_table(page: str, rooms: Mapping[str, Room]) -> str:
    """Return the page with its table of rooms renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(rooms)}\n\n{END}{after}"


def main(repository: Path = REPOSITORY) -> None:
    """Write the diagram and the table."""
    rooms = read_rooms(repository)
    files.write(repository / PICTURE, diagram(rooms).encode())
    page = repository / PAGE
    files.write(page, with_table(page.read_text(), rooms).encode())
    imports = sum(len(room.imports) for room in rooms.values())
    Console().print(f"{len(rooms)} rooms, {imports} imports between them: {PICTURE}, {PAGE}", soft_wrap=True)


class _Code:
    """The syntax trees of the three packages by module."""

    def __init__(self, repository: Path) -> None:
        self.trees: dict[str, ast.Module] = {}
        for package in PACKAGES:
            for file in sorted((repository / package).rglob("*.py")):
                parts = file.relative_to(repository).with_suffix("").parts
                if parts[-1] != "__main__":
                    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                    self.trees[name] = ast.parse(file.read_text())
        # What `from benchmark import evaluate` means: the package's own file names the module.
        self.homes = {
            f"{package}.{alias.asname or alias.name}": f"{node.module}.{alias.name}"
            for package in PACKAGES
            for node in ast.walk(self.trees[package])
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def imports(self, module: str) -> Iterator[str]:
        """The modules of ours that one imports anywhere, also inside functions."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                wanted = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                wanted = [f"{node.value.id}.{node.attr}"]  # explainers.names()
                wanted = [name for name in wanted if name in self.homes]
            else:
                continue
            for name in wanted:
                if name.partition(".")[0] in PACKAGES:
                    yield self._module(self.homes.get(name, name))

    def _module(self, name: str) -> str:
        while name not in self.trees:
            name = name.rpartition(".")[0]
        return name


def _room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


WIDTH, MARGIN, INSET = 1000.0, 12.0, 20.0
TITLE_PX, LIST_PX, LINE_PX = 16.0, 13.0, 16.0
LETTERS = (40, 36, 32, 28, 24, 20)  # of a line in a box: the first that lets all boxes of a band fit


def _below(band: Mapping[str, Room], rooms: Mapping[str, Room]) -> str:
    """Which rooms of the other packages a package imports."""
    outside = {name for room in band.values() for name in room.imports} - band.keys()
    texts = []
    for package in PACKAGES:
        of_it = sorted(name for name in outside if rooms[name].package == package)
        if of_it:
            texts.append(of_it[0] + " alone" if len(of_it) == 1 else f"{len(of_it)} rooms of {package}")
    return f"imports {' and '.join(texts) or 'no other package'}"


def _wrapped(room: Room, letters: int) -> list[str]:
    """The names of a room's modules in as few lines as possible, of about equal length."""

    def lines(letters: int) -> list[str]:
        return textwrap.wrap(" ".join(room.modules), letters, break_long_words=False, break_on_hyphens=False)

    longest = max(map(len, room.modules), default=1)
    while letters > longest and len(lines(letters - 1)) == len(lines(letters)):
        letters -= 1
    return lines(letters)


def _size(room: Room, letters: int) -> Point:
    lines = _wrapped(room, letters)
    longest = max([len(room.title) * TITLE_PX * 0.64, *(len(line) * LIST_PX * 0.57 for line in lines)])
    return round(longest + 26), 32 + (len(lines) * LINE_PX + 5 if lines else 0)


def _box(
    room: Room, letters: int, corner: Point, size: Point, origin: Point, users: Mapping[str, int]
) -> str:
    x, y = corner[0] + origin[0], corner[1] + origin[1]
    parts = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size[0]:g}" height="{size[1]:g}" rx="6" '
        f'class="room {room.package}"/>',
        f'<text x="{x + size[0] / 2:.1f}" y="{y + 21:.1f}" class="title">{escape(room.title)}</text>',
    ]
    middle = x + size[0] / 2
    parts += [
        f'<text x="{middle:.1f}" y="{y + 40 + k * LINE_PX:.1f}" class="modules">{escape(line)}</text>'
        for k, line in enumerate(_wrapped(room, letters))
    ]
    dots = [package for package, count in users.items() if count]
    parts += [
        f'<circle cx="{x + size[0] - 4 - 13 * k:.1f}" cy="{y + 1:.1f}" r="5.5" class="dot {package}"/>'
        for k, package in enumerate(reversed(dots))
    ]
    return "".join(parts)


def _arrows(plan: Layout, origin: Point, package: str) -> list[str]:
    parts = []
    for route in plan.routes.values():
        points = [(x + origin[0], y + origin[1]) for x, y in route]
        path, (x, y) = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"], points[0]
        for k, (right, down) in enumerate(points[1:], 1):
            stop = down - 5 if k == len(points) - 1 else down  # the head covers the rest
            middle = (y + stop) / 2
            same = abs(right - x) < 0.05
            path.append(
                f"L{right:.1f} {stop:.1f}"
                if same
                else f"C{x:.1f} {middle:.1f} {right:.1f} {middle:.1f} {right:.1f} {stop:.1f}"
            )
            x, y = right, down
        parts.append(f'<path d="{" ".join(path)}" class="arrow {package}" marker-end="url(#{package})"/>')
    return parts


_COLOURS = {"benchmark": "#8a4b08", "explainers": "#0b6e4f", "an8flower": "#1f4e9e"}
_LINES = {"benchmark": "#c28a4c", "explainers": "#4fa685", "an8flower": "#6c92d0"}
_TINTS = {"benchmark": "#fdf6ec", "explainers": "#eef8f3", "an8flower": "#eef3fb"}


def _page(body: str, height: float, rooms: int, imports: int) -> str:
    style = [
        "text{font-family:'DejaVu Sans',Verdana,Helvetica,Arial,sans-serif;fill:#1c2430}",
        f".title{{font-size:{TITLE_PX:g}px;font-weight:bold;text-anchor:middle}}",
        f".modules{{font-size:{LIST_PX:g}px;fill:#4a5568;text-anchor:middle}}",
        ".legend{font-size:13px;fill:#4a5568}.note{text-anchor:end}.package{font-size:21px;font-weight:bold}",
        ".arrow{fill:none;stroke-width:1.4}.room{fill:#fff;stroke-width:1.3}",
        ".dot{stroke:#fff;stroke-width:1.2}",
    ]
    for package, colour in _COLOURS.items():
        style += [
            f".band.{package}{{fill:{_TINTS[package]}}}.package.{package},.dot.{package}{{fill:{colour}}}",
            f".room.{package}{{stroke:{colour}}}.arrow.{package}{{stroke:{_LINES[package]}}}",
        ]
    heads = [
        f'<marker id="{package}" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{_LINES[package]}"/></marker>'
        for package in PACKAGES
    ]
    label = f"The three packages: {rooms} rooms with {imports} imports between them"
    style_text, heads_text = "\n".join(style), "".join(heads)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:.0f}" role="img" '
        f'aria-label="{label}">\n<style>\n{style_text}\n</style>\n<defs>{heads_text}</defs>\n'
        f'<rect width="{WIDTH:g}" height="{height:.0f}" rx="16" fill="#fff"/>\n'
        f'<text x="{MARGIN + INSET:g}" y="26" class="legend">An arrow points from a room to a room that it '
        "imports; imports that follow from other arrows are not drawn.</text>\n"
        f'<circle cx="{MARGIN + INSET + 5:g}" cy="42" r="5.5" class="dot benchmark"/>'
        f'<text x="{MARGIN + INSET + 16:g}" y="46.5" class="legend">also imported by benchmark</text>'
        f'<circle cx="{MARGIN + INSET + 225:g}" cy="42" r="5.5" class="dot explainers"/>'
        f'<text x="{MARGIN + INSET + 236:g}" y="46.5" class="legend">also imported by explainers</text>\n'
        f"{body}\n</svg>\n"
    )


if __name__ == "__main__":
    main()
