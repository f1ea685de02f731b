"""What is taken for a mask, what it is taken for, and what is refused and why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.masks import MaskInput, read_mask
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.repair import RepairResult
from tests.support.phantoms import make_chest_phantom

ORGANS = ["lungs", "heart"]


def label_map(shape: tuple[int, ...] = (20, 30)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[..., 4:12, 5:20] = 1
    labels[..., 8:16, 10:18] = 2
    return labels


def soft() -> np.ndarray:
    """Probabilities (3, 20, 30) that the label map wins, background first."""
    hard = np.eye(3)[label_map()].transpose(2, 0, 1)
    return (0.1 + 0.7 * hard).astype(np.float32)


def read(x: Any, organs: list[str] = ORGANS, dims: int = 2, **settings: Any) -> MaskInput:
    return read_mask(x, organs, dims, **settings)


def save(path: Path, labels: np.ndarray) -> Path:
    PILImage.fromarray(labels).save(path)
    return path


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint16),
        lambda x: x.astype(np.float64),
        lambda x: x + np.random.default_rng(0).uniform(-9e-4, 9e-4, x.shape),
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).half(),
        PILImage.fromarray,
        sitk.GetImageFromArray,
        np.asfortranarray,
    ],
    ids=["uint8", "int64", "uint16", "float", "nearly", "tensor", "half", "PIL", "SimpleITK", "fortran"],
)
def test_a_label_map_may_come_in_any_form(convert: Any) -> None:
    found = read(convert(label_map()))
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, label_map())
    assert found.planes is None
    assert found.grid.size == (30, 20)
    assert found.name == "array"


def test_files_are_read_with_their_grid(tmp_path: Path) -> None:
    png = save(tmp_path / "a.png", label_map())
    found = read(png)
    assert np.array_equal(found.labels, label_map())
    assert (found.name, found.grid) == (str(png), Grid((30, 20)))
    grid = Grid((30, 20, 5), (0.5, 0.6, 2.0), (1.0, 2.0, 3.0))
    volume = tmp_path / "b.nii.gz"
    sitk.WriteImage(itk_image(label_map((5, 20, 30)), grid), str(volume))
    found = read(str(volume), dims=3)
    assert found.labels.shape == (5, 20, 30)
    assert found.grid.differs_from(grid) is None
    assert found.grid.spacing_mm == pytest.approx((0.5, 0.6, 2.0))


def test_a_spacing_may_be_given() -> None:
    assert read(label_map()).grid.spacing_mm is None
    assert read(label_map(), spacing_mm=0.7).grid.spacing_mm == (0.7, 0.7)
    assert read(label_map(), spacing_mm=(0.7, 0.8)).grid.spacing_mm == (0.7, 0.8)
    again = read(read(label_map()), spacing_mm=2)
    assert again.grid.spacing_mm == (2.0, 2.0)
    assert read(again) is again


def test_classes_say_what_the_labels_are() -> None:
    given = label_map()
    exchanged = np.array([0, 2, 1], np.uint8)[given]
    for classes in (["heart", "lungs"], {1: "heart", 2: "lungs"}):
        assert np.array_equal(read(exchanged, classes=classes).labels, given)
    odd = np.array([0, 205, 60], np.int32)[given]
    assert np.array_equal(read(odd, classes={205: "lungs", 60: "heart"}).labels, given)
    sides = np.where((given == 1) & (np.arange(30) > 8), 3, given)
    found = read(sides, classes=["lung_right", "heart", "lung_left"])
    assert np.array_equal(found.labels, given)
    with pytest.raises(ImageError, match=r"2 for 'aorta' cannot be used; this model knows lungs, heart"):
        read(given, classes=["lungs", "aorta"])


def test_probabilities_win_by_their_size_and_are_kept() -> None:
    for planes in (soft(), torch.from_numpy(soft()), torch.from_numpy(soft()).half()):
        found = read(planes)
        assert np.array_equal(found.labels, label_map())
        assert found.planes is not None
        np.testing.assert_allclose(found.planes, soft()[1:] / soft().sum(0), atol=2e-3)
    without_background = read(soft()[1:])
    assert np.array_equal(without_background.labels, label_map())


def test_planes_of_noughts_and_ones_are_hard() -> None:
    hard = np.eye(3, dtype=np.uint8)[label_map()].transpose(2, 0, 1)
    for planes in (hard, hard > 0, hard[1:], hard[1:] * np.uint8(255)):
        found = read(planes)
        assert np.array_equal(found.labels, label_map())
        assert found.planes is None


def test_planes_that_overlap_are_covered_by_later_organs() -> None:
    lungs, heart = np.zeros((2, 20, 30), np.float32)
    lungs[4:12, 5:20] = 0.9
    heart[8:16, 10:18] = 0.8
    found = read(np.stack([lungs, heart]))
    assert np.array_equal(found.labels, label_map())
    assert found.planes is not None
    assert found.planes[:, 10, 12].tolist() == pytest.approx([0.9 * 0.2, 0.8])
    assert float(found.planes.sum(0).max()) <= 1


def test_planes_may_be_named() -> None:
    found = read(soft()[[2, 1]], classes=["heart", "lungs"])
    assert np.array_equal(found.labels, label_map())


def test_one_organ_may_be_booleans_255_or_a_probability() -> None:
    truth = label_map() > 0
    for given in (truth, truth * np.uint8(255), truth.astype(np.float32), truth.astype(int) * 255):
        found = read(given, ["lungs"])
        assert np.array_equal(found.labels, truth)
        assert found.planes is None
    found = read(np.where(truth, 0.8, 0.3).astype(np.float32), ["lungs"])
    assert np.array_equal(found.labels, truth)
    assert found.planes is not None
    assert float(found.planes[0, 5, 6]) == pytest.approx(0.8)


def test_results_of_segmenters_are_matched_by_name() -> None:
    phantom = make_chest_phantom(60, 50)
    result = ContourResult("a-b", "1", "x.png", (60, 50), (0.5, 0.5), phantom.landmarks)
    found = read(result, ["heart", "lungs", "clavicles"])
    assert (found.name, found.grid) == ("x.png", Grid((60, 50), (0.5, 0.5)))
    assert np.array_equal(found.labels == 3, result.masks["clavicle_right"] | result.masks["clavicle_left"])
    assert (found.labels == 1).sum() < result.masks["heart"].sum()  # lungs come later here, and cover it
    labels = LabelResult("a-b", "1", "x", (30, 20), None, label_map(), ("heart", "lungs"))
    assert np.array_equal(read(labels).labels, np.array([0, 2, 1])[label_map()])
    repaired = RepairResult(
        "c-d", "1", "y", Grid((30, 20)), ("heart",), label_map() * 0, (label_map() > 1).astype(np.uint8)
    )
    assert np.array_equal(read(repaired).labels, 2 * (label_map() > 1))
    with pytest.raises(ImageError, match="the result has clavicle_right, clavicle_left, which this model"):
        read(result)
    with pytest.raises(ImageError, match="the result is 2-D"):
        read(labels, dims=3)


rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
nan = label_map().astype(np.float32)
nan[3, 3] = np.nan
negative = label_map().astype(np.int16)
negative[0, 0] = -1


@pytest.mark.parametrize(
    ("given", "dims", "message"),
    [
        (
            label_map() + 3 * (label_map() > 1).astype(np.uint8),
            2,
            r"labels 5, which this model does not know: it has 1 lungs, 2 heart",
        ),
        (negative, 2, "labels -1"),
        (label_map() * np.int64(2**33), 2, "does not know"),
        (label_map() * 0, 2, "is empty"),
        (label_map() * 0 + 2, 2, "is heart everywhere"),
        (rgb, 2, r"a colour picture of shape \(20, 30, 3\)"),
        (soft() + 0.2, 2, r"sum to 1\.6.* probabilities sum to 1"),
        (soft() * 5, 2, "softmax"),
        (np.log(soft()), 2, "softmax"),
        (label_map((5, 20, 30)), 2, r"\(5, 20, 30\).*2-D masks; give the slices"),
        (label_map(), 3, r"2-D, but this model takes 3-D masks \(D, H, W\)"),
        (label_map((2, 3, 5, 20, 30)), 3, "5-D"),
        (label_map((7, 5, 20, 30)), 3, "3-D masks; give"),
        (nan, 2, "NaN or infinity"),
        (np.where(np.isnan(nan), np.inf, nan), 2, "NaN or infinity"),
        (label_map() * 0.7, 2, r"fractions such as (0\.7|1\.4).*whole numbers"),
        (label_map() > 0, 2, "true and false, but the model has 2 organs"),
        (label_map() * np.uint8(127), 2, "labels 127, 254"),
        (label_map().astype(str), 2, "numbers"),
        (label_map().astype(complex), 2, "numbers"),
        (label_map((0, 30)), 2, "numbers"),
        (np.ones((3, 30), np.uint8), 2, "needs 4 pixels"),
        (None, 2, "cannot be read from NoneType"),
        ([[0, 1], [1, 0]], 2, "cannot be read from list"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_mask_is_refused_by_its_name(given: Any, dims: int, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(given, dims=dims)


def test_files_that_are_no_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the mask 'photo\.png' is a colour picture"):
        read(save(tmp_path / "photo.png", rgb))
    with pytest.raises(ImageError, match=r"'empty\.png' is empty"):
        read(save(tmp_path / "empty.png", label_map() * 0))
    with pytest.raises(ImageError, match=r"'odd\.png' holds the labels 9"):
        read(save(tmp_path / "odd.png", label_map() // 2 * 9))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.png.* cannot be read"):
        read(tmp_path / "text.png")
    with pytest.raises(ImageError, match=r"nothing\.png"):
        read(tmp_path / "nothing.png")


def test_the_caller_keeps_the_array() -> None:
    given = label_map()
    found = read(given)
    given[:] = 0
    assert np.array_equal(found.labels, label_map())
