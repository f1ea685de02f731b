"""From volumes with thick slices to restored ones, with networks whose answer is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, itk_image
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.results.restored import RestoredVolume
from anatozoo.tasks import restore as prediction
from anatozoo.tasks.restore import fine_grid
from tests.support.orders import OBLIQUE, SHORT_AXIS, all_orders


def model(**settings: Any) -> AcnnSRModule:
    """A fresh network, which interpolates across slices."""
    torch.manual_seed(0)
    frame = FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0])
    return AcnnSRModule(**{"width": 4, "depth": 1, "frame": frame} | settings).eval()


def ramp(depth: int = 6, height: int = 20, width: int = 18) -> np.ndarray:
    """A volume that grows along every axis, in units far from [0, 1]."""
    z, y, x = np.ogrid[:depth, :height, :width]
    return (100.0 * z + 3 * y + x - 40).astype(np.float32)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_slices_are_filled_in_and_keep_their_units() -> None:
    result = model().predict(ramp())
    assert isinstance(result, RestoredVolume)
    assert result.volume.shape == (24, 20, 18)
    assert result.factor == 4
    assert result.size == (18, 20, 24)
    assert result.spacing_mm is None
    assert result.flags == ()
    # The middle of a thick slice lies between the second and the third fine one.
    np.testing.assert_allclose(result.volume[1:3, 0, 0], [-40, -27.5], atol=1e-2)
    np.testing.assert_allclose(np.diff(result.volume[2:-2], axis=0), 25, atol=1e-2)
    assert not result.volume.flags.writeable


def test_fine_slices_lie_in_the_place_of_the_thick_ones(tmp_path: Path) -> None:
    grid = Grid((18, 20, 6), (1.0, 1.0, 4.0), (5.0, 6.0, 7.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(itk_image(ramp(), grid), str(path))
    result = model().predict(path)
    assert result.grid.spacing_mm == (1, 1, 1)
    assert result.grid.direction == grid.direction
    coarse, fine = np.array([3, 4, 2.0]), np.array([3, 4, 2 * 4 + 1.5])
    np.testing.assert_allclose(result.grid.to_physical(fine), grid.to_physical(coarse), atol=1e-5)
    assert result.flags == ()
    written = result.save(tmp_path / "out")
    assert [p.name for p in written] == ["scan_sr.nii.gz", "scan_sr.png", "scan.json"]
    back = sitk.ReadImage(str(written[0]))
    assert np.allclose(back.GetSpacing(), (1, 1, 1))
    assert np.array_equal(sitk.GetArrayFromImage(back), result.volume)
    # ITK, asked for the thick slices' places in what was written, finds the thick slices again.
    again = sitk.Resample(back, itk_image(ramp(), grid))
    np.testing.assert_allclose(sitk.GetArrayFromImage(again)[1:-1], ramp()[1:-1], atol=0.1)
    assert json.loads(written[2].read_text())["factor"] == 4
    assert np.array_equal(model().predict(sitk.ReadImage(str(path))).volume, result.volume)
    assert result._repr_png_().startswith(b"\x89PNG")
    assert len(result.plot().axes) == 4


def test_the_network_sees_x_and_y_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = model(), []
    inner = made.network.forward

    def look(coarse: Tensor) -> Tensor:
        seen.append(coarse[0, 0].numpy())
        return inner(coarse)

    monkeypatch.setattr(made.network, "forward", look)
    pixels = noise(4, 20, 18)
    grid = Grid((18, 20, 4), (1.0, 1.0, 4.0), None, (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    turned = made.predict(itk_image(pixels, grid)).volume
    plain = made.predict(pixels).volume
    np.testing.assert_array_equal(seen[0], seen[1][:, ::-1, ::-1])
    np.testing.assert_allclose(turned, plain, atol=1e-5)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE, SHORT_AXIS])
def test_a_volume_is_restored_alike_in_all_orders(direction: tuple[float, ...]) -> None:
    made = model()
    torch.nn.init.normal_(made.network.head.weight, 0, 0.1)  # it matters what lies where
    grid = Grid((18, 20, 4), (1.0, 1.0, 4.0), (3.0, 2.0, 1.0), direction)
    pixels = noise(4, 20, 18)
    expected = made.predict(itk_image(pixels, grid))
    mirrored = made.predict(itk_image(pixels[:, ::-1], grid)).volume[:, ::-1]
    assert float(np.abs(expected.volume - mirrored).max()) > 1e-3
    for order in all_orders():
        result = made.predict(itk_image(order.apply(pixels), order.grid(grid)))
        np.testing.assert_array_equal(result.volume, order.apply(expected.volume))
        assert result.grid.differs_from(order.grid(expected.grid)) is None
        assert (result.factor, result.flags) == (4, ())
    assert len([ax for ax in result.plot().axes if ax.get_title()]) == 2


def test_large_volumes_are_done_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    made, volume = model(), ramp(20, 40, 36)
    whole = made.predict(volume).volume
    monkeypatch.setattr(prediction, "WINDOW", (12, 24, 24))
    parts = made.predict(volume).volume
    assert parts.shape == whole.shape
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-3)
    torch.nn.init.normal_(made.network.head.weight, 0, 0.1)
    parts = made.predict(volume).volume
    added = float(np.abs(parts - whole).mean())
    monkeypatch.undo()
    exact = made.predict(volume).volume
    # A window does not know what lies beyond its border, where it counts least.
    assert float(np.abs(parts - exact).mean()) < 0.2 * added


def test_unusual_spacings_are_flagged_and_unknown_ones_stay_unknown() -> None:
    made = model()
    assert made.predict(ramp(), spacing_mm=(1.1, 1.1, 4.2)).flags == ()
    assert made.predict(ramp(), spacing_mm=(1.0, 1.0, 10.0)).flags == ("unusual_spacing",)
    assert made.predict(ramp(), spacing_mm=1.0).flags == ("unusual_spacing",)
    grid = fine_grid(Grid((4, 4, 3), None, (1.0, 2.0, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)), 2)
    assert (grid.size, grid.spacing_mm, grid.origin) == ((4, 4, 6), None, None)


@pytest.mark.parametrize("depth", [2, 100])
def test_few_and_many_slices(depth: int) -> None:
    assert model().predict(noise(depth, 60, 60)).volume.shape == (4 * depth, 60, 60)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (noise(20, 18), "one slice"),
        (noise(1, 20, 18), "one slice"),
        (np.zeros((6, 20, 18)), "every voxel has the value 0"),
        (np.full((6, 20, 18), np.nan), "NaN, infinity or numbers beyond"),
        (noise(3, 6, 20, 18), "4-D"),
        (noise(60, 20, 18), "do not come first"),
        (noise(6, 20, 8), "16 a side"),
        ("absent.nii.gz", "cannot be opened"),
    ],
)
def test_what_has_no_thick_slices_is_refused(image: Any, error: str) -> None:
    with pytest.raises(ImageError, match=error):
        model().predict(image)
    with pytest.raises(GeometryError, match="must be positive"):
        model().predict(ramp(), spacing_mm=0)


def test_batches_give_what_single_volumes_give() -> None:
    made, volumes = model(), [ramp(), ramp(5), noise(3, 17, 30)]
    for volume, result in zip(volumes, made.predict_batch(volumes, batch_size=2), strict=True):
        assert np.array_equal(result.volume, made.predict(volume).volume)
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(made.predict_batch([], batch_size=0))
    assert made.predict(made.golden_input()).size == (16, 16, 16)


def test_results_that_contradict_themselves_are_refused() -> None:
    fine, thick, grid = np.zeros((4, 8, 8), np.float32), np.zeros((2, 8, 8), np.float32), Grid((8, 8, 4))
    for wrong, error in (
        ({"volume": fine.astype(np.float64)}, "float32"),
        ({"volume": fine[:2]}, "does not fit the grid"),
        ({"given": thick[:, :4]}, "do not fit the thick ones"),
        ({"given": np.zeros((3, 8, 8), np.float32)}, "do not fit the thick ones"),
    ):
        given: dict[str, Any] = {"volume": fine, "given": thick, "grid": grid} | wrong
        with pytest.raises(GeometryError, match=error):
            RestoredVolume(checkpoint="m", version="1", image="x", **given)
    result = RestoredVolume("m", "1", "x", grid, fine, thick)
    for settings in ({"formats": ["png"]}, {"formats": "pdf"}, {"stem": "a/b"}):
        with pytest.raises(ConfigError):
            result.save("nowhere", **settings)
    with pytest.raises(GeometryError, match="MetaImage"):
        result.save("nowhere", formats=["mha"])
