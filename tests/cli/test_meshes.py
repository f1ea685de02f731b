"""`anatozoo meshes`: stacks become meshes and a table; a bad one is named and stops nothing."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.cli.main import main
from anatozoo.io.grid import Grid, itk_image
from anatozoo.meshes.files import read_heart
from tests.support.heart_data import drawn_masks, write_hearts

MASKS, GRID = drawn_masks()
LABELS = sum(
    MASKS[organ].astype(np.uint8) * value
    for value, organ in enumerate(("right_ventricle", "myocardium", "left_ventricle"), start=1)
)


def save(path: Path, values: np.ndarray, grid: Grid = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk_image(values, grid), str(path))
    return path


def meshes(*arguments: object) -> int:
    return main(["meshes", *map(str, arguments)])


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "manifest.csv").open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_a_stack_becomes_a_mesh_and_a_row(tmp_path: Path, capsys: Any) -> None:
    save(tmp_path / "in" / "a.nii.gz", LABELS)
    out = tmp_path / "out"
    assert meshes(tmp_path / "in", "--out", out) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 stack: 1 built in ")
    assert "left_ventricle: Dice 0.9" in said
    row = rows(out)["a.nii.gz"]
    assert float(row["dice/right_ventricle"]) > 0.97
    assert float(row["volume_ml/left_ventricle"]) > 20
    assert row["crossings/myocardium"] == "0"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *("a_mesh.safetensors", "a.json", "manifest.csv", "measurements.csv", "pyramid.safetensors")
    }
    assert meshes(tmp_path / "in", "--out", out) == 0
    assert "1 done already" in capsys.readouterr().out
    assert meshes(tmp_path / "in", "--out", out, "--rings", 8) == 0
    assert "1 built" in capsys.readouterr().out
    assert read_heart(out / "a_mesh.safetensors").size.rings == 8


def test_bad_stacks_are_named_and_stop_nothing(tmp_path: Path, capsys: Any) -> None:
    folder, empty = tmp_path / "in", np.zeros_like(LABELS)
    save(folder / "good.nii.gz", LABELS)
    thin = save(folder / "one_slice.nii.gz", LABELS[4:5], Grid((*GRID.size[:2], 1), GRID.spacing_mm))
    save(folder / "no_right.nii.gz", np.where(LABELS == 1, 0, LABELS))
    save(folder / "no_muscle.nii.gz", np.where(LABELS == 2, 0, LABELS))
    save(folder / "swapped.nii.gz", np.array([0, 3, 2, 1], np.uint8)[LABELS])
    save(folder / "wrong_value.nii.gz", np.where(LABELS == 3, 7, LABELS).astype(np.uint8))
    save(folder / "empty.nii.gz", empty)
    save(folder / "image.nii.gz", LABELS.astype(np.float32) + 0.3)
    (folder / "torn.nii.gz").write_bytes(thin.read_bytes()[:60])
    out = tmp_path / "out"
    assert meshes(folder, "--out", out) == 3
    found = rows(out)
    assert found["good.nii.gz"]["status"] == "ok"
    for name, words in (
        ("one_slice", "is seen in 1 of 1 slices"),
        ("no_right", "right_ventricle is seen in 0 of"),
        ("no_muscle", "no myocardium"),
        ("swapped", "check which structure has which value"),
        ("wrong_value", "the values 7 have no name"),
        ("empty", "shows nothing"),
        ("image", "fractions"),
        ("torn", ""),
    ):
        row = found[f"{name}.nii.gz"]
        assert row["status"] == "failed"
        assert words in row["reason"]
        assert row["reason"]


def test_a_missing_package_is_named_before_anything_is_built(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pyvista", "trimesh"):
        monkeypatch.setitem(sys.modules, package, None)
    path = save(tmp_path / "a.nii.gz", LABELS)
    assert meshes(path, "--out", tmp_path / "out", "--format", "stl,json") == 2
    assert (
        'stl needs pyvista and trimesh: python3 -m pip install "anatozoo[mesh]".' in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_doubts_are_flags(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    opened, holed, gap = LABELS.copy(), LABELS.copy(), LABELS.copy()
    middle = np.argwhere(LABELS[4] == 3).mean(axis=0).astype(int)
    opened[4, : middle[0]][opened[4, : middle[0]] == 2] = 0
    holed[4, middle[0], middle[1]] = 0
    gap[4][gap[4] == 1] = 0
    save(folder / "open.nii.gz", opened)
    save(folder / "hole.nii.gz", holed)
    save(folder / "gap.nii.gz", gap)
    save(folder / "unit.nii.gz", LABELS, GRID.with_spacing(1.0))
    cut = LABELS[: len(LABELS) - 4]
    save(folder / "cut.nii.gz", cut, Grid(cut.shape[::-1], GRID.spacing_mm))
    assert meshes(folder, "--out", tmp_path / "out") == 0
    flags = {name: row["flags"].split(";") for name, row in rows(tmp_path / "out").items()}
    assert "open_wall" in flags["open.nii.gz"]
    assert "hole_left_ventricle" in flags["hole.nii.gz"]
    assert flags["gap.nii.gz"] == ["gap_right_ventricle"]
    assert flags["unit.nii.gz"] == ["spacing_of_one"]
    assert flags["cut.nii.gz"] == ["cut_apex"]


def test_acdcs_folder_gives_its_label_maps_alone(tmp_path: Path) -> None:
    root = write_hearts(tmp_path / "acdc", {"train": [1]}, spacing=(1.5, 1.5, 8.0))
    out = tmp_path / "out"
    assert meshes(root, "--out", out, "--quiet") == 0
    assert [Path(name).name for name in rows(out)] == [
        "patient001_frame01_gt.nii.gz",
        "patient001_frame09_gt.nii.gz",
    ]


def test_values_may_be_others_and_must_be_complete(tmp_path: Path, capsys: Any) -> None:
    path = save(tmp_path / "a.nii.gz", np.array([0, 30, 20, 10], np.uint8)[LABELS])
    out = tmp_path / "out"
    labels = "left_ventricle=10,myocardium=20,right_ventricle=30"
    assert meshes(path, "--out", out, "--labels", labels, "--quiet") == 0
    assert meshes(path, "--out", out, "--labels", "left_ventricle=10,myocardium=20") == 2
    assert "right_ventricle is missing" in capsys.readouterr().err
    assert meshes(path, "--out", out, "--labels", labels, "--angles", 7) == 1
    assert "even number" in capsys.readouterr().err
    assert meshes(path, "--out", out, "--rings", 100_000) == 1
    assert "at most 20000 points" in capsys.readouterr().err
    with pytest.raises(StopIteration):
        next(iter(tmp_path.glob("*.safetensors")))
