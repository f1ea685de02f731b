"""A mesh as a result: its organs, masks on the source grid, volumes, and what it says and saves."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anatozoo.errors import GeometryError
from anatozoo.io.figures import figure_bytes
from anatozoo.io.grid import Grid
from anatozoo.meshes.files import read_heart
from anatozoo.meshes.heart import SHEETS, heart_mesh
from anatozoo.results.mesh import MeshResult
from tests.support.heart_data import drawn_masks

MASKS, GRID = drawn_masks()


def result(grid: Grid = GRID) -> MeshResult:
    return MeshResult("heart-mesh", "1", "a/b.nii.gz", grid, heart_mesh(MASKS, grid), flags=("open_base",))


def test_an_organ_has_a_closed_surface_a_volume_and_a_mask() -> None:
    found = result()
    spacing = GRID.spacing_mm
    assert spacing is not None
    for organ in SHEETS:
        mesh = found.meshes[organ]
        assert mesh.quality().closed
        assert mesh.quality().crossings == 0
        exact = MASKS[organ].sum() * np.prod(spacing) / 1000
        assert mesh.volume_ml() == pytest.approx(exact, rel=0.1)
        np.testing.assert_array_equal(mesh.to_mask(), found.masks[organ])
        assert mesh.vertices_mm is not None
        assert mesh.vertices_mm.shape == mesh.vertices.shape
    assert found.mask.shape == GRID.shape
    assert {measured.unit for measured in found.measurements} == {"ml"}
    assert "left ventricle volume" in repr(found)


def test_a_mirrored_space_keeps_volumes_positive() -> None:
    mirrored = replace(GRID, direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))
    for organ, mesh in result(mirrored).meshes.items():
        vertices, faces = mesh.drawable()
        a, b, c = (vertices[faces[:, corner]] for corner in range(3))
        enclosed = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6000
        assert enclosed == pytest.approx(mesh.volume_ml()), organ


def test_without_a_spacing_there_are_voxels_and_no_millilitres() -> None:
    heart = heart_mesh(MASKS, GRID).in_pixels()
    found = MeshResult("heart-mesh", "1", "a/b.nii.gz", heart.surfaces.grid, heart)
    assert found.volumes_ml is None
    assert found.meshes["myocardium"].volume_ml() is None
    assert found.meshes["myocardium"].vertices_mm is None
    assert {measured.unit for measured in found.measurements} == {"voxels"}
    volumes = result().volumes_ml
    assert volumes is not None
    voxel = float(np.prod(GRID.proportions)) / 1000
    assert [each.value * voxel for each in found.measurements] == pytest.approx(list(volumes.values()))


def test_what_is_saved_can_be_read(tmp_path: Path) -> None:
    found = result()
    mesh, about = found.save(tmp_path)
    assert (mesh.name, about.name) == ("b_mesh.safetensors", "b.json")
    np.testing.assert_array_equal(read_heart(mesh).surfaces.vertices, found.surfaces.vertices)
    said = json.loads(about.read_text())
    assert said["flags"] == ["open_base"]
    assert said["quality"]["left_ventricle"]["open_edges"] == 0
    assert said["vertices"] == 1539


def test_surfaces_of_another_grid_are_refused() -> None:
    with pytest.raises(GeometryError, match="another grid"):
        replace(result(), grid=GRID.in_pixels())


@pytest.mark.parametrize("by", ["matplotlib", pytest.param("vtk", marks=pytest.mark.slow)])
def test_a_picture_shows_every_organ(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "vtk":  # which needs seconds to begin
        pytest.importorskip("pyvista")
    else:
        monkeypatch.setitem(sys.modules, "pyvista", None)
    found = result()
    for figure, organs in ((found.plot(), 3), (found.meshes["myocardium"].plot(), 1)):
        picture = read_pixels(figure_bytes(figure, 50))
        assert len(figure.legends[0].get_texts()) == organs
        assert (picture.min(axis=-1) < 200).mean() > 0.05
    picture = read_pixels(figure_bytes(found.plot(), 50)).astype(int)[:-40]  # without the legend
    right = picture[..., 0] - picture[..., 1] > 60  # is drawn in pink
    left = picture[..., 2] - picture[..., 0] > 60  # in blue
    assert np.argwhere(right).mean(0)[1] > np.argwhere(left).mean(0)[1] + 10
    wide = (left | right).sum(1)[(left | right).any(1)]
    assert wide[: len(wide) // 3].mean() > wide[-len(wide) // 3 :].mean()  # the apex lies below


def read_pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
