"""Input that a registration cannot or should not take, by every way there is to give it.

A clear error or a documented behaviour, never a silently wrong field: through `predict`, a table of pairs,
the data module, and atlas segmentation.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import AnatozooError, DataError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.writers import write_itk
from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.acregnet.network import Registration
from anatozoo.nn.warp import warp
from anatozoo.results.volume import VolumeResult
from anatozoo.tasks.propagate import propagate
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import run_pairs
from tests.unit.io.conftest import write_dicom

__all__ = ["write_dicom"]


class Still(AcRegNetModule):
    """Deforms nothing: what it is given is what is tested."""

    kind = "field"  # what the registry says of the class that it stands for

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> Registration:
        field = torch.zeros(1, len(self.shape), *self.shape)
        return Registration(warp(moving, field), field, None)


def still(size: int | list[int] = 32, **changes: Any) -> Still:
    settings: dict[str, Any] = {"organs": ["organ"], "label_weight": 0.0, "normalization": "none"}
    return Still(**(settings | {"frame": {"size": size}} | changes)).eval()


CHEST = make_chest_phantom(80, 64, noise=0).image
"""A radiograph of 64 rows and 80 columns."""
ORGAN = np.zeros((64, 80), np.uint8)
ORGAN[20:40, 30:50] = 1


def placed(pixels: np.ndarray, spacing: float | None) -> Any:
    """An image with a spacing, or without one."""
    return pixels if spacing is None else itk_image(pixels, Grid(pixels.shape[::-1], (spacing,) * 2))


BAD_PAIRS: dict[str, tuple[Any, Any, type[AnatozooError], str]] = {
    "opposite polarity": (255 - CHEST, CHEST, ImageError, "opposite polarity"),
    "another field of view": (placed(CHEST, 0.2), placed(CHEST, 0.8), GeometryError, "fields of view"),
    "other proportions": (make_chest_phantom(200, 25).image, CHEST, GeometryError, "proportions"),
    "a spacing on one side only": (placed(CHEST, 0.2), CHEST, GeometryError, "spacing of the fixed image"),
    "a constant image": (np.full((64, 80), 7, np.uint8), CHEST, ImageError, "constant image"),
    "a volume": (itk_image(np.stack([CHEST] * 5), Grid((80, 64, 5))), CHEST, ImageError, "volume of"),
}
bad_pairs = pytest.mark.parametrize(("moving", "fixed", "error", "words"), BAD_PAIRS.values(), ids=BAD_PAIRS)


@bad_pairs
def test_predict(moving: Any, fixed: Any, error: type[AnatozooError], words: str) -> None:
    with pytest.raises(error, match=words):
        still().predict(moving, fixed)


@bad_pairs
def test_atlas_segmentation(moving: Any, fixed: Any, error: type[AnatozooError], words: str) -> None:
    mask = np.zeros(np.shape(moving) if isinstance(moving, np.ndarray) else moving.GetSize()[::-1], np.uint8)
    good = placed(CHEST, fixed.GetSpacing()[0] if hasattr(fixed, "GetSpacing") else None)
    with pytest.raises(error, match=f"atlas 2: .*{words}"):
        propagate(still(), [good, moving], [ORGAN, mask], fixed)


def stored(image: Any, path: Path) -> Path:
    """The image as a file: NIfTI where it has a place in space, a picture otherwise."""
    if isinstance(image, np.ndarray):
        cv2.imwrite(str(path.with_suffix(".png")), image)
        return path.with_suffix(".png")
    return write_itk(path.with_suffix(".nii.gz"), image, units_known=True)


def test_a_table_of_pairs_goes_on_after_each_of_them(tmp_path: Path) -> None:
    lines = ["moving,fixed,name"]
    for number, (name, (moving, fixed, _, _)) in enumerate(BAD_PAIRS.items()):
        a, b = stored(moving, tmp_path / f"moving{number}"), stored(fixed, tmp_path / f"fixed{number}")
        lines.append(f"{a.name},{b.name},{name}")
    good = stored(CHEST, tmp_path / "good")
    lines.append(f"{good.name},{good.name},good")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    summary = run_pairs(still(), tmp_path / "pairs.csv", tmp_path / "out", formats=("json",))
    reasons = {row.file: row.reason for row in summary.failed}
    assert set(reasons) == set(BAD_PAIRS)
    for name, (_, _, _, words) in BAD_PAIRS.items():
        assert words in reasons[name], (name, reasons[name])
    assert [row.file for row in summary.rows if row.status == "ok"] == ["good"]


def test_a_picture_for_a_model_of_volumes(tmp_path: Path) -> None:
    model, volume = still([16, 16, 16]), np.random.default_rng(0).random((16, 18, 20))
    with pytest.raises(ImageError, match="takes 3-D volumes"):
        model.predict(CHEST, volume)
    with pytest.raises(ImageError, match="takes 3-D volumes"):
        propagate(model, [volume], [volume > 0.5], CHEST)
    with pytest.raises(ImageError, match=r"atlas 1: the label map .* is 2-D"):
        propagate(model, [volume], [ORGAN], volume)
    with pytest.raises(ImageError, match="a constant image shows nothing"):
        model.predict(volume, np.ones((16, 18, 20)))


def test_polarity_is_seen_behind_the_black_around_an_image() -> None:
    """Tall images leave half of the frame black; alike in both, it makes up for opposite insides."""
    tall = make_chest_phantom(64, 120, noise=0).image
    with pytest.raises(ImageError, match="give moving_invert or fixed_invert"):
        still().predict(255 - tall, tall)
    still().predict(tall, tall)
    # One that needs both its sides, for a model that can use it.
    still(similarity="mi").predict(255 - tall, tall)


def test_polarity_of_volumes() -> None:
    """A bright organ in the middle of a frame that is larger than the volumes."""
    noise = np.random.default_rng(0).random((2, 10, 12, 14))
    noise[:, 3:7, 3:8, 4:10] += 3
    model = still(frame={"size": [24, 24, 24], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]})
    a, b = (itk_image(v, Grid((14, 12, 10), (1.0, 1.0, 1.0))) for v in noise)
    model.predict(a, b)
    with pytest.raises(ImageError, match="turn one's intensities round"):
        model.predict(-a, b)


def test_unlike_images_of_one_polarity_are_remarked_on() -> None:
    """What is no chest at all cannot be refused by its pixels; the result says that nothing was found."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8)
    assert "not_more_similar_than_before" in still().predict(noise, CHEST).flags


def test_another_modality_is_refused_unless_allowed(write_dicom: Callable[..., Path], tmp_path: Path) -> None:
    slice_of_ct = write_dicom(CHEST.astype(np.uint16), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    model = still()
    for pair in ((slice_of_ct, CHEST), (CHEST, slice_of_ct)):
        with pytest.raises(ImageError, match="CT"):
            model.predict(*pair)
    with pytest.raises(ImageError, match=r"atlas 1: .*CT"):
        propagate(model, [slice_of_ct], [ORGAN], CHEST)
    cv2.imwrite(str(tmp_path / "a.png"), CHEST)
    (tmp_path / "pairs.csv").write_text(f"moving,fixed\n{slice_of_ct.name},a.png\n")
    (row,) = run_pairs(model, tmp_path / "pairs.csv", tmp_path / "out", formats=("json",)).failed
    assert "moving image: " in row.reason
    assert "CT" in row.reason
    assert model.predict(slice_of_ct, CHEST, allow_any_modality=True).displacement_mm is None


def test_empty_masks_stay_empty(tmp_path: Path) -> None:
    empty, result = np.zeros_like(ORGAN), still().predict(CHEST, CHEST)
    assert not result.warp(empty).any()
    found = propagate(still(), [CHEST, CHEST], [empty, empty], CHEST)
    assert not isinstance(found, VolumeResult)
    assert found.label_map is not None
    assert not found.label_map.any()
    for name, values in (("image", CHEST), ("empty", empty), ("organ", ORGAN)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), values)
    rows = ["empty.png,empty.png,neither", "empty.png,organ.png,moving", "organ.png,empty.png,fixed"]
    table = "\n".join(
        ["moving,fixed,moving_mask,fixed_mask,name", *(f"image.png,image.png,{r}" for r in rows)]
    )
    (tmp_path / "pairs.csv").write_text(table)
    summary = run_pairs(still(), tmp_path / "pairs.csv", tmp_path / "out", formats=("json",))
    # No organ in either has no Dice; one that is missed has 0, as everywhere in the package.
    measured = {row.file: row.more["dice_after"] for row in summary.rows}
    assert measured == {"neither": "", "moving": "0.0000", "fixed": "0.0000"}
    assert not summary.failed


def test_masks_on_another_grid_than_their_image() -> None:
    result = still().predict(placed(CHEST, 0.5), placed(CHEST, 0.5))
    shifted = itk_image(ORGAN, Grid((80, 64), (0.5, 0.5), (40.0, 0.0)))
    for mask, words in (
        (ORGAN[:-1], "80 x 64 against 80 x 63"),
        (shifted, "origin"),
        (placed(ORGAN, 0.7), "spacing_mm"),
    ):
        with pytest.raises(GeometryError, match=words):
            result.warp(mask)
        with pytest.raises(GeometryError, match=f"atlas 1: .*{words}"):
            propagate(still(), [placed(CHEST, 0.5)], [mask], placed(CHEST, 0.5))


# ------------------------------------------------------------------------------------------------ training


def folder(root: Path, *, image: Any = CHEST, label: Any = ORGAN) -> Path:
    """A data set of two cases, the second of which is to be tried."""
    for kind, values in (("images", (CHEST, image)), ("labels", (ORGAN, label))):
        (root / kind).mkdir(parents=True)
        for name, value in zip(("good", "other"), values, strict=True):
            stored(value, root / kind / name)
    (root / "splits.json").write_text('{"val": ["good", "other"]}')
    return root


def first_pair(root: Path, **changes: Any) -> dict[str, torch.Tensor]:
    settings = {"layout": "folder", "organs": ["organ"], "frame": {"size": 32}} | changes
    data = AcRegNetDataModule(str(root), **settings)
    data.setup("validate")
    return data.sets["val"][0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": np.full((64, 80), 7, np.uint8)}, ImageError, "other.png.*a constant image"),
        ({"image": BAD_PAIRS["a volume"][0]}, ImageError, "other.nii.gz.*volume of"),
        ({"label": np.zeros_like(ORGAN)}, DataError, "case other is empty"),
        ({"label": ORGAN[:-1]}, DataError, "other lies on another grid than its image: 80 x 64"),
        ({"label": ORGAN * 3}, DataError, "other.png holds the values 3, but the classes are 1 "),
    ],
)
def test_training_data_name_the_case(
    change: dict[str, Any], error: type[AnatozooError], words: str, tmp_path: Path
) -> None:
    first_pair(folder(tmp_path / "good"))
    with pytest.raises(error, match=words):
        first_pair(folder(tmp_path / "bad", **change))


def test_training_in_millimetres_needs_them(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"case good: .*spacing is unknown"):
        first_pair(folder(tmp_path), frame={"size": 32, "fit": "spacing", "spacing_mm": [1.0, 1.0]})


def test_training_takes_pairs_that_registering_would_ask_about(tmp_path: Path) -> None:
    """Fields of view and unknown spacings: each image gets into the frame on its own, as the page says."""
    pair = first_pair(folder(tmp_path, image=placed(CHEST, 9.0), label=placed(ORGAN, 9.0)))
    torch.testing.assert_close(pair["moving"], pair["fixed"], rtol=0, atol=1e-4)
    assert pair["spacing_mm"].tolist() == pytest.approx([9.0 * 80 / 32] * 2)


# ---------------------------------------------------------------------------------------- in other programs


@pytest.mark.parametrize("dims", [2, 3])
def test_itk_warps_as_the_network_does(dims: int, tmp_path: Path) -> None:
    """From two images in space to a file on disk, which SimpleITK's own resampler then uses."""
    torch.manual_seed(0)
    shape = [32, 40] if dims == 2 else [16, 24, 16]
    model = AcRegNetModule(
        organs=[],
        label_weight=0.0,
        normalization="none",
        velocity=True,
        frame=FrameSpec(shape),
    ).eval()
    with torch.no_grad():
        model.network.networks[0].head.conv.weight.normal_(0, 2)  # type: ignore[union-attr, operator]
    turn = np.eye(dims)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    grids = [
        Grid((36, 31, 13)[:dims], (0.5, 0.7, 1.5)[:dims], (3.0, -7.0, 2.0)[:dims], tuple(turn.ravel())),
        Grid((40, 29, 12)[:dims], (0.45, 0.8, 1.6)[:dims], (-1.0, 2.0, 9.0)[:dims]),
    ]
    draw = np.random.default_rng(0)
    moving, fixed = (itk_image(smooth(draw.random(g.shape)), g) for g in grids)
    result = model.predict(moving, fixed)
    assert float(np.abs(result.deformation_px).max()) > 0.5
    (path,) = result.save(tmp_path, ["field"])
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    lowest = float(sitk.GetArrayFromImage(moving).min())
    for transform in (field, result.as_sitk_transform()):
        resampled = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, lowest)
        np.testing.assert_allclose(sitk.GetArrayFromImage(resampled), result.warped, atol=1e-3)


def smooth(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, 2).astype(np.float32) * 10
