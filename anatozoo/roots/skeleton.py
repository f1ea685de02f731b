"""From a mask to a root system: skeleton, pruned graph, main root and laterals.

The steps follow ChronoRoot (Gaggion et al., GigaScience 10, 2021): the part of the mask at the seed, its
skeleton, burrs pruned, vertices near one another merged, the main root from the seed to the lowest tip, and
all else lateral. Roots that cross are told apart by their directions, which the paper leaves open.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import cv2
import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anatozoo.errors import ConfigError, DataError
from anatozoo.roots.system import Points, Root, RootSystem, length_of

Mask = npt.NDArray[np.bool_]
NEAR_PX = 30.0
"""How far from the seed a part of the mask may be."""
SMALLEST_PX = 30
"""Parts of fewer pixels are noise."""
BURR_PX = 5.0
"""Ends of the skeleton that are shorter, or no longer than the root is thick, are burrs."""
MERGE_PX = 3.0
MOST_SHARE = 0.2
"""A part that covers more of the picture is hardly roots: a photograph in place of a mask, or its inverse."""
STRAIGHT_DEG = 40.0
"""Two roots cross where both go on with no sharper turn."""
TIP_PX = 20.0
"""How far the main tip may be from that of the frame before."""
_LOOK_PX = 12  # over so much of an edge its direction is measured
_SMOOTH_PX = 3.0


def trace(
    mask: npt.ArrayLike,
    seed: Sequence[float],
    *,
    tip: Sequence[float] | None = None,
    name: str = "",
) -> RootSystem:
    """The root system of a mask.

    Args:
        mask: (H, W), nonzero where there is root.
        seed: x and y of the seed in pixels; what is above it is no root.
        tip: x and y of the main tip of an earlier frame; the main root ends at the lowest tip within
            20 px of it. None takes the lowest of all.
        name: of the plant.

    Raises:
        ConfigError: the seed is outside the mask.
        DataError: the mask is no plane, or no root is near the seed.
    """
    part, moved = part_at(np.asarray(mask), seed)
    graph, start = graph_of(part, seed)
    tips = [node for node in graph if graph.degree(node) == 1 and node != start]
    if sum(edge["length"] for *_, edge in graph.edges(data=True)) < BURR_PX or not tips:
        raise DataError(f"no root longer than {BURR_PX:g} px begins at the seed {tuple(seed)}.")
    flags = ["seed_moved"] if moved else []
    at = {node: graph.nodes[node]["at"] for node in graph}
    last = max(tips, key=lambda node: (at[node][1], -node))
    if tip is not None:
        near = [node for node in tips if np.linalg.norm(at[node] - np.asarray(tip, float)) <= TIP_PX]
        # The lowest of them: where a lateral begins beside the tip, one of both is a burr for some frames.
        last = max(near or tips, key=lambda node: (at[node][1], -node))
        flags += [] if near else ["tip_lost"]
    if graph.number_of_edges() > graph.number_of_nodes() - 1:
        flags.append("loop")
    if part.mean() > MOST_SHARE:
        flags.append("fills_picture")
    thick = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    if any(_at_border(part, thick, at[node]) for node in tips):
        flags.append("leaves_picture")
    return RootSystem(tuple(_roots(graph, start, last)), tuple(flags), name)


def _at_border(part: Mask, thick: npt.NDArray[Any], tip: Points) -> bool:
    """Whether a root ends at a side or the lower border of the picture; its skeleton stops before it does."""
    x, y = (round(float(value)) for value in tip)
    reach = 2 + int(thick[y, x])
    rows = slice(max(0, y - reach), y + reach + 1)
    columns = slice(max(0, x - reach), x + reach + 1)
    height, width = part.shape
    met = [
        (y + reach >= height - 1, part[-1, columns]),
        (x - reach <= 0, part[rows, 0]),
        (x + reach >= width - 1, part[rows, -1]),
    ]
    return any(near and border.any() for near, border in met)


def part_at(mask: npt.NDArray[Any], seed: Sequence[float]) -> tuple[Mask, bool]:
    """The part of a mask at the seed, below it, and whether the seed is beside it.

    Raises:
        ConfigError: the seed is outside the mask.
        DataError: the mask is no plane, or no part is near the seed.
    """
    if mask.ndim != 2:
        raise DataError(f"a mask of roots has two dimensions, not the shape {mask.shape}.")
    x, y = (float(value) for value in seed)
    if not (0 <= x <= mask.shape[1] - 1 and 0 <= y <= mask.shape[0] - 1):
        raise ConfigError(f"the seed {(x, y)} is outside the picture of {mask.shape[1]} x {mask.shape[0]}.")
    below = (mask != 0).astype(np.uint8)
    below[: max(0, round(y))] = 0
    closed = cv2.morphologyEx(below, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = [part for part in range(1, count) if stats[part, cv2.CC_STAT_AREA] >= SMALLEST_PX]
    rows, columns = np.nonzero(np.isin(labels, large))
    away = np.hypot(columns - x, rows - y)
    if not len(away) or away.min() > NEAR_PX:
        raise DataError(f"no root is within {NEAR_PX:g} px of the seed {(x, y)}.")
    nearest = int(away.argmin())
    part = labels == labels[rows[nearest], columns[nearest]]
    return part, bool(away.min() > MERGE_PX)


def graph_of(part: Mask, seed: Sequence[float]) -> tuple[Any, int]:
    """The graph of a mask of one part, and the vertex at the seed.

    Vertices are ends and branches of the skeleton, with ``at`` (x, y); edges have the ``path`` (N, 2) from
    the vertex of the lower number to the other, and its ``length``.

    Raises:
        DataError: the mask is empty.
    """
    from skimage.morphology import skeletonize

    # A border of nothing, so that what touches the picture's edge has neighbours everywhere.
    skeleton = np.pad(skeletonize(part), 1)
    if not skeleton.any():
        raise DataError("the mask of the roots is empty.")
    thick = np.pad(ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1], 1)
    graph, start = _vertices(skeleton, np.asarray(seed, float))
    while _merge(graph, start) or _prune(graph, start, thick) or _dissolve(graph, start):
        pass
    _uncross(graph, start, thick)
    while _dissolve(graph, start):
        pass
    for node in graph:
        if graph.degree(node) == 1 and node != start:
            _lengthen(graph, node, part, thick)
    _begin_at(graph, start, np.asarray(seed, float), part)
    for _, _, edge in graph.edges(data=True):
        edge["length"] = length_of(_smooth(edge["path"]))
    return graph, start


def _vertices(skeleton: Mask, seed: Points) -> tuple[Any, int]:
    """The graph of a skeleton with a border of one pixel; coordinates are without the border."""
    pixels = {(y, x) for y, x in np.argwhere(skeleton).tolist()}

    def near(place: tuple[int, int]) -> list[tuple[int, int]]:
        y, x = place
        straight = [p for p in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)) if p in pixels]
        slant = [
            p
            for p in ((y - 1, x - 1), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x + 1))
            # Two steps around a corner are one way, not a triangle.
            if p in pixels and (p[0], x) not in pixels and (y, p[1]) not in pixels
        ]
        return straight + slant

    neighbours = {place: near(place) for place in sorted(pixels)}
    begin = min(neighbours, key=lambda place: np.hypot(place[1] - 1 - seed[0], place[0] - 1 - seed[1]))
    numbers = {place: number for number, place in enumerate(neighbours)}
    graph = nx.MultiGraph()
    ends = [place for place, around in neighbours.items() if len(around) != 2 or place == begin]
    for place in ends:
        graph.add_node(numbers[place], at=np.array([place[1] - 1.0, place[0] - 1.0]))
    isend, done = set(ends), set()
    for place in ends:
        for step in neighbours[place]:
            if (place, step) in done:
                continue
            path, before, now = [place, step], place, step
            while now not in isend:
                before, now = now, next(p for p in neighbours[now] if p != before)
                path.append(now)
            done |= {(place, step), (now, before)}
            line = np.array([(x - 1.0, y - 1.0) for y, x in path])
            _join(graph, numbers[place], numbers[now], line)
    return graph, numbers[begin]


def _join(graph: Any, a: int, b: int, path: Points) -> None:
    """Add an edge whose path leads from a to b."""
    graph.add_edge(a, b, path=path if a <= b else path[::-1], length=length_of(path))


def _from(node: int, a: int, b: int, path: Points) -> Points:
    """The path of an edge, beginning at one of its ends."""
    return path if node == min(a, b) else path[::-1]


def _merge(graph: Any, start: int) -> bool:
    """Merge the ends of one edge between branches that is shorter than `MERGE_PX`."""
    for a, b, key, edge in sorted(graph.edges(keys=True, data=True), key=lambda each: each[:3]):
        if a == b:
            if edge["length"] < 2 * BURR_PX:
                graph.remove_edge(a, b, key)
                return True
            continue
        # The seed's vertex may be an end; others are pruned.
        inner = all(graph.degree(node) > 2 or node == start for node in (a, b))
        if edge["length"] < MERGE_PX and inner:
            _contract(graph, *((b, a) if b == start else (a, b)))
            return True
    return False


def _contract(graph: Any, kept: int, gone: int) -> None:
    """Let one vertex take the edges of another, which are led on to it."""
    at = graph.nodes[kept]["at"]
    for a, b, edge in list(graph.edges(gone, data=True)):
        other = b if a == gone else a
        if other == kept:
            continue
        if other == gone:
            _join(graph, kept, kept, np.concatenate([[at], edge["path"], [at]]))
        else:
            _join(graph, kept, other, np.concatenate([[at], _from(gone, gone, other, edge["path"])]))
    graph.remove_node(gone)


def _prune(graph: Any, start: int, thick: npt.NDArray[np.float64]) -> bool:
    """Remove the shortest burr."""
    burrs = []
    for node in graph:
        if graph.degree(node) != 1 or node == start:
            continue
        ((_, other, edge),) = graph.edges(node, data=True)
        x, y = graph.nodes[other]["at"].round().astype(int)
        if graph.degree(other) > (1 if other == start else 2) and edge["length"] <= max(
            BURR_PX, 2 * thick[y + 1, x + 1] + 1
        ):
            burrs.append((edge["length"], node))
    if burrs:
        graph.remove_node(min(burrs)[1])
    return bool(burrs)


def _lengthen(graph: Any, node: int, part: Mask, thick: npt.NDArray[np.float64]) -> None:
    """Lead a tip on to where a round end has its middle; a skeleton ends before."""
    ((_, other, key),) = graph.edges(node, keys=True)
    edge = graph.edges[node, other, key]
    path = _from(node, node, other, edge["path"])
    tip, back = path[0], path[min(_LOOK_PX, len(path) - 1)]
    way = (tip - back) / max(float(np.linalg.norm(tip - back)), 1e-9)
    x, y = back.round().astype(int)
    radius, reach = thick[y + 1, x + 1], 0
    while reach < 3 * radius + 1:
        x, y = (tip + (reach + 1) * way).round().astype(int)
        if not (0 <= y < part.shape[0] and 0 <= x < part.shape[1] and part[y, x]):
            break
        reach += 1
    if reach > radius:
        longer = np.concatenate([[tip + (reach - radius) * way], path])
        edge["path"] = longer if node <= other else longer[::-1]
        graph.nodes[node]["at"] = longer[0]


def _begin_at(graph: Any, start: int, seed: Points, part: Mask) -> None:
    """Lead the roots of the first vertex back to the seed, if that is on the mask."""
    x, y = seed.round().astype(int)
    if not part[y, x] or np.linalg.norm(graph.nodes[start]["at"] - seed) < 1e-9:
        return
    graph.nodes[start]["at"] = seed
    for _, other, edge in list(graph.edges(start, data=True)):
        if other != start:
            longer = np.concatenate([[seed], _from(start, start, other, edge["path"])])
            edge["path"] = longer if start <= other else longer[::-1]


def _dissolve(graph: Any, start: int) -> bool:
    """Join the two edges of one vertex that is neither an end nor a branch."""
    for node in sorted(graph):
        if node == start or graph.degree(node) != 2:
            continue
        edges = list(graph.edges(node, data=True))
        if len(edges) != 2:
            continue  # a loop of its own
        (_, first, one), (_, second, two) = edges
        path = np.concatenate(
            [_from(node, node, first, one["path"])[::-1], _from(node, node, second, two["path"])[1:]]
        )
        graph.remove_node(node)
        _join(graph, first, second, path)
        return True
    return False


def _uncross(graph: Any, start: int, thick: npt.NDArray[np.float64]) -> None:
    """Part the vertices where two roots cross, if all stay reachable from the seed."""
    for a, b, _, edge in sorted(graph.edges(keys=True, data=True), key=lambda each: each[:3]):
        # A crossing at a sharp angle has two vertices of three edges, with a common stretch between.
        if a == b or start in (a, b) or not (graph.has_node(a) and graph.has_node(b)):
            continue
        x, y = graph.nodes[a]["at"].round().astype(int)
        short = edge["length"] <= max(2 * BURR_PX, 6 * thick[y + 1, x + 1])
        if short and graph.degree(a) == graph.degree(b) == 3 and graph.number_of_edges(a, b) == 1:
            trial = graph.copy()
            _contract(trial, a, b)
            if _part(trial, a, start):
                graph.clear()
                graph.update(trial)
    for node in sorted(graph):
        if node != start and graph.degree(node) == 4:
            _part(graph, node, start)


def _part(graph: Any, node: int, start: int) -> bool:
    """Part one crossing into two roots that pass; whether that was possible."""
    edges = [(b if a == node else a, key) for a, b, key in graph.edges(node, keys=True)]
    if len(edges) != 4 or any(other == node for other, _ in edges):
        return False
    at = graph.nodes[node]["at"]
    ways = [_from(node, node, other, graph.edges[node, other, key]["path"]) for other, key in edges]
    away = [way[min(_LOOK_PX, len(way) - 1)] - at for way in ways]
    away = [way / max(float(np.linalg.norm(way)), 1e-9) for way in away]

    def turn(i: int, j: int) -> float:
        return float(np.degrees(np.arccos(np.clip(-away[i] @ away[j], -1, 1))))

    pairings = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    best = min(pairings, key=lambda pairs: max(turn(*pair) for pair in pairs))
    if max(turn(*pair) for pair in best) > STRAIGHT_DEG:
        return False
    trial = graph.copy()
    trial.remove_node(node)
    for i, j in best:
        (one, _), (two, _) = edges[i], edges[j]
        _join(trial, one, two, np.concatenate([ways[i][::-1], ways[j][1:]]))
    if not nx.is_connected(trial):
        return False
    graph.clear()
    graph.update(trial)
    return True


def _roots(graph: Any, start: int, last: int) -> list[Root]:
    """The main root from the seed to the last vertex, then laterals, the longest first."""
    simple = nx.Graph()
    for a, b, key, edge in graph.edges(keys=True, data=True):
        if a != b and (not simple.has_edge(a, b) or edge["length"] < simple.edges[a, b]["length"]):
            simple.add_edge(a, b, key=key, length=edge["length"])
    before, _ = nx.dijkstra_predecessor_and_distance(simple, start, weight="length")
    owner = {start: 0}
    roots = [_root(graph, simple, _way(before, start, last), None, "main", owner, 0)]
    waiting = [node for node in simple if simple.degree(node) == 1 and node not in owner]
    while waiting:
        ways = {node: _way(before, start, node, owner) for node in waiting}
        lengths = {node: nx.path_weight(simple, way, "length") for node, way in ways.items()}
        tip = max(waiting, key=lambda node: (lengths[node], -node))
        waiting.remove(tip)
        way = ways[tip]
        roots.append(_root(graph, simple, way, owner[way[0]], f"lateral {len(roots)}", owner, len(roots)))
    return roots


def _way(before: Any, start: int, end: int, owner: Any = None) -> list[int]:
    """The shortest way from the seed, or from the first vertex that is owned, to a vertex."""
    way = [end]
    while way[-1] != start and (owner is None or way[-1] not in owner):
        way.append(before[way[-1]][0])
    return way[::-1]


def _root(
    graph: Any, simple: Any, way: list[int], parent: int | None, name: str, owner: dict[int, int], number: int
) -> Root:
    for node in way:
        owner.setdefault(node, number)
    paths = [
        _from(a, a, b, graph.edges[a, b, simple.edges[a, b]["key"]]["path"])
        for a, b in itertools.pairwise(way)
    ]
    line = np.concatenate([paths[0], *(path[1:] for path in paths[1:])])
    return Root(_smooth(line), parent, name)


def _smooth(path: Points) -> Points:
    """A chain of pixels as a line without its steps; the ends stay.

    A chain of unit and diagonal steps is up to 8 % longer than what it draws.
    """
    if len(path) < 5:
        return path
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0, steps[-1], max(len(path), 5))
    line = np.stack([np.interp(even, steps, path[:, axis]) for axis in (0, 1)], -1)
    # Mirrored through the ends, so that they stay and keep their direction.
    reach = min(len(line) - 1, round(4 * _SMOOTH_PX))
    begin, end = 2 * line[0] - line[reach:0:-1], 2 * line[-1] - line[-2 : -reach - 2 : -1]
    longer = np.concatenate([begin, line, end])
    smooth: Points = ndimage.gaussian_filter1d(longer, _SMOOTH_PX, axis=0)[reach : reach + len(line)]
    smooth[0], smooth[-1] = line[0], line[-1]
    return smooth
