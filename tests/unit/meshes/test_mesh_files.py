"""Meshes come back from files as they were, and damaged files are named."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from anatozoo.errors import ConfigError, DataError
from anatozoo.meshes.files import export, read_heart, read_pyramid, write_heart, write_pyramid
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_pyramid
from anatozoo.meshes.sheets import SheetSize
from tests.support.heart_data import drawn_heart


@pytest.fixture(scope="module")
def heart() -> HeartMesh:
    return drawn_heart()


def test_a_heart_comes_back_as_it_was(heart: HeartMesh, tmp_path: Path) -> None:
    found = read_heart(write_heart(tmp_path / "a_mesh.safetensors", heart))
    assert found.surfaces.grid == heart.surfaces.grid
    assert (found.size, found.septum, found.flags) == (heart.size, heart.septum, heart.flags)
    np.testing.assert_array_equal(found.surfaces.vertices, heart.surfaces.vertices)
    np.testing.assert_array_equal(found.aligned(), heart.aligned())
    assert found.surfaces.volume_ml() == heart.surfaces.volume_ml()


def test_files_that_are_no_meshes_are_named(heart: HeartMesh, tmp_path: Path) -> None:
    path = write_heart(tmp_path / "a_mesh.safetensors", heart)
    whole = path.read_bytes()
    arrays = load(whole)
    about = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    shorter = arrays | {"vertices": arrays["vertices"][:-1].copy()}
    missing = arrays | {"vertices": arrays["vertices"] * np.nan}
    later = {"anatozoo_mesh": json.dumps(json.loads(about["anatozoo_mesh"]) | {"schema_version": 9})}
    right = "faces/right_ventricle"
    for content, words in (
        (save(arrays | {right: arrays[right] * 0}, metadata=about), "other triangles"),
        (save(arrays | {"parts": arrays["parts"] * 0}, metadata=about), "other triangles"),
        (whole[:-100], "is damaged"),
        (b"", "is damaged"),
        (b"\xff" * 500, "is damaged"),
        (save(arrays), "is no mesh"),
        (save(arrays, metadata=later), "another release"),
        (save(shorter, metadata=about), "beyond|vertices"),
        (save(missing, metadata=about), "finite"),
        (save({"vertices": arrays["vertices"]}, metadata=about), "is no mesh"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_heart(path)
    with pytest.raises(DataError, match="cannot be opened"):
        read_heart(tmp_path / "b_mesh.safetensors")


def test_the_pyramid_in_a_file_is_the_pyramid(tmp_path: Path) -> None:
    made = heart_pyramid(SheetSize(8, 8), 2)
    path = write_pyramid(tmp_path / "pyramid.safetensors", made)
    found, read = load_file(path), read_pyramid(path)
    assert (read.counts, read.template) == (made.counts, None) == ([195, 99, 51], None)
    for mine, theirs in zip(made.graphs, read.graphs, strict=True):
        assert (mine != theirs).nnz == 0
    for k, step in enumerate(made.steps):
        assert abs(read.steps[k].up - step.up).max() < 1e-7
        for name, matrix in (("down", step.down), ("up", step.up)):
            dense = np.zeros(found[f"{name}/{k}/shape"])
            entries = (found[f"{name}/{k}/{part}"] for part in ("rows", "columns", "values"))
            rows, columns, values = entries
            dense[rows, columns] = values
            np.testing.assert_allclose(dense, matrix.toarray())


@pytest.mark.parametrize("suffix", [".vtp", ".vtk", ".ply", ".stl", ".obj"])
def test_other_programs_read_the_surfaces(heart: HeartMesh, tmp_path: Path, suffix: str) -> None:
    pyvista = pytest.importorskip("pyvista")
    pytest.importorskip("trimesh")
    surfaces = heart.surfaces
    organs = {organ: (surfaces.physical, surfaces.faces[organ]) for organ in SHEETS}
    volumes = surfaces.volume_ml()
    assert volumes is not None
    found = pyvista.read(export(tmp_path / f"a{suffix}", organs))
    assert found.n_cells == sum(len(faces) for faces in surfaces.faces.values())
    assert found.volume / 1000 == pytest.approx(sum(volumes.values()), rel=1e-3)
    if suffix == ".vtp":
        assert list(found.field_data["organs"]) == list(SHEETS)
        one = found.extract_cells(np.asarray(found["organ"]) == 1)
        assert one.extract_surface(algorithm=None).volume / 1000 == pytest.approx(
            volumes[SHEETS[0]], rel=1e-3
        )


def test_other_formats_and_missing_packages_are_refused(
    heart: HeartMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organs = {"a": (heart.surfaces.physical, heart.surfaces.faces[SHEETS[0]])}
    with pytest.raises(ConfigError, match=r"\.vtp, \.vtk"):
        export(tmp_path / "a.gltf", organs)
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ConfigError, match=r"anatozoo\[mesh\]"):
        export(tmp_path / "a.ply", organs)
    assert list(tmp_path.iterdir()) == []
