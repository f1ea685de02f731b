"""Surfaces of any anatomy become pyramids, files of other programs are read, and errors name the cause."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatozoo.cli.main import main
from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.meshes.decimation import decimate, parts_of, remarks
from anatozoo.meshes.files import SURFACES, export, read_pyramid, read_surface, write_pyramid
from anatozoo.meshes.surface import Faces, Vertices, enclosed, open_edges

pytest.importorskip("pyvista")
trimesh = pytest.importorskip("trimesh")


def ball(radius: float = 30.0, level: int = 3) -> tuple[Vertices, Faces]:
    found = trimesh.creation.icosphere(level, radius)
    return np.array(found.vertices), np.array(found.faces, np.int64)


def half() -> tuple[Vertices, Faces]:
    vertices, faces = ball()
    used, inner = np.unique(faces[(vertices[faces][..., 2] > -0.1).all(axis=1)], return_inverse=True)
    return vertices[used], inner.reshape(-1, 3)


def shell() -> tuple[Vertices, Faces]:
    (outer, faces), (inner, _) = ball(), ball(28.5)
    return np.vstack([outer, inner]), np.vstack([faces, faces[:, ::-1] + len(outer)])


@pytest.mark.parametrize(("made", "parts"), [(ball, 1), (half, 1), (shell, 2)])
def test_a_pyramid_picks_vertices_and_interpolates_on_the_coarse_surface(made: Any, parts: int) -> None:
    vertices, faces = made()
    found = decimate(vertices, faces, 3)
    found.check("it")
    assert found.counts == [len(vertices), *(step.down.shape[0] for step in found.steps)]
    places = vertices
    for step, coarse, fine in zip(found.steps, found.faces[1:], found.counts, strict=False):
        assert 0.35 * fine < step.down.shape[0] < 0.6 * fine
        np.testing.assert_array_equal(step.down.sum(axis=1), 1)
        assert step.down.sum(axis=0).max() == 1  # none is picked twice
        np.testing.assert_allclose(step.up.sum(axis=1), 1, atol=1e-12)
        assert step.up.data.min() > 0
        assert abs(step.down @ step.up - np.eye(step.down.shape[0])).max() == 0
        next_places = step.down @ places
        away = np.linalg.norm(step.up @ next_places - places, axis=1)
        edge = np.linalg.norm(next_places[coarse[:, 0]] - next_places[coarse[:, 1]], axis=1).mean()
        assert away.max() < 0.5 * edge
        assert parts_of(coarse, len(next_places)).max() + 1 == parts
        # A vertex is interpolated from its own part alone.
        own = parts_of(coarse, len(next_places))
        mixed = step.up @ own
        np.testing.assert_allclose(mixed, np.round(mixed), atol=1e-9)
        places = next_places
    assert (open_edges(found.faces[-1]) > 0) == (made is half)
    if made is ball:
        assert enclosed(places, found.faces[-1]) > 0.8 * enclosed(vertices, faces)


def test_the_same_surface_gives_the_same_file(tmp_path: Path) -> None:
    one, other = (write_pyramid(tmp_path / name, decimate(*shell(), 3)) for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    found = read_pyramid(one)
    assert found.template is not None
    np.testing.assert_array_equal(found.template, shell()[0])
    for content in (b"", one.read_bytes()[:-40], b"\xff" * 99):
        one.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            read_pyramid(one)


def test_surfaces_that_cannot_be_decimated_are_named() -> None:
    vertices, faces = ball(level=2)
    twice = np.vstack([vertices, vertices[:2]])
    torn = faces.copy()
    torn[torn == 0] = len(vertices)
    for places, triangles, words in (
        (vertices[faces.ravel()], np.arange(3 * len(faces)).reshape(-1, 3), "lie where another one does"),
        (twice[:-1], torn, "belong to no triangle"),
        (vertices, faces[:-1].tolist() + [[0, 0, 1]], "a corner twice"),
        (vertices, np.vstack([faces, [[*faces[0, :2], 100]]]), "not manifold"),
        (vertices, faces[:0], "no triangles"),
        (vertices * np.nan, faces, "no finite number"),
    ):
        with pytest.raises(DataError, match=words):
            decimate(places, np.asarray(triangles), 1)
    for steps, factor, words in ((5, 2, "too few for 5"), (0, 2, "not possible"), (1, 1, "not possible")):
        with pytest.raises(ConfigError, match=words):
            decimate(vertices, faces, steps, factor)
    assert remarks(vertices, faces) == []
    assert remarks(vertices / 1000, faces[1:]) == ["unlike_millimetres", "open_surface"]


@pytest.mark.parametrize("suffix", SURFACES)
def test_surfaces_of_other_programs_are_read_in_their_order(tmp_path: Path, suffix: str) -> None:
    (outer, faces), (small, _) = ball(), ball(5.0)
    path = export(tmp_path / f"a{suffix}", {"a": (outer, faces), "b": (small + 50, faces)})
    vertices, found = read_surface(path)
    corners = np.vstack([outer[faces], small[faces] + 50])
    np.testing.assert_allclose(vertices[found], corners, atol=1e-5)
    assert len(vertices) == len(outer) + len(small)
    if suffix != ".stl":
        np.testing.assert_array_equal(found, np.vstack([faces, faces + len(outer)]))
    whole = path.read_bytes()
    # The last line of a text may be all that is missing, which nothing tells.
    for content in (b"", whole[:9], whole[: len(whole) // 2], *[whole[:-70]] * (suffix != ".obj")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut off|cannot be read|beyond|no triangles"):
            decimate(*read_surface(path), 1)


def test_files_that_hold_no_surface_are_named(tmp_path: Path) -> None:
    def text(*lines: str) -> str:
        head = (
            "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        )
        return head + "\n".join(lines) + "\n"

    faces = ("element face 1", "property list uchar int vertex_indices", "end_header")
    corners = ("0 0 0", "1 0 0", "1 1 0", "0 1 0")
    path = tmp_path / "a.ply"
    path.write_text(text(*faces, *corners, "4 0 1 2 3"))
    assert read_surface(path)[1].tolist() == [[0, 1, 2], [2, 3, 0]]  # split alike in all files
    for lines, words in (
        ((*faces, *corners, "3 0 1 9"), "beyond"),
        ((faces[0].replace("1", "2"), *faces[1:], *corners, "3 0 1 2"), "of 2 elements called face, 1 can"),
        ((*faces, "0 0 nan", *corners[1:], "3 0 1 2"), "no finite numbers"),
        (("end_header", *corners), "no triangles"),
    ):
        path.write_text(text(*lines))
        with pytest.raises(DataError, match=words) as found:
            read_surface(path)
        assert "a.ply" in str(found.value)
    quads = tmp_path / "a.vtk"
    quads.write_text(
        "# vtk DataFile Version 3.0\nit\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0 1 0 0 1 1 0 0 1 0\n"
        "POLYGONS 1 5\n4 0 1 2 3\n"
    )
    for path, words in (
        (quads, "other cells than triangles"),
        (tmp_path / "a.gltf", "use .vtp"),
        (tmp_path / "none.ply", "cannot be opened"),
    ):
        with pytest.raises(DataError, match=words) as found:
            read_surface(path)
        assert path.name in str(found.value)


def test_the_command_writes_a_pyramid_and_says_how_coarse_it_is(tmp_path: Path, capsys: Any) -> None:
    path = export(tmp_path / "organ.ply", {"organ": ball()})
    command = ["meshes", "--template", str(path), "--out", str(tmp_path / "out"), "--levels", "2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "1 part, 60.0 x 60.0 x 60.0 mm" in said
    assert "321 vertices,     638 triangles, from the mesh before RMS 0." in said
    assert read_pyramid(tmp_path / "out" / "pyramid.safetensors").counts == [642, 321, 160]
    small = export(tmp_path / "metres.ply", {"organ": ball(0.03)})
    for wrong, code, words in (
        (command, 1, "exists already"),
        ([*command, "--rings", "8"], 2, "--template goes with"),
        ([*command[:3], "--out", str(tmp_path / "new"), "--levels", "9"], 1, "organ.ply: the smallest of 1"),
        (["meshes", "--out", str(tmp_path)], 2, "name label maps"),
        ([*command[:2], str(small), *command[3:], "--overwrite"], 0, "Flags: unlike_millimetres"),
    ):
        assert main(wrong) == code
        printed = capsys.readouterr()
        assert words in printed.out + printed.err
    assert not (tmp_path / "new").exists()


def test_without_pyvista_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = export(tmp_path / "organ.ply", {"organ": ball()})
    monkeypatch.setitem(__import__("sys").modules, "pyvista", None)
    for ask in (lambda: decimate(*ball(), 1), lambda: read_surface(path)):
        with pytest.raises(AnatozooError, match=r"anatozoo\[mesh\]"):
            ask()
