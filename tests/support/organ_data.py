"""A small data set of drawn surfaces in correspondence, as another program would leave them."""

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from anatozoo.meshes.decimation import decimate
from anatozoo.meshes.files import export, write_pyramid
from anatozoo.meshes.surface import Faces, Vertices


def drawn_organ(stretch: tuple[float, float, float] = (1.5, 1.0, 0.7)) -> tuple[Vertices, Faces]:
    """A ball of 162 vertices, 60 mm wide, stretched along its axes."""
    import trimesh

    found = trimesh.creation.icosphere(2, 30)
    return np.array(found.vertices) * stretch, np.array(found.faces, np.int64)


def write_organs(folder: Path, count: int = 20, suffix: str = ".ply", steps: int = 2) -> Path:
    """Organs as wide as others are not, each turned and moved, the list of splits, and the pyramid beside."""
    draw = np.random.default_rng(0)
    for number in range(count):
        vertices, faces = drawn_organ((1.5 + 0.3 * np.sin(number), 1.0, 0.7 + 0.15 * np.cos(number)))
        turned = Rotation.random(random_state=number).apply(vertices) + draw.normal(0, 100, 3)
        export(folder / f"p{number}{suffix}", {"organ": (turned, faces)})
    names = [f"p{number}" for number in range(count)]
    splits = {"train": names[: -count // 4], "val": names[-count // 4 :]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return write_pyramid(folder.parent / "pyramid.safetensors", decimate(*drawn_organ(), steps))
