"""Meshes in files: our own, without loss, and those of other programs, which trimesh and PyVista write."""

import json
import os
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.errors import AnatozooError, ConfigError, DataError, turned_into
from anatozoo.io.grid import Grid
from anatozoo.io.untrusted import open_regular, read_bytes
from anatozoo.io.writers import atomic_path, write_bytes
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_faces
from anatozoo.meshes.pyramid import Pyramid, Step
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.surface import Faces, Surfaces, Vertices

ENDING = "_mesh.safetensors"
"""What our files of meshes end in."""
SCHEMA_VERSION = 1
PYRAMID_VERSION = 2
"""Since 2, the file holds the triangles of each mesh."""
SURFACES = (".vtp", ".vtk", ".obj", ".ply", ".stl")
"""Files of other programs that are read and written."""
_EXTRA = 'needs PyVista and trimesh: python3 -m pip install "anatozoo[mesh]".'
_FACES = "faces/"


def write_heart(path: str | os.PathLike[str], heart: HeartMesh) -> Path:
    """Write a heart's vertices, triangles, grid and flags as safetensors.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save

    surfaces = heart.surfaces
    arrays = {"vertices": surfaces.vertices, "parts": surfaces.parts}
    arrays |= {_FACES + organ: faces for organ, faces in surfaces.faces.items()}
    about = {
        "schema_version": SCHEMA_VERSION,
        "rings": heart.size.rings,
        "angles": heart.size.angles,
        "septum": heart.septum,
        "flags": list(heart.flags),
        "grid": surfaces.grid.to_dict(),
    }
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_bytes(path, save(whole, metadata={"anatozoo_mesh": json.dumps(about)}))


def read_heart(path: str | os.PathLike[str]) -> HeartMesh:
    """Read what `write_heart` wrote.

    Raises:
        DataError: there is no such file, it is damaged, or it is no mesh of this package.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with open_regular(Path(path), DataError) as file:
        content = file.read()
    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        about: dict[str, Any] = json.loads(
            json.loads(content[8 : 8 + length])["__metadata__"]["anatozoo_mesh"]
        )
        if about["schema_version"] != SCHEMA_VERSION:
            raise DataError(f"{path} is a mesh of another release of anatozoo; build it again.")
        size = SheetSize(int(about["rings"]), int(about["angles"]))
        faces = {name.removeprefix(_FACES): each for name, each in arrays.items() if name.startswith(_FACES)}
        surfaces = Surfaces(
            arrays["vertices"].astype(np.float64),
            {organ: faces[organ].astype(np.int64) for organ in SHEETS},
            arrays["parts"].astype(np.int64),
            Grid(**about["grid"]),
        )
        heart = HeartMesh(surfaces, size, float(about["septum"]), tuple(map(str, about["flags"])))
    except DataError:
        raise
    except (SafetensorError, AnatozooError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no mesh that `anatozoo meshes` wrote, or is damaged: {error}; build it again."
        ) from error
    if len(surfaces.vertices) != len(SHEETS) * size.vertices or not np.isfinite(heart.septum):
        raise DataError(
            f"{path} has {len(surfaces.vertices)} vertices, not {len(SHEETS)} sheets of {size.rings} x "
            f"{size.angles} and a tip; build it again."
        )
    expected = np.repeat(np.arange(len(SHEETS)), size.vertices)
    if not np.array_equal(surfaces.parts, expected) or not all(
        any(np.array_equal(surfaces.faces[organ], each) for each in (whole, whole[:, ::-1]))
        for organ, whole in heart_faces(size).items()
    ):
        raise DataError(f"{path} has other triangles than hearts of its size, or is damaged; build it again.")
    return heart


def write_pyramid(path: str | os.PathLike[str], pyramid: Pyramid) -> Path:
    """Write a pyramid, see `pyramid_bytes`.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_bytes(path, pyramid_bytes(pyramid))


def pyramid_bytes(pyramid: Pyramid) -> bytes:
    """A pyramid as safetensors, for programs that train on the meshes.

    ``faces/k`` are the triangles of mesh k, 0 the finest. Of the step from mesh k to the next,
    ``down/k/rows``, ``columns`` and ``values`` are the entries of a sparse matrix from the finer vertices to
    the coarser ones, ``up/k/...`` of one back; ``shape`` is its size. ``template`` holds the vertices of
    mesh 0, where there is a template.
    """
    from safetensors.numpy import save

    arrays = {f"{_FACES}{k}": np.ascontiguousarray(each) for k, each in enumerate(pyramid.faces)}
    if pyramid.template is not None:
        arrays["template"] = np.ascontiguousarray(pyramid.template)
    for k, step in enumerate(pyramid.steps):
        for name, matrix in (("down", step.down.tocoo()), ("up", step.up.tocoo())):
            arrays[f"{name}/{k}/rows"] = matrix.row.astype(np.int64)
            arrays[f"{name}/{k}/columns"] = matrix.col.astype(np.int64)
            arrays[f"{name}/{k}/values"] = matrix.data.astype(np.float32)
            arrays[f"{name}/{k}/shape"] = np.asarray(matrix.shape, np.int64)
    about = json.dumps({"schema_version": PYRAMID_VERSION})
    content: bytes = save(arrays, metadata={"anatozoo_pyramid": about})
    return content


def read_pyramid(path: str | os.PathLike[str]) -> Pyramid:
    """Read what `write_pyramid` wrote.

    Raises:
        DataError: there is no such file, it is damaged, or it is no pyramid of this package.
    """
    return pyramid_of(read_bytes(Path(path), error=DataError), str(path))


def pyramid_of(content: bytes, path: str) -> Pyramid:
    """The pyramid of the content of a file.

    Raises:
        DataError: it is damaged, or no pyramid of this package.
    """
    import scipy
    from safetensors.numpy import load

    again = "build it by `anatozoo meshes`, of other anatomy with --template"
    with turned_into(
        DataError, lambda why: f"{path} is no pyramid of meshes, or is damaged: {why}; {again}."
    ):
        arrays = load(content)
        if _FACES + "0" not in arrays:
            raise DataError(f"{path} holds no triangles: it is no pyramid of this release; {again}.")

        def matrix(name: str) -> "scipy.sparse.csr_matrix":
            rows, columns, values = (arrays[f"{name}/{part}"] for part in ("rows", "columns", "values"))
            shape = tuple(arrays[f"{name}/shape"].tolist())
            if shape[0] > len(values):  # before memory is taken for the rows
                raise DataError(f"{path} holds a matrix {shape} with empty rows; {again}.")
            return scipy.sparse.csr_matrix((values.astype(np.float64), (rows, columns)), shape)

        count = sum(name.startswith(_FACES) for name in arrays)
        faces = tuple(arrays[f"{_FACES}{k}"].astype(np.int64).reshape(-1, 3) for k in range(count))
        steps = tuple(Step(matrix(f"down/{k}"), matrix(f"up/{k}")) for k in range(count - 1))
        template = arrays.get("template")
        found = Pyramid(faces, steps, None if template is None else template.astype(np.float64))
    found.check(path)
    return found


def read_surface(path: str | os.PathLike[str]) -> tuple[Vertices, Faces]:
    """Read the triangles of another program; the suffix says how.

    The order of vertices and triangles is that of the file. STL has no vertices of its own: corners at one
    place are one vertex, in the order in which the triangles name them. Larger polygons of PLY and OBJ are
    split.

    Args:
        path: ``.ply``, ``.stl``, ``.obj``, ``.vtk`` or ``.vtp``; all objects in it are taken together.

    Returns:
        (N, 3) vertices in the unit of the file, and (F, 3) triangles.

    Raises:
        DataError: the file is missing, damaged, of another format, or holds no triangles or a vertex that is
            not finite.
        ConfigError: a package is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SURFACES:
        raise DataError(f"{path} is no surface that can be read; use {', '.join(SURFACES)}.")
    content = read_bytes(path, error=DataError)
    _packages(path.name, suffix)
    with turned_into(DataError, lambda why: f"{path} cannot be read as a surface: {why}; export it again."):
        vertices, faces = _vtk(path) if suffix in (".vtk", ".vtp") else _trimesh(content, suffix[1:])
    if not len(faces):
        raise DataError(f"{path} holds no triangles, or is cut off; export the surface again.")
    if wrong := int((~np.isfinite(vertices).all(axis=1)).sum()):
        raise DataError(f"{path}: {wrong} vertices are no finite numbers; export the surface again.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataError(f"{path}: a triangle names a vertex beyond the {len(vertices)} that there are.")
    return vertices, faces


def _trimesh(content: bytes, kind: str) -> tuple[Vertices, Faces]:
    import trimesh

    settings: dict[str, dict[str, bool]] = {
        "ply": {"skip_materials": True, "fix_texture": False},
        "obj": {"skip_materials": True, "group_material": False, "maintain_order": True},
    }
    mesh = trimesh.load_mesh(BytesIO(content), file_type=kind, process=False, **settings.get(kind, {}))
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    if kind == "ply":  # of a text that is cut off, trimesh gives what there is
        head = content[: content.find(b"end_header")]
        for name, count in (("vertex", len(vertices)), ("face", len(faces))):
            told = re.search(rb"element %s (\d+)" % name.encode(), head)
            if told and len(faces) and count < int(told[1]):
                raise ValueError(f"of {int(told[1])} elements called {name}, {count} can be read")
    if kind == "stl" and len(faces):
        _, first, number = np.unique(vertices[faces.ravel()], axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        corners, faces = vertices[faces.ravel()], np.argsort(order)[number.ravel()].reshape(-1, 3)
        vertices = corners[first[order]]
    return vertices, faces


def _vtk(path: Path) -> tuple[Vertices, Faces]:
    import pyvista
    from vtkmodules.vtkIOLegacy import vtkPolyDataReader
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    # PyVista's own way to read repeats each error in the log.
    reader = vtkXMLPolyDataReader() if path.suffix.lower() == ".vtp" else vtkPolyDataReader()
    reader.SetFileName(str(path))
    with pyvista.vtk_verbosity("off"), pyvista.VtkErrorCatcher(send_to_logging=False) as caught:
        reader.Update()
    if caught.events:  # or warnings: a file that is cut off is one, and its end anything
        # Which line of VTK's code says it helps nobody.
        place = r"\w*( Warning)?: In \S+, line \d+\s*(\w+ \(\w+\): )?"
        raise ValueError(re.sub(place, "", caught.events[0].alert).strip().split("\n")[0])
    mesh = pyvista.wrap(reader.GetOutput())
    if mesh.n_cells and not mesh.is_all_triangles:
        raise ValueError(
            "it holds other cells than triangles, which VTK splits in one way here, another there"
        )
    faces = np.asarray(mesh.regular_faces if mesh.n_cells else np.empty((0, 3)), np.int64)
    return np.asarray(mesh.points, np.float64).reshape(-1, 3), faces


def _packages(name: str, suffix: str) -> None:
    """Make sure that PyVista and trimesh are there.

    Raises:
        ConfigError: one is missing.
    """
    try:
        import pyvista  # noqa: F401
        import trimesh  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{name}: {suffix} {_EXTRA}") from error


def export(path: str | os.PathLike[str], organs: Mapping[str, tuple[Vertices, Faces]]) -> Path:
    """Write surfaces in a format of other programs, chosen by the suffix.

    Args:
        path: ``.vtp`` and ``.vtk`` hold all organs, a triangle's number in the array ``organ``; ``.obj`` an
            object of each; ``.ply`` the number as a property of faces; ``.stl`` the triangles alone.
        organs: name -> (N, 3) vertices in millimetres and (F, 3) triangles.

    Raises:
        ConfigError: the suffix is another one, or a package is missing.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SURFACES:
        raise ConfigError(f"{path.name!r}: meshes are written as .vtp, .vtk, .obj, .ply or .stl.")
    counts = [len(faces) for _, faces in organs.values()]
    number = np.repeat(np.arange(1, 1 + len(organs), dtype=np.uint8), counts)
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in organs.values())])
    vertices = np.vstack([each for each, _ in organs.values()])
    faces = np.vstack([each + at for (_, each), at in zip(organs.values(), starts, strict=False)])
    _packages(path.name, suffix)
    import pyvista
    import trimesh

    if suffix in (".vtp", ".vtk"):
        mesh = pyvista.PolyData.from_regular_faces(vertices, faces)
        mesh.cell_data["organ"] = number
        mesh.field_data["organs"] = list(organs)
        with atomic_path(path) as temporary:
            mesh.save(temporary)
        return path
    if suffix == ".obj":
        scene = trimesh.Scene()
        for organ, (places, triangles) in organs.items():
            scene.add_geometry(trimesh.Trimesh(places, triangles, process=False), organ, organ)
        content = scene.export(file_type="obj")
    else:
        whole = trimesh.Trimesh(vertices, faces, process=False, face_attributes={"organ": number})
        content = whole.export(file_type=suffix[1:])
    return write_bytes(path, content.encode() if isinstance(content, str) else content)
