"""Meshes in files: our own, without loss, and those of other programs, which trimesh and PyVista write."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.io.grid import Grid
from anatozoo.io.untrusted import open_regular
from anatozoo.io.writers import atomic_path, write_bytes
from anatozoo.meshes.heart import SHEETS, HeartMesh
from anatozoo.meshes.sheets import SheetSize, Step
from anatozoo.meshes.surface import Faces, Surfaces, Vertices

ENDING = "_mesh.safetensors"
"""What our files of meshes end in."""
SCHEMA_VERSION = 1
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
    return heart


def write_pyramid(path: str | os.PathLike[str], size: SheetSize, steps: list[Step]) -> Path:
    """Write the matrices of a pyramid as safetensors, for programs that train on the meshes.

    Of step k, ``down/k/rows``, ``columns`` and ``values`` are the entries of a sparse matrix from the finer
    mesh to the coarser one, ``up/k/...`` of one back; ``shape`` is its size.

    Args:
        path: of the file.
        size: of each sheet of the finest mesh.
        steps: see `anatozoo.meshes.sheets.pyramid`.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {}
    for k, step in enumerate(steps):
        for name, matrix in (("down", step.down.tocoo()), ("up", step.up.tocoo())):
            arrays[f"{name}/{k}/rows"] = matrix.row.astype(np.int64)
            arrays[f"{name}/{k}/columns"] = matrix.col.astype(np.int64)
            arrays[f"{name}/{k}/values"] = matrix.data.astype(np.float32)
            arrays[f"{name}/{k}/shape"] = np.asarray(matrix.shape, np.int64)
    sizes = [[each.rings, each.angles] for each in (size, *(step.size for step in steps))]
    return write_bytes(path, save(arrays, metadata={"sheets": json.dumps(sizes)}))


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
    if suffix not in (".vtp", ".vtk", ".obj", ".ply", ".stl"):
        raise ConfigError(f"{path.name!r}: meshes are written as .vtp, .vtk, .obj, .ply or .stl.")
    counts = [len(faces) for _, faces in organs.values()]
    number = np.repeat(np.arange(1, 1 + len(organs), dtype=np.uint8), counts)
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in organs.values())])
    vertices = np.vstack([each for each, _ in organs.values()])
    faces = np.vstack([each + at for (_, each), at in zip(organs.values(), starts, strict=False)])
    try:
        import pyvista
        import trimesh
    except ImportError as error:
        raise ConfigError(f"{path.name}: {suffix} {_EXTRA}") from error
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
