"""Atlas segmentation with registrations whose fields are known, and with a network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, DataError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.results.field import RegistrationResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.volume import VolumeResult
from anatozoo.tasks.propagate import fuse, propagate


class Shifts:
    """Registers by a shift in x that stands in the name of the moving image, ``shift3``; else by none."""

    checkpoint_name, checkpoint_version = "acregnet-fake", "1.0.0"
    organs = ("lungs", "heart")

    def __init__(self, dims: int = 2) -> None:
        self.shape = (32,) * dims

    def predict(self, moving: Any, fixed: Any) -> RegistrationResult:
        a, b = (read_grid_image(x, len(self.shape)) for x in (moving, fixed))
        if a.name == "broken":
            raise ImageError("moving and fixed image have opposite polarity.")
        n = len(self.shape)
        field = np.zeros((*b.grid.shape, n), np.float32)
        field[..., 0] = float(a.name.removeprefix("shift")) if a.name.startswith("shift") else 0
        return RegistrationResult(
            self.checkpoint_name,
            self.checkpoint_version,
            a.name,
            b.name,
            a.grid,
            b.grid,
            field,
            np.eye(n),
            a.pixels,
            b.pixels,
            flags=(*a.flags, *b.flags),
        )


def picture(shape: tuple[int, ...] = (24, 32), seed: int = 0, name: str = "array", **grid: Any) -> GridImage:
    pixels = np.random.default_rng(seed).random(shape).astype(np.float32)
    return GridImage(pixels, Grid(shape[::-1], **grid), name)


def block(columns: slice, value: int = 1, shape: tuple[int, ...] = (24, 32)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[..., 4:20, columns] = value
    return mask


def label_map(result: Any) -> np.ndarray:
    assert isinstance(result, SegmentationResult)
    assert result.label_map is not None
    return result.label_map


def test_one_atlas_gives_its_mask_where_the_field_says() -> None:
    image = picture()
    moved = label_map(propagate(Shifts(), [picture(name="shift3")], [block(slice(10, 20))], image))
    np.testing.assert_array_equal(moved, block(slice(7, 17)))


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_most_atlases_are_right(method: Any) -> None:
    masks = [block(slice(10, 20)), block(slice(10, 20)), block(slice(12, 24))]
    result = propagate(Shifts(), [picture(seed=i) for i in range(3)], masks, picture(), method=method)
    np.testing.assert_array_equal(label_map(result), masks[0])


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_every_atlas_is_registered_by_its_own_field(method: Any) -> None:
    shifts = (-2, 0, 5)
    atlases = [picture(name=f"shift{s}", seed=s + 2) for s in shifts]
    masks = [block(slice(10 + s, 20 + s), 2) for s in shifts]
    result = propagate(Shifts(), atlases, masks, picture(), method=method)
    np.testing.assert_array_equal(label_map(result), block(slice(10, 20), 2))


def test_ties_go_to_the_atlas_that_fits_best() -> None:
    image = picture()
    near = replace(image, pixels=image.pixels + 0.1 * picture(seed=7).pixels)
    masks = [block(slice(4, 10)), block(slice(20, 30), 2)]
    for order in ([0, 1], [1, 0]):
        atlases = [(picture(seed=9), near)[i] for i in order]
        result = propagate(Shifts(), atlases, [masks[i] for i in order], image)
        np.testing.assert_array_equal(label_map(result), masks[1])


def test_a_tie_of_three_labels_is_between_those_with_the_most_votes() -> None:
    votes = [np.full((8, 8), v, np.uint8) for v in (3, 1, 2, 1, 2)]
    # 1 and 2 have two votes each and 3, the first, has one.
    assert (fuse(votes) == 1).all()
    assert (fuse([votes[2], *votes]) == 2).all()


def test_staple_trusts_the_atlases_that_agree_with_the_others() -> None:
    """Three careless masks outvote two careful ones wherever they happen to agree; STAPLE knows them."""
    truth = np.zeros((40, 40), np.uint8)
    truth[8:30, 8:30] = 1
    draw = np.random.default_rng(0)
    careful = [np.where(draw.random(truth.shape) < 0.02, 1 - truth, truth) for _ in range(2)]
    careless = [np.where(draw.random(truth.shape) < 0.4, 1 - truth, truth) for _ in range(3)]
    wrong = {m: (fuse([*careful, *careless], m) != truth).mean() for m in ("majority", "staple")}
    assert wrong["staple"] < 0.5 * wrong["majority"]


def test_labels_that_no_mask_has_and_far_apart_ones_are_no_trouble() -> None:
    masks = [block(slice(10, 20), v) for v in (200, 200, 7)]
    for method in ("majority", "staple"):
        fused = fuse(masks, method)
        assert fused.dtype == np.uint8
        np.testing.assert_array_equal(fused, masks[0])


def test_empty_masks_give_an_empty_map_with_the_names_of_the_model() -> None:
    empty = np.zeros((24, 32), np.uint8)
    for method in ("majority", "staple"):
        result = propagate(Shifts(), [picture()] * 2, [empty] * 2, picture(seed=1), method=method)
        assert not label_map(result).any()
        assert result.classes == ("lungs", "heart")


def test_the_result_is_one_of_a_segmenter(tmp_path: Any) -> None:
    image = picture(spacing_mm=(0.5, 2.0), name="patient")
    atlas = picture(seed=1, spacing_mm=(0.5, 2.0))
    result = propagate(Shifts(), [atlas], [block(slice(10, 20), 2)], image)
    assert isinstance(result, SegmentationResult)
    assert (result.checkpoint, result.version, result.image) == ("acregnet-fake", "1.0.0", "patient")
    assert result.spacing_mm == (0.5, 2.0)
    assert result.areas_mm2 == {"lungs": 0.0, "heart": 160.0}
    result.save(tmp_path, ("png", "json"), "p")
    assert np.asarray(PILImage.open(tmp_path / "p_mask.png")).max() == 2
    np.testing.assert_array_equal(result.pixels, image.pixels)


def test_names_of_labels() -> None:
    def classes(value: int, given: Any = None) -> tuple[str, ...]:
        return propagate(
            Shifts(), [picture()], [block(slice(4, 9), value)], picture(seed=1), classes=given
        ).classes

    assert classes(2) == ("lungs", "heart")
    assert classes(3) == ("class_1", "class_2", "class_3")
    assert classes(2, ["a", "b", "c"]) == ("a", "b", "c")
    with pytest.raises(DataError, match="labels up to 3 need 3 classes"):
        classes(3, ["a", "b"])


def test_files_of_0_and_255_are_one_organ(tmp_path: Any) -> None:
    for name, values in (("atlas", 255 * picture().pixels), ("mask", block(slice(10, 20), 255))):
        PILImage.fromarray(values.astype(np.uint8)).save(tmp_path / f"{name}.png")
    result = propagate(Shifts(), [tmp_path / "atlas.png"], [tmp_path / "mask.png"], picture(seed=2))
    np.testing.assert_array_equal(label_map(result), block(slice(10, 20)))


def test_a_volume_comes_back_in_its_space(tmp_path: Any) -> None:
    shape = (10, 24, 32)
    space: dict[str, Any] = {"spacing_mm": (1.0, 1.0, 2.0), "origin": (5.0, -3.0, 7.0)}
    image, atlas = picture(shape, **space), picture(shape, 1, name="shift2", **space)
    mask = block(slice(10, 20), shape=shape)
    for method in ("majority", "staple"):
        result = propagate(Shifts(3), [atlas] * 3, [mask] * 3, image, method=method)
        assert isinstance(result, VolumeResult)
        np.testing.assert_array_equal(result.label_map, block(slice(8, 18), shape=shape))
    assert (result.grid, result.classes) == (image.grid, ("lungs", "heart"))
    assert result.plot().axes
    saved = sitk.ReadImage(str(result.save(tmp_path, ["nifti"], "organs")[0]))
    assert saved.GetSpacing() == (1.0, 1.0, 2.0)
    np.testing.assert_allclose(saved.GetOrigin(), (5, -3, 7))
    values, grid = read_labels(tmp_path / "organs_mask.nii.gz", 3)
    np.testing.assert_array_equal(values, result.label_map)
    assert image.grid.differs_from(grid) is None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(result.as_sitk()), result.label_map)


def test_a_volume_of_unknown_spacing_says_so(tmp_path: Any) -> None:
    shape = (10, 24, 32)
    result = propagate(Shifts(3), [picture(shape)], [block(slice(4, 9), shape=shape)], picture(shape, 1))
    assert isinstance(result, VolumeResult)
    assert read_labels(result.save(tmp_path, ["nifti"], "a")[0], 3)[1].spacing_mm is None
    with pytest.raises(GeometryError, match="spacing is unknown"):
        result.save(tmp_path, ["mha"], "a")


def test_flags_of_all_registrations_are_kept() -> None:
    atlases = [replace(picture(), flags=(flag,)) for flag in ("colour", "mirrored")]
    image = replace(picture(seed=1), flags=("upside_down",))
    result = propagate(Shifts(), atlases, [block(slice(4, 9))] * 2, image)
    assert result.flags == ("upside_down", "colour", "mirrored")


@pytest.mark.parametrize(
    ("atlases", "masks", "error", "match"),
    [
        ([], [], DataError, "0 atlas images and 0 masks"),
        ([picture()], [], DataError, "1 atlas images and 0 masks"),
        ([picture()] * 2, [block(slice(4, 9))], DataError, "2 atlas images and 1 masks"),
        ([picture()], [block(slice(4, 9), shape=(24, 31))], GeometryError, "atlas 1: .*31 x 24 pixels"),
        ([picture()], [block(slice(4, 9)).astype(int) * 300], DataError, "from 0 to 300"),
        ([picture()], [-block(slice(4, 9)).astype(int)], DataError, "from -1 to 0"),
        ([picture()], [np.full((24, 32), 0.5)], ImageError, "atlas 1: .*fractions"),
        ([picture(), picture(name="broken")], [block(slice(4, 9))] * 2, ImageError, "atlas 2: .*polarity"),
        ([picture((10, 24, 32))], [block(slice(4, 9))], ImageError, "atlas 1: .*3-D"),
    ],
)
def test_bad_input_is_named(atlases: Any, masks: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        propagate(Shifts(), atlases, masks, picture(seed=1))


def test_a_mask_elsewhere_in_space_is_refused() -> None:
    space: dict[str, Any] = {"spacing_mm": (1.0, 1.0)}
    mask = itk_image(block(slice(4, 9)), Grid((32, 24), (1.0, 1.0), (50.0, 0.0)))
    atlas = picture(origin=(0.0, 0.0), **space)
    with pytest.raises(GeometryError, match="another grid"):
        propagate(Shifts(), [atlas], [mask], picture(seed=1, **space))


def test_an_unknown_method_is_refused() -> None:
    wrong: Any = "mean"
    with pytest.raises(ConfigError, match="majority, staple"):
        propagate(Shifts(), [picture()], [block(slice(4, 9))], picture(seed=1), method=wrong)


def test_with_a_network_it_is_the_vote_of_what_the_network_warps() -> None:
    torch.manual_seed(0)
    model = AcRegNetModule(normalization="none", organs=["organ"], label_weight=0.0, frame=FrameSpec(32))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("head.conv.weight"):
                parameter.normal_(0, 2)
    draw = np.random.default_rng(3)
    image = draw.random((40, 48)).astype(np.float32)
    atlases = [image + 0.3 * draw.random((40, 48)).astype(np.float32) for _ in range(3)]
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 12:36] = 1
    warped = [model.eval().predict(atlas, image).warp(mask, "labels") for atlas in atlases]
    assert all((w != mask).any() for w in warped)
    result = propagate(model, atlases, [mask] * 3, image)
    np.testing.assert_array_equal(label_map(result), np.sum(warped, axis=0) >= 2)
    assert result.classes == ("organ",)
