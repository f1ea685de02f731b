"""Root systems as RSML, the format of the root system markup language.

Lobet et al., "Root System Markup Language: toward a unified root architecture description language", Plant
Physiology 167, 2015. A root holds a polyline, or the points of a spline of RootNav, and its laterals.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.untrusted import read_xml
from anatozoo.io.writers import write_bytes
from anatozoo.roots.system import Points, Root, RootSystem
from anatozoo.text import printable
from anatozoo.version import __version__

LINES = ("polyline", "rootnavspline")
"""Geometries, the first that a root has counts. The points of a spline are on its line."""
_DEEPEST = 64  # each order of laterals takes a level, and its points three
_SIDE = 1e7


def read_rsml(path: Path) -> list[RootSystem]:
    """The root systems of a file, a plant each, in the file's unit.

    The main root is the plant's first one; other roots without a parent begin at the seed too, and count as
    laterals. Plants that have no root yet are left out.

    Raises:
        DataError: it cannot be read, is of another schema, holds no plant with a root, or a root has no line.
    """
    root = read_xml(path, deepest=_DEEPEST)
    if root.tag != "rsml":
        raise DataError(f"{path} is no RSML: its first element is {root.tag!r}.")
    plants = list(root.iter("plant"))
    if not plants:
        raise DataError(f"{path} holds no plant.")
    systems = []
    for number, plant in enumerate(plants, start=1):
        roots = tuple(_roots(plant, None, f"{path}: plant {plant.get('ID') or number}", []))
        if roots:
            name = plant.get("label") or plant.get("ID") or str(number)
            systems.append(RootSystem(roots, name=name))
    if not systems:
        raise DataError(f"{path}: no plant has a root.")
    return systems


def write_rsml(path: Path, systems: Sequence[RootSystem], *, pixel_mm: float | None = None) -> Path:
    """Write root systems, a plant each, as polylines.

    Args:
        path: of the file, which is replaced when the new one is whole.
        systems: in pixels.
        pixel_mm: side of a pixel; with it the file is in millimetres.

    Raises:
        OutputError: the file cannot be written.
    """
    top = ElementTree.Element("rsml")
    metadata = ElementTree.SubElement(top, "metadata")
    for tag, text in {
        "version": "1",
        "unit": "pixel" if pixel_mm is None else "mm",
        "resolution": "1",
        "software": f"anatozoo {__version__}",
        "file-key": Path(path).stem,
    }.items():
        ElementTree.SubElement(metadata, tag).text = printable(text)
    scene = ElementTree.SubElement(top, "scene")
    for number, system in enumerate(systems, start=1):
        own = system if pixel_mm is None else system.scaled(pixel_mm)
        plant = ElementTree.SubElement(scene, "plant", ID=str(number), label=printable(system.name))
        elements: list[ElementTree.Element] = []
        for place, root in enumerate(own.roots):
            above = plant if root.parent is None else elements[root.parent]
            elements.append(_element(above, f"{number}.{place + 1}", root, "lateral" if place else "main"))
    ElementTree.indent(top)
    return write_bytes(path, ElementTree.tostring(top, "utf-8", xml_declaration=True) + b"\n")


def _element(above: ElementTree.Element, key: str, root: Root, order: str) -> ElementTree.Element:
    element = ElementTree.SubElement(above, "root", ID=key, label=printable(root.name) or order)
    line = ElementTree.SubElement(ElementTree.SubElement(element, "geometry"), "polyline")
    for x, y in root.points:
        ElementTree.SubElement(line, "point", x=f"{x:.3f}", y=f"{y:.3f}")
    return element


def _roots(above: ElementTree.Element, parent: int | None, what: str, found: list[Root]) -> Iterator[Root]:
    for element in above.findall("root"):
        name = element.get("label") or element.get("ID") or ""
        root = Root(_points(element, f"{what}, root {element.get('ID') or name}"), parent, name)
        own = len(found)
        found.append(root)
        yield root
        yield from _roots(element, own, what, found)


def _points(root: ElementTree.Element, what: str) -> Points:
    geometry = root.find("geometry")
    line = None
    if geometry is not None:
        line = next((each for tag in LINES if (each := geometry.find(tag)) is not None), None)
    if line is None:
        raise DataError(f"{what} has no line; known are {' and '.join(LINES)}.")
    try:
        points = np.array([[float(point.get(axis, "")) for axis in "xy"] for point in line.iter("point")])
    except ValueError as error:
        raise DataError(f"{what}: a point has no numbers x and y.") from error
    if len(points) < 2 or not (np.abs(points) < _SIDE).all():
        raise DataError(f"{what} has {len(points)} points; two or more are needed, below {_SIDE:g}.")
    moved = np.concatenate([[True], (np.diff(points, axis=0) != 0).any(1)])
    if moved.sum() < 2:
        raise DataError(f"{what} has no length.")
    return points[moved]
