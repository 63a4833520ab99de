"""Layout of a directed graph in layers, from top to bottom (Sugiyama, Tagawa and Toda 1981)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise

Graph = Mapping[str, frozenset[str]]  # every node with the nodes that its arrows point to
Point = tuple[float, float]

GAP_X, GAP_Y = 22.0, 36.0  # between boxes of a layer, between layers
LANE = 14.0  # width of an arrow that passes a layer
SWEEPS = 24
STRAIGHT = 4.0  # how much a lane wants to be straight, compared with a short arrow


@dataclass(frozen=True)
class Layout:
    """Where boxes and arrows lie; x to the right, y downwards.

    Args:
        boxes: the left upper corner of each node's box.
        routes: for each arrow the points that it passes, from its start to its end.
        width, height: of the whole drawing.
    """

    boxes: dict[str, Point]
    routes: dict[tuple[str, str], list[Point]]
    width: float
    height: float


def without_shortcuts(graph: Graph) -> dict[str, frozenset[str]]:
    """Return the transitive reduction: no arrow whose target is also reached over other nodes.

    Raises:
        graphlib.CycleError: if the graph has a cycle.

    >>> graph = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    >>> sorted(without_shortcuts(graph)["a"])
    ['b']
    """
    reached: dict[str, frozenset[str]] = {}
    for node in TopologicalSorter(graph).static_order():
        reached[node] = graph[node].union(*(reached[target] for target in graph[node]))
    return {
        node: frozenset(t for t in targets if not any(t in reached[other] for other in targets))
        for node, targets in graph.items()
    }


def layout(graph: Graph, sizes: Mapping[str, Point], width: float) -> Layout:
    """Place the nodes of a graph without cycles so that all arrows point downwards.

    Equal input gives equal output. Nodes are put into as few layers as possible, then ordered within their
    layers so that few arrows cross.

    Args:
        graph: the nodes and arrows.
        sizes: width and height of each node's box.
        width: of the drawing; boxes stay between 0 and this if a layer is not wider.
    """
    ranks = _ranks(graph)
    grid = _Grid(graph, ranks)
    grid.order()
    widths = {node: sizes[node][0] if node in sizes else LANE for node in grid.above}
    x = grid.spread(widths, width)
    tops, bottoms, y = {}, {}, 0.0
    for rank in range(len(grid.layers) - 1, -1, -1):
        height = max(sizes[node][1] for node in grid.layers[rank] if node in sizes)
        tops[rank], bottoms[rank] = y, y + height
        y += height + GAP_Y
    boxes = {
        node: (x[node] - sizes[node][0] / 2, (tops[rank] + bottoms[rank] - sizes[node][1]) / 2)
        for node, rank in ranks.items()
    }
    routes = {}
    for (start, end), chain in grid.chains.items():
        points = [(grid.port(start, chain[1], x, sizes), boxes[start][1] + sizes[start][1])]
        if boxes[start][1] + sizes[start][1] < bottoms[ranks[start]]:
            points.append((points[0][0], bottoms[ranks[start]]))
        for rank, lane in zip(range(ranks[start] - 1, ranks[end], -1), chain[1:-1], strict=True):
            points += [(x[lane], tops[rank]), (x[lane], bottoms[rank])]
        last = grid.port(end, chain[-2], x, sizes)
        points += [(last, tops[ranks[end]])] if boxes[end][1] > tops[ranks[end]] else []
        points.append((last, boxes[end][1]))
        routes[start, end] = points
    return Layout(boxes, routes, width, y - GAP_Y)


def _ranks(graph: Graph) -> dict[str, int]:
    """The layer of each node, 0 at the bottom; nodes then move to where their arrows are shortest."""
    ranks: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        ranks[node] = 1 + max((ranks[target] for target in graph[node]), default=-1)
    users = {node: [user for user in graph if node in graph[user]] for node in graph}
    for _ in graph:
        for node in sorted(graph):
            if len(users[node]) > len(graph[node]):
                ranks[node] = min(ranks[user] for user in users[node]) - 1
    return ranks


@dataclass
class _Grid:
    """The nodes of each layer from left to right, with lanes for the arrows that pass a layer.

    Arrows to the same node share their lane, so that they merge on their way.
    """

    graph: Graph
    ranks: dict[str, int]
    layers: list[list[str]] = field(default_factory=list)
    chains: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    above: dict[str, list[str]] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = [[] for _ in range(1 + max(self.ranks.values()))]
        for node in sorted(self.graph):
            self._add(node, self.ranks[node])
        for start in sorted(self.graph):
            for end in sorted(self.graph[start]):
                passed = range(self.ranks[start] - 1, self.ranks[end], -1)
                lanes = [f"to {end} at {rank}" for rank in passed]
                for rank, lane in zip(passed, lanes, strict=True):
                    if lane not in self.above:
                        self._add(lane, rank)
                self.chains[start, end] = [start, *lanes, end]
                for upper, lower in pairwise(self.chains[start, end]):
                    if lower not in self.below[upper]:
                        self.below[upper].append(lower)
                        self.above[lower].append(upper)

    def _add(self, node: str, rank: int) -> None:
        self.layers[rank].append(node)
        self.above[node], self.below[node] = [], []

    def order(self) -> None:
        """Sort each layer by the mean place of its neighbours, up and down; keep the best order seen."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(SWEEPS):
            upwards = sweep % 2 == 0
            for rank in range(len(self.layers)) if upwards else reversed(range(len(self.layers))):
                self._sort(rank, self.below if upwards else self.above)
            self._swap()
            if (crossings := self._crossings()) < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _sort(self, rank: int, neighbours: Mapping[str, Sequence[str]]) -> None:
        places = self._places()

        def mean(node: str) -> float:
            near = [places[other] for other in neighbours[node]]
            return sum(near) / len(near) if near else places[node]

        self.layers[rank].sort(key=mean)

    def _swap(self) -> None:
        """Exchange neighbours in a layer as long as that removes crossings."""
        crossings, improved = self._crossings(), True
        while improved:
            improved = False
            for layer in self.layers:
                for k in range(len(layer) - 1):
                    layer[k], layer[k + 1] = layer[k + 1], layer[k]
                    if (now := self._crossings()) < crossings:
                        crossings, improved = now, True
                    else:
                        layer[k], layer[k + 1] = layer[k + 1], layer[k]

    def _places(self) -> dict[str, float]:
        return {node: (k + 0.5) / len(layer) for layer in self.layers for k, node in enumerate(layer)}

    def _crossings(self) -> int:
        count, places = 0, self._places()
        for layer in self.layers:
            ends = [(places[node], places[other]) for node in layer for other in self.below[node]]
            count += sum(a < c and b > d for a, b in ends for c, d in ends)
        return count

    def spread(self, widths: Mapping[str, float], width: float) -> dict[str, float]:
        """The middle of each node: near its neighbours' middles, without overlaps."""
        x = {node: width * place for node, place in self._places().items()}
        for _ in range(SWEEPS):
            for layer in [*self.layers, *reversed(self.layers)]:
                wanted = [self._wanted(node, x) for node in layer]
                weights = [STRAIGHT if node not in self.graph else 1.0 for node in layer]
                free = _apart(wanted, weights, [widths[node] for node in layer], width)
                x.update(zip(layer, free, strict=True))
        left = min(place - widths[node] / 2 for node, place in x.items())
        right = max(place + widths[node] / 2 for node, place in x.items())
        return {node: place + (width - left - right) / 2 for node, place in x.items()}

    def _wanted(self, node: str, x: Mapping[str, float]) -> float:
        """The mean of the neighbours' middles; a lane follows its own arrow, to be straight."""
        near = [*self.above[node], *self.below[node]]
        if not near:
            return x[node]
        lane = node not in self.graph
        weights = [STRAIGHT if lane and other not in self.graph else 1.0 for other in near]
        return sum(weight * x[other] for weight, other in zip(weights, near, strict=True)) / sum(weights)

    def port(self, node: str, neighbour: str, x: Mapping[str, float], sizes: Mapping[str, Point]) -> float:
        """Where an arrow leaves or enters a box, so that several arrows do not meet in one point."""
        side = self.below[node] if neighbour in self.below[node] else self.above[node]
        ordered = sorted(side, key=lambda other: x[other])
        step = min(22.0, (sizes[node][0] - 20) / len(ordered))
        return x[node] + (ordered.index(neighbour) - (len(ordered) - 1) / 2) * step


def _apart(
    wanted: Sequence[float], weights: Sequence[float], widths: Sequence[float], width: float
) -> list[float]:
    """Return the places nearest to the wanted ones (least squares) where boxes keep their order and gaps.

    With the space that the boxes to the left need subtracted, this is isotonic regression, which pooling
    adjacent violators solves.
    """
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + GAP_X)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of members
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append((place - offset, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, v, m), (second, w, n) = pools[-2:]
            pools[-2:] = [((first * v + second * w) / (v + w), v + w, m + n)]
    lowest, highest = widths[0] / 2, width - widths[-1] / 2 - offsets[-1]
    free = [
        min(max(mean, lowest), max(highest, lowest)) for mean, _, members in pools for _ in range(members)
    ]
    return [place + offset for place, offset in zip(free, offsets, strict=True)]
