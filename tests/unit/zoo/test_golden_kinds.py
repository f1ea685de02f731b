"""Golden tests of masks, displacements and volumes of grey values, on modules of one line."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.zoo.golden import GOLDEN, Difference, run_golden, write_golden
from anatozoo.zoo.golden_file import read_arrays, write_arrays
from anatozoo.zoo.golden_results import GREY_VALUES, LABEL_MAP, LANDMARKS

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (20, 30), dtype=np.uint8)
VOLUME = RNG.integers(-1000, 1000, (6, 20, 30)).astype(np.int16)
PAIR = {"moving": PICTURE, "fixed": PICTURE[:, ::-1]}


class Toy:
    """A module whose `predict` answers with whatever `answer` makes of its arguments."""

    def __init__(self, **answer: Callable[..., Any]) -> None:
        self.answer = answer

    def predict(self, *images: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(**{name: make(*images) for name, make in self.answer.items()})


def threshold(image: np.ndarray) -> np.ndarray:
    return (image > 100).astype(np.uint8)


def flipping(count: int) -> Callable[[np.ndarray], np.ndarray]:
    """A threshold with this many wrong pixels."""

    def make(image: np.ndarray) -> np.ndarray:
        mask = threshold(image)
        mask.reshape(-1)[:count] ^= 1
        return mask

    return make


def field(shift: float, *, first: bool = False) -> Callable[..., np.ndarray]:
    """A displacement that is `shift` longer, in one pixel, than `field(0)`."""

    def make(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        values = np.ones((*fixed.shape, fixed.ndim))
        values[..., 0] += (moving.astype(float) - fixed) / 100
        values.reshape(-1, fixed.ndim)[17] += (shift, *[0] * (fixed.ndim - 1))
        return np.moveaxis(values, -1, 0) if first else values

    return make


def finer(factor: float = 1.0, spoilt: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """Twice as many slices, times `factor`; one voxel is `spoilt` by that share of the range."""

    def make(image: np.ndarray) -> np.ndarray:
        volume = factor * np.repeat(image, 2, 0).astype(np.float32)
        volume[3, 4, 5] += np.float32(spoilt * np.ptp(volume))
        return volume

    return make


@pytest.mark.parametrize("image", [PICTURE, VOLUME, PICTURE.astype(np.uint16)], ids=str)
def test_a_mask_is_stored_and_found_again(tmp_path: Path, image: np.ndarray) -> None:
    write_golden(Toy(mask=threshold), image, tmp_path)
    tensors, metadata = read_arrays(tmp_path / GOLDEN)
    assert set(tensors) == {"image", "mask"}
    assert tensors["image"].dtype == image.dtype
    np.testing.assert_array_equal(tensors["mask"], threshold(image))
    assert metadata == {"tolerance": "0.001"}
    assert run_golden(Toy(mask=threshold), tmp_path) == Difference(0.0, 0.001, LABEL_MAP)


@pytest.mark.parametrize("image", [np.tile(PICTURE, (3, 2)), VOLUME])
def test_a_mask_may_differ_in_a_thousandth_of_its_pixels(tmp_path: Path, image: np.ndarray) -> None:
    write_golden(Toy(mask=threshold), image, tmp_path)
    allowed = image.size // 1000
    assert run_golden(Toy(mask=flipping(allowed)), tmp_path).difference == pytest.approx(allowed / image.size)
    with pytest.raises(WeightsError, match=r"fails its golden test: 0\.\d+% of the mask's pixels differ"):
        run_golden(Toy(mask=flipping(allowed + 1)), tmp_path)


def test_another_share_is_kept(tmp_path: Path) -> None:
    write_golden(Toy(mask=threshold), PICTURE, tmp_path, tolerance=0.1)
    assert run_golden(Toy(mask=flipping(60)), tmp_path) == Difference(0.1, 0.1, LABEL_MAP)


def test_landmarks_come_first(tmp_path: Path) -> None:
    points = {"heart": np.array([[1.0, 2.0]])}
    write_golden(Toy(landmarks=lambda image: points, mask=threshold), PICTURE, tmp_path)
    assert set(load_file(tmp_path / GOLDEN)) == {"image", "landmarks/heart"}


def test_a_result_without_landmarks_falls_to_its_mask(tmp_path: Path) -> None:
    write_golden(Toy(landmarks=lambda image: {}, mask=threshold), PICTURE, tmp_path)
    assert set(load_file(tmp_path / GOLDEN)) == {"image", "mask"}


def test_landmarks_of_a_volume(tmp_path: Path) -> None:
    def corner(shift: float) -> Toy:
        return Toy(landmarks=lambda image: {"node": np.array([[1.0, 2.0, 3.0 + shift]])})

    write_golden(corner(0), VOLUME, tmp_path, tolerance_px=0.25)
    assert run_golden(corner(0.25), tmp_path) == Difference(0.25, 0.25, LANDMARKS)
    with pytest.raises(WeightsError, match=r"a landmark of node is 0\.260 px"):
        run_golden(corner(0.26), tmp_path)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("pair", [PAIR, {"moving": VOLUME, "fixed": VOLUME[::-1]}])
def test_a_displacement_is_compared_pixel_by_pixel(
    tmp_path: Path, pair: dict[str, np.ndarray], first: bool
) -> None:
    write_golden(Toy(displacement_px=field(0, first=first)), pair, tmp_path)
    assert set(load_file(tmp_path / GOLDEN)) == {"moving", "fixed", "displacement_px"}
    golden = run_golden(Toy(displacement_px=field(0.4, first=first)), tmp_path)
    assert (golden.difference, golden.form.unit) == (pytest.approx(0.4, abs=1e-5), "px")
    with pytest.raises(
        WeightsError, match=r"a displacement is 0\.600 px from where it was, more than 0\.5 px"
    ):
        run_golden(Toy(displacement_px=field(0.6, first=first)), tmp_path)


def test_moving_and_fixed_are_not_exchanged(tmp_path: Path) -> None:
    module = Toy(displacement_px=field(0))
    write_golden(module, {"fixed": PAIR["fixed"], "moving": PAIR["moving"]}, tmp_path)
    assert run_golden(module, tmp_path).difference == 0
    stored, _ = read_arrays(tmp_path / GOLDEN)
    np.testing.assert_array_equal(stored["displacement_px"], field(0)(**PAIR).astype(np.float32))


def test_not_a_number_in_a_displacement_fails(tmp_path: Path) -> None:
    write_golden(Toy(displacement_px=field(0)), PAIR, tmp_path)
    with pytest.raises(WeightsError, match="nan px"):
        run_golden(Toy(displacement_px=field(np.nan)), tmp_path)


def test_a_volume_may_have_another_grid_and_is_found_again(tmp_path: Path) -> None:
    write_golden(Toy(volume=finer()), VOLUME, tmp_path)
    tensors, metadata = read_arrays(tmp_path / GOLDEN)
    assert set(tensors) == {"image", "volume"}
    np.testing.assert_array_equal(tensors["volume"], finer()(VOLUME))
    assert tensors["volume"].dtype == np.float32
    assert metadata == {"tolerance": "0.001"}
    assert run_golden(Toy(volume=finer()), tmp_path) == Difference(0.0, 0.001, GREY_VALUES)


def test_a_voxel_may_differ_by_a_thousandth_of_the_volumes_range(tmp_path: Path) -> None:
    write_golden(Toy(volume=finer()), VOLUME, tmp_path)
    assert run_golden(Toy(volume=finer(spoilt=-9e-4)), tmp_path).difference == pytest.approx(9e-4, rel=1e-3)
    for wrong in (finer(spoilt=-2e-3), finer(factor=1.01)):
        with pytest.raises(
            WeightsError, match=r"a voxel differs by [0-9.]+% of the range, more than 0\.100%"
        ):
            run_golden(Toy(volume=wrong), tmp_path)
    # The unit of the grey values does not count.
    write_golden(Toy(volume=finer(factor=1e-4)), VOLUME, tmp_path, tolerance=0.01)
    assert run_golden(Toy(volume=finer(factor=1e-4, spoilt=-5e-3)), tmp_path) == Difference(
        pytest.approx(5e-3, rel=1e-3), 0.01, GREY_VALUES
    )


def test_not_a_number_in_a_volume_fails(tmp_path: Path) -> None:
    write_golden(Toy(volume=finer()), VOLUME, tmp_path)
    with pytest.raises(WeightsError, match="a voxel differs by nan%"):
        run_golden(Toy(volume=finer(spoilt=np.nan)), tmp_path)


@pytest.mark.parametrize("values", [np.full((12, 20, 30), 7.0), np.full((12, 20, 30), np.nan), np.eye(5)])
def test_a_stored_volume_that_nothing_can_be_compared_with_is_no_golden_test(
    tmp_path: Path, values: np.ndarray
) -> None:
    tensors = {"image": VOLUME, "volume": values.astype(np.float32)}
    save_file(tensors, tmp_path / GOLDEN, metadata={"tolerance": "0.001"})
    with pytest.raises(WeightsError, match=r"(is not a golden test: .*|holds NaN or infinity in )volume"):
        run_golden(Toy(volume=lambda image: values), tmp_path)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"volume": lambda image: finer()(VOLUME)}, r"mask \(20, 30\)\) than predicted \(volume \(12, 20"),
        ({"mask": lambda image: threshold(image)[1:]}, r"mask \(20, 30\)\) than predicted \(mask \(19, 30\)"),
        ({"landmarks": lambda image: {"a": np.ones((1, 2))}}, r"than predicted \(a \(1, 2\)\)"),
        ({"score": lambda image: 1.0}, r"than predicted \(nothing\)"),
    ],
)
def test_another_kind_or_shape_is_refused(tmp_path: Path, answer: dict[str, Any], words: str) -> None:
    write_golden(Toy(mask=threshold), PICTURE, tmp_path)
    with pytest.raises(WeightsError, match=words):
        run_golden(Toy(**answer), tmp_path)


@pytest.mark.parametrize(
    ("answer", "image", "words"),
    [
        ({"score": lambda image: 1.0}, PICTURE, "nothing to store"),
        ({"mask": lambda image: image.astype(np.int64)}, PICTURE, "must be a uint8 label map, not int64"),
        ({"mask": lambda image: threshold(image)[1:]}, PICTURE, "not on the grid of the image"),
        ({"volume": lambda image: image}, PICTURE, r"volume \(20, 30\) is not \(D, H, W\)"),
        ({"volume": finer(spoilt=np.inf)}, VOLUME, "holds NaN or infinity"),
        ({"volume": finer(factor=0)}, VOLUME, "every voxel of the volume has the same value"),
        ({"translated": lambda image: image[None]}, PICTURE, r"translated \(1, 20, 30\) is not \(H, W\)"),
        ({"translated": lambda image: 0 * image}, PICTURE, "every pixel of the translated has the same"),
        ({"displacement_px": lambda moving, fixed: fixed}, PAIR, "an axis of 2 before or after it"),
        ({"mask": threshold}, {"moving": PICTURE}, "are image, or moving and fixed, not moving"),
        ({"mask": threshold}, {}, "not none"),
        ({"mask": threshold}, VOLUME.astype(np.float32), "uint8, uint16, int16"),
        ({"mask": threshold}, np.zeros((0, 4), np.uint8), r"not \(0, 4\) uint8"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    tmp_path: Path, answer: dict[str, Any], image: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        write_golden(Toy(**answer), image, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tolerance", [{"tolerance": 1.0}, {"tolerance": -1}, {"tolerance_px": float("nan")}])
def test_a_tolerance_that_lets_everything_pass_is_refused(
    tmp_path: Path, tolerance: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match="a tolerance must be"):
        write_golden(Toy(mask=threshold), PICTURE, tmp_path, **tolerance)


@pytest.mark.parametrize(
    ("change", "metadata"),
    [
        ({"landmarks/heart": np.ones((1, 2))}, {"tolerance": "0.1"}),
        ({"moving": PICTURE}, {"tolerance": "0.1"}),
        ({"more": PICTURE}, {"tolerance": "0.1"}),
        ({}, {"tolerance_px": "0.1"}),
        ({}, {"tolerance": "much"}),
        ({"mask": threshold(PICTURE)[1:]}, {"tolerance": "0.1"}),
    ],
)
def test_a_file_that_is_no_golden_test_is_refused(
    tmp_path: Path, change: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    tensors = {"image": PICTURE, "mask": threshold(PICTURE), **change}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / GOLDEN, metadata=metadata)
    with pytest.raises(WeightsError, match="is not a golden test"):
        run_golden(Toy(mask=threshold), tmp_path)


def test_outcomes_read_as_sentences() -> None:
    assert str(Difference(0.0123, 0.5, LANDMARKS)) == "0.0123 px away at most, 0.5 px allowed"
    assert str(Difference(0.0005, 0.001, LABEL_MAP)) == "0.0500% of the pixels differ, 0.1% allowed"
    assert str(Difference(2e-4, 0.001, GREY_VALUES)) == "voxels differ by 0.0200% of the range, 0.1% allowed"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_arrays_are_compressed_without_loss(tmp_path: Path, dtype: Any) -> None:
    plain = np.zeros((40, 30, 20), dtype)
    plain[5:9] = 7
    noise = np.random.default_rng(0).integers(0, 250, (30, 20)).astype(dtype)
    places = np.array([[0.5, np.pi]])
    path = write_arrays(tmp_path / GOLDEN, {"mask": plain, "image": noise, "landmarks/a": places}, {"x": "1"})
    assert path.stat().st_size < plain.nbytes / 5
    arrays, texts = read_arrays(path)
    assert texts == {"x": "1"}
    for name, given in (("mask", plain), ("image", noise), ("landmarks/a", places)):
        assert arrays[name].dtype == given.dtype
        np.testing.assert_array_equal(arrays[name], given)


@pytest.mark.parametrize(
    "said",
    [
        "uint8 40 30 21",
        "uint8 40 30 19",
        "uint8",
        "int64 40 30 20",
        "uint8 -40 -30 20",
        "uint8 99999 99999",
        "x",
    ],
)
def test_a_stream_that_is_not_what_the_file_says_is_refused(tmp_path: Path, said: str) -> None:
    path = write_arrays(tmp_path / GOLDEN, {"mask": np.zeros((40, 30, 20), np.uint8)}, {})
    tensors = load_file(path)
    save_file(tensors, path, metadata={"packed/mask": said})
    with pytest.raises(WeightsError, match="mask is not what the file says"):
        read_arrays(path)
    save_file({"mask": tensors["mask"][:-4].copy()}, path, metadata={"packed/mask": "uint8 40 30 20"})
    with pytest.raises(WeightsError, match="mask is not what the file says"):
        read_arrays(path)


def test_numbers_that_are_none_are_refused_in_streams_too(tmp_path: Path) -> None:
    field = np.zeros((40, 30), np.float32)
    field[3, 4] = np.nan
    with pytest.raises(WeightsError, match="NaN or infinity"):
        read_arrays(write_arrays(tmp_path / GOLDEN, {"displacement_px": field}, {}))


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    arrays = {name: np.full((20, 30), number, np.uint8) for number, name in enumerate("abcdefgh")}
    first, second = (
        write_arrays(tmp_path / name, arrays, {"tolerance": "0.1", "spacing_mm": "1 2"}).read_bytes()
        for name in ("first", "second")
    )
    assert first == second
    found, texts = read_arrays(tmp_path / "first")
    assert texts == {"tolerance": "0.1", "spacing_mm": "1 2"}
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
