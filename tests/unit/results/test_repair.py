import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.figure import Figure
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.annotations import find_annotations
from anatozoo.io.grid import Grid
from anatozoo.metrics.functional import dice
from anatozoo.results.repair import Plausibility, RepairResult, label_table

CLASSES = ("lung", "heart", "liver")


def pair(depth: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    before = np.zeros((20, 30) if depth is None else (depth, 20, 30), np.uint8)
    middle = (slice(None),) * (before.ndim - 2) if depth is None else (slice(2, depth - 2),)
    after = before.copy()
    after[(*middle, slice(4, 14), slice(5, 15))] = 1
    before[after == 1] = 1
    before[(*middle, slice(6, 8), slice(7, 9))] = 0  # a hole
    before[(*middle, 18, 28)] = 1  # a stray pixel
    before[(*middle, 10, 10)] = 2
    after[(*middle, slice(4, 14), slice(18, 24))] = 2
    return before, after


def result(depth: int | None = None, **settings: Any) -> RepairResult:
    before, after = pair(depth)
    spacing = (0.5, 0.7) if depth is None else (0.5, 0.7, 2.0)
    fields: dict[str, Any] = {
        "checkpoint": "postdae-test",
        "version": "1.0.0",
        "image": "in/case7_mask.png",
        "grid": Grid(before.shape[::-1], spacing),
        "classes": CLASSES,
        "before": before,
        "after": after,
        "flags": ("restored_heart",),
    }
    return RepairResult(**fields | settings)


def test_what_changed_is_said_by_organ() -> None:
    found, (before, after) = result(), pair()
    assert found.labels == {"lung": 1, "heart": 2, "liver": 3}
    assert found.organs == found.classes == CLASSES
    assert np.array_equal(found.changed, before != after)
    for value, organ in enumerate(("lung", "heart"), start=1):
        assert found.dice[organ] == pytest.approx(dice(before == value, after == value))
    assert np.isnan(found.dice["liver"])
    assert np.array_equal(found.mask, after)
    assert np.array_equal(found.masks["heart"], after == 2)


@pytest.mark.parametrize("depth", [None, 8])
def test_plausibility_is_counted_before_and_after(depth: int | None) -> None:
    found = result(depth)
    times = 1 if depth is None else depth - 4
    # The hole of a slice, through all of them, is open at both ends; so is the pixel of heart.
    holes = 2 if depth is None else 0
    assert found.plausibility_before["lung"] == Plausibility(times * (100 - 4 + 1 - 1), 2, holes)
    assert found.plausibility_after["lung"] == Plausibility(times * 100, 1, 0)
    assert found.plausibility_after["liver"] == Plausibility(0, 0, 0)


def test_sizes_are_in_millimetres_where_the_spacing_is_known() -> None:
    flat, volume = result(), result(8)
    assert flat.areas_px == {"lung": 100, "heart": 60, "liver": 0}
    assert flat.areas_mm2 == pytest.approx({"lung": 35, "heart": 21, "liver": 0})
    assert flat.volumes_mm3 is None
    assert volume.areas_mm2 is None
    assert volume.volumes_mm3 == pytest.approx({"lung": 280, "heart": 168, "liver": 0})
    unknown = result(grid=Grid((30, 20)))
    assert unknown.areas_mm2 is None
    assert unknown.spacing_mm is None


def test_a_result_is_frozen_and_its_arrays_are_read_only() -> None:
    found = result()
    for array in (found.before, found.after, found.changed, found.masks["lung"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(AttributeError):
        found.flags = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"classes": ()}, "different classes"),
        ({"classes": ("a", "a")}, "different classes"),
        ({"classes": ("a",)}, "before holds labels up to 2"),
        ({"after": np.zeros((20, 31), np.uint8)}, "after of uint8 .* does not fit"),
        ({"before": np.zeros((20, 30), np.int64)}, "before of int64"),
        ({"grid": Grid((20, 30))}, "before of uint8"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(GeometryError, match=error):
        result(**settings)


def test_the_json_says_all_but_the_masks() -> None:
    found = result().to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["size"] == [30, 20]
    assert found["flags"] == ["restored_heart"]
    assert found["dice"]["liver"] is None
    assert found["before"]["lung"] == {"pixels": 96, "components": 2, "holes": 2}
    assert found["areas_mm2"]["heart"] == pytest.approx(21)
    assert found["changed_fraction"] == pytest.approx(result().changed.mean(), abs=1e-6)
    assert "volumes_mm3" in result(8).to_dict()
    assert result(grid=Grid((30, 20))).to_dict()["areas_mm2"] is None


def test_files_read_back(tmp_path: Path) -> None:
    found = result()
    paths = found.save(tmp_path, ["json", "png", "picture", "nifti", "mha"])
    assert [path.name for path in paths] == [
        "case7_mask.png",
        "case7_mask.nii.gz",
        "case7_mask.mha",
        "case7_repair.png",
        "case7.json",
    ]
    with PILImage.open(paths[0]) as picture:
        assert np.array_equal(np.asarray(picture), found.after)
    for path in paths[1:3]:
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image), found.after)
        assert image.GetSpacing() == pytest.approx((0.5, 0.7))
    assert json.loads(paths[4].read_text()) == found.to_dict()
    with PILImage.open(paths[3]) as picture:
        assert picture.size[0] > 500


def test_volumes_keep_their_place(tmp_path: Path) -> None:
    grid = Grid((30, 20, 8), (0.5, 0.7, 2.0), (1.0, -2.0, 3.0), (1, 0, 0, 0, -1, 0, 0, 0, 1))
    found = result(8, grid=grid, image="b.nii.gz")
    paths = found.save(tmp_path)
    assert [path.name for path in paths] == ["b_mask.nii.gz", "b_repair.png", "b.json"]
    image = sitk.ReadImage(str(paths[0]))
    assert np.array_equal(sitk.GetArrayFromImage(image), found.after)
    assert image.GetOrigin() == pytest.approx(grid.origin)
    assert image.GetDirection() == pytest.approx(grid.direction)
    with pytest.raises(GeometryError, match="PNG cannot hold a volume"):
        found.save(tmp_path, ["png"])


def test_the_formats_of_both_kinds_are_known(tmp_path: Path) -> None:
    assert set(RepairResult.volume_formats.writers) == set(RepairResult.formats.writers) - {"png"} | {
        "rtstruct"
    }
    assert [path.name for path in result().save(tmp_path)] == [
        "case7_mask.png",
        "case7_repair.png",
        "case7.json",
    ]
    for formats in (["pdf"], [], "pdf"):
        with pytest.raises(ConfigError, match="repaired masks have no format"):
            result().save(tmp_path, formats)
    for stem in ("", "a/b"):
        with pytest.raises(ConfigError, match="stem"):
            result().save(tmp_path, stem=stem)
    with pytest.raises(GeometryError, match="MetaImage"):
        result(grid=Grid((30, 20))).save(tmp_path, ["mha"])


def test_what_was_saved_is_read_as_an_annotation(tmp_path: Path) -> None:
    found = result()
    found.save(tmp_path, ["png", "json"])
    [entry] = find_annotations(tmp_path).entries.values()
    stored = entry.read()
    assert np.array_equal(stored.masks["heart"], found.masks["heart"])
    assert stored.grid is not None
    assert stored.grid.spacing_mm == (0.5, 0.7)


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6)])
def test_the_table_counts_every_pair(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    before, after = draw.integers(0, 4, (2, *shape)).astype(np.uint8)
    expected = [[int(((before == a) & (after == b)).sum()) for b in range(4)] for a in range(4)]
    assert label_table(before, after, 3).tolist() == expected
    assert label_table(np.asfortranarray(before), after, 3).tolist() == expected
    assert label_table(before, before, 3).tolist() == np.diag(np.bincount(before.ravel())).tolist()


@pytest.mark.parametrize("depth", [None, 8])
def test_the_picture_shows_before_after_and_difference(depth: int | None) -> None:
    figure = result(depth).plot()
    assert isinstance(figure, Figure)
    axes = figure.axes
    assert len(axes) == (3 if depth is None else 9)
    before, after, difference = (np.asarray(ax.get_images()[0].get_array()) for ax in axes[:3])
    assert before.shape == after.shape == difference.shape == (20, 30, 3)
    flat = result()
    changed = (before != after).any(2)
    assert np.array_equal(changed, flat.changed)
    stayed = tuple(difference[5, 6])
    assert {tuple(c) for c in difference[changed]} & {stayed, tuple(difference[0, 0])} == set()
    assert tuple(difference[6, 7]) != tuple(difference[18, 28])  # added, and removed
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert texts == ["Lung", "Heart", "Liver", "added", "removed", "exchanged"]
    assert figure.get_suptitle() == "case7_mask.png   postdae-test 1.0.0\nrestored heart"
    assert result(depth)._repr_png_()[:4] == b"\x89PNG"


def test_slices_show_the_middle_of_the_anatomy() -> None:
    before = np.zeros((10, 20, 30), np.uint8)
    before[7:9, 2:6, 20:28] = 1
    found = result(8, grid=Grid((30, 20, 10)), before=before, after=before, image="v.nii.gz", flags=())
    axes = found.plot().axes
    assert [ax.get_title() for ax in axes[::3]] == ["Axial: before", "Coronal: before", "Sagittal: before"]
    shown = [np.asarray(ax.get_images()[0].get_array()).any(2) for ax in axes]
    assert all((picture != picture[0, 0]).any() or picture.any() for picture in shown)
    coronal = np.asarray(axes[3].get_images()[0].get_array())
    rows = np.flatnonzero((coronal != coronal[0, 0]).any((1, 2)))
    assert rows.tolist() == [1, 2]  # the head is up: slices 7 and 8 of 10 from above
    assert axes[2].get_title() == "Changed: 0.0%"


def test_an_empty_repair_can_be_drawn() -> None:
    nothing = np.zeros((20, 30), np.uint8)
    figure = result(before=nothing, after=nothing).plot()
    assert figure.axes[2].get_title() == "Nothing here"


def test_a_new_name_is_a_copy() -> None:
    assert replace(result(), image="other.png").image == "other.png"
