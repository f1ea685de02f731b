"""From volumes to results, with a network whose answer is known."""

import json
import locale
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.read import read_stack
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.results.volume import VolumeResult

FRAME: dict[str, Any] = {"widths": [4, 8], "frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 64}}


def model(**settings: Any) -> AcnnModule:
    """A model that sees what is bright: grey values above 0.3, 0.6 and 0.9 are the three labels."""
    torch.manual_seed(0)
    made = AcnnModule(**FRAME | settings).eval()
    edges = torch.tensor([-1.0, 0.3, 0.6, 0.9]).view(1, 4, 1, 1, 1)

    def answer(image: Tensor) -> Tensor:
        assert tuple(image.shape[2:]) == made.shape  # windows, if need be
        return 60 * (image - edges).sign().cumsum(1)

    made.network.forward = answer  # type: ignore[method-assign]
    return made


def blocks(depth: int = 6, height: int = 64, width: int = 48, left: int = 20) -> np.ndarray:
    """Three bars side by side, of different brightness, in slices that are 64 high."""
    image = np.zeros((depth, height, width), np.float32)
    for value in (1, 2, 3):
        image[1:-1, 26:38, left + 3 * value - 3 : left + 3 * value] = 0.32 * value + 0.04
    return image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def expected(image: np.ndarray) -> np.ndarray:
    return np.digitize(image, [0.3, 0.6, 0.9]).astype(np.uint8)


def test_labels_lie_on_the_source_grid() -> None:
    image = blocks()
    result = model().predict(image)
    assert isinstance(result, VolumeResult)
    assert np.array_equal(result.mask, expected(image))
    assert result.organs == ("right_ventricle", "myocardium", "left_ventricle")
    assert result.size == (48, 64, 6)
    assert result.volumes_ml is None  # 1 mm is never assumed
    assert result.flags == ()
    assert result.voxels["myocardium"] == 4 * 12 * 3
    assert not result.mask.flags.writeable


@pytest.mark.parametrize("size", [(5, 128, 96), (8, 50, 64), (9, 33, 47)])
def test_any_size_is_brought_back(size: tuple[int, int, int]) -> None:
    image = np.kron(blocks()[1], np.ones((size[1] // 32, size[2] // 24)))[: size[1], : size[2]]
    volume = np.repeat(image[None], size[0], 0).astype(np.float32)
    result = model(frame=FRAME["frame"] | {"long_side": max(size[1:])}).predict(volume, whole=True)
    assert result.mask.shape == size
    assert float(np.mean(result.mask != expected(volume))) < 0.01


def test_spacing_origin_and_directions_are_kept(tmp_path: Path) -> None:
    grid = Grid((48, 64, 6), (1.5, 1.5, 10.0), (5.0, 6.0, 7.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
    path = tmp_path / "heart.nii.gz"
    sitk.WriteImage(itk_image(blocks(), grid), str(path))
    result = model().predict(path)
    assert np.array_equal(result.mask, expected(blocks()))
    assert result.grid.differs_from(grid) is None
    assert result.volumes_ml is not None
    assert result.volumes_ml["myocardium"] == pytest.approx(4 * 12 * 3 * 22.5 / 1000)
    written = result.save(tmp_path / "out")
    assert [p.name for p in written] == ["heart_mask.nii.gz", "heart_slices.png", "heart.json"]
    back = sitk.ReadImage(str(written[0]))
    assert np.array_equal(sitk.GetArrayFromImage(back), result.mask)
    assert np.allclose(back.GetSpacing(), grid.spacing_mm)
    assert np.allclose(back.GetDirection(), grid.direction)
    stored = json.loads(written[2].read_text())
    assert stored["volumes_ml"]["myocardium"] == pytest.approx(3.24)
    assert np.array_equal(model().predict(sitk.ReadImage(str(path))).mask, result.mask)
    assert result.as_sitk().GetOrigin() == grid.origin


def test_many_slices_are_done_in_windows() -> None:
    image = blocks(depth=19)
    assert np.array_equal(model().predict(image).mask, expected(image))


def test_anatomy_at_the_border_makes_the_model_look_further() -> None:
    image = blocks(width=64, left=8)  # the frame begins at column 16
    made = model()
    assert not np.array_equal(made.predict(image, whole=False).mask, expected(image))
    assert np.array_equal(made.predict(image).mask, expected(image))
    sides = []
    looked = made._look
    made._look = lambda stack, part: sides.append(part) or looked(stack, part)  # type: ignore[method-assign,func-returns-value]
    made.predict(image)
    assert sides == [1.0, 1.5, None]  # at column 8 the second view begins
    sides.clear()
    near = blocks(width=64, left=12)
    assert np.array_equal(made.predict(near).mask, expected(near))
    assert sides == [1.0, 1.5]  # half as much again was enough
    beyond = blocks(width=64, left=2)  # nothing of it is in the frame
    assert np.array_equal(made.predict(beyond).mask, expected(beyond))


def test_one_slice_is_segmented_and_flagged() -> None:
    plane = blocks()[2]
    result = model().predict(plane)
    assert result.mask.shape == (1, 64, 48)
    assert np.array_equal(result.mask[0], expected(plane))
    assert result.flags == ("single_slice",)


def test_what_is_missing_or_in_pieces_is_flagged() -> None:
    image = blocks()
    image[:, :, 20:23] = 0
    image[2:4, 4:12, 20:23] = 1
    result = model().predict(image, whole=True)
    assert "missing_right_ventricle" in result.flags
    assert "fragmented_left_ventricle" in result.flags


def test_organs_that_hang_together_are_what_is_kept() -> None:
    image = blocks()
    alone = expected(image)
    image[2, 5:9, 30:34] = 0.68  # myocardium far from the heart
    image[3, 50:54, 4:8] = 1.0
    assert not np.array_equal(model().predict(image, whole=True).mask, alone)
    result = model(one_part=True).predict(image, whole=True)
    assert np.array_equal(result.mask, alone)
    assert result.flags == ()


def test_batches_give_what_single_volumes_give() -> None:
    made = AcnnModule(**FRAME).eval()
    volumes = [blocks(), blocks(depth=9), blocks(height=50)]
    for volume, result in zip(volumes, made.predict_batch(volumes, batch_size=2), strict=True):
        assert np.array_equal(result.mask, made.predict(volume).mask)
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(made.predict_batch([], batch_size=0))
    assert made.golden_input().shape == made.shape


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((6, 40, 40)), "every voxel has the value 0"),
        (np.full((6, 40, 40), np.nan), "NaN, infinity or numbers beyond"),
        (noise(4, 6, 40, 40), "4-D"),
        (noise(40), "1-D"),
        (noise(40, 48, 6), r"moveaxis\(x, -1, 0\)"),
        (noise(6, 40, 8), "16 a side"),
        (np.ones((6, 40, 40), bool), "real numbers"),
        ("absent.nii.gz", "cannot be opened"),
        (7, "cannot be read from int"),
    ],
)
def test_what_is_no_stack_is_refused(image: Any, error: str) -> None:
    with pytest.raises(ImageError, match=error):
        model().predict(image)


def test_permuted_axes_are_known_by_their_spacing() -> None:
    image = np.moveaxis(blocks(), 0, -1)
    result = model().predict(image, spacing_mm=(10.0, 1.5, 1.5))
    assert np.array_equal(result.mask, expected(image))
    assert result.spacing_mm == (10.0, 1.5, 1.5)
    # Nothing tells which of the axes is the one across the slices.
    unknown = GridImage(noise(50, 24, 20), Grid((20, 24, 50), (1.5, 1.5, 1.5)))
    with pytest.raises(ImageError, match="do not come first"):
        read_stack(unknown)
    assert read_stack(unknown, slices=False).grid == unknown.grid


def test_spacings_are_checked(tmp_path: Path) -> None:
    result = model().predict(blocks(), spacing_mm=(1.0, 1.0, 10.0))
    assert result.spacing_mm == (1.0, 1.0, 10.0)
    with pytest.raises(GeometryError, match="must be positive"):
        model().predict(blocks(), spacing_mm=0)
    metric = AcnnModule(**FRAME | {"frame": FrameSpec([8, 32, 32], "spacing", [1.0, 1.0, 1.0])}).eval()
    with pytest.raises(GeometryError, match="spacing is unknown"):
        metric.predict(blocks())
    assert metric.predict(blocks(), spacing_mm=1.0).mask.shape == (6, 64, 48)


@pytest.fixture
def kept_locale() -> Iterator[None]:
    """GDCM sets the locale of the whole process to C where it writes, and leaves it so."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def test_a_series_of_dicom_files_is_a_volume(tmp_path: Path, kept_locale: None) -> None:
    volume = (100 * blocks()).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z, plane in enumerate(volume):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing((1.5, 1.5))
        for tag, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|0032": f"0\\0\\{10 * z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(z),
            "0018|0050": "10",
        }.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / f"{z}.dcm"))
        writer.Execute(image)
    result = model().predict(tmp_path)
    assert result.spacing_mm == pytest.approx((1.5, 1.5, 10.0))
    assert np.array_equal(result.mask, expected(blocks()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="0 DICOM series"):
        model().predict(tmp_path / "empty")


def test_the_golden_input_is_one_in_which_the_network_sees_something() -> None:
    ball, choosy = model().golden_input(), model(frame=FRAME["frame"] | {"long_side": 32})
    # A network that sees nothing in what is mostly dark, as a ball is.
    choosy.network.forward = lambda image: torch.cat(  # type: ignore[method-assign]
        [0.8 - 0 * image, image * (image.mean() > 0.28), 0 * image, 0 * image], 1
    )
    shown = choosy.golden_input()
    assert shown.dtype == np.uint8
    assert not np.array_equal(shown, ball)
    assert set(np.unique(choosy.predict(shown).mask)) == {0, 1}
    assert not choosy.predict(ball).mask.any()


def test_every_slice_is_drawn() -> None:
    result = model().predict(blocks(), spacing_mm=(1.0, 2.0, 10.0))
    figure = result.plot()
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [f"slice {z}" for z in range(6)]
    assert result._repr_png_().startswith(b"\x89PNG")
    bare = VolumeResult("m", "1", "x", Grid((8, 8, 60)), ("a",), np.zeros((60, 8, 8), np.uint8))
    assert len([ax for ax in bare.plot().axes if ax.get_title()]) == 40


def test_results_that_contradict_themselves_are_refused() -> None:
    labels, grid = np.zeros((2, 8, 8), np.uint8), Grid((8, 8, 2))
    for wrong, error in (
        ({"label_map": labels[:1]}, "does not fit the grid"),
        ({"label_map": labels + np.uint8(2)}, "different classes"),
        ({"pixels": np.zeros((1, 8, 8), np.float32)}, "pixels of shape"),
    ):
        given: dict[str, Any] = {"label_map": labels, "grid": grid, "classes": ("a",)} | wrong
        with pytest.raises(GeometryError, match=error):
            VolumeResult(checkpoint="m", version="1", image="x", **given)
    result = VolumeResult("m", "1", "x", grid, ("a",), labels)
    for settings in ({"formats": ["png"]}, {"formats": "pdf"}, {"stem": "a/b"}):
        with pytest.raises(ConfigError):
            result.save("nowhere", **settings)  # type: ignore[arg-type]
