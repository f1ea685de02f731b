"""2-D methods see radiographs of pixels that are not square with their proportions, and answer on them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk

import anatozoo
from anatozoo.io.images import Image, read_image
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.samples import sample_radiograph
from tests.support.phantoms import make_chest_phantom

Pixels = npt.NDArray[np.uint16]
Landmarks = dict[str, npt.NDArray[Any]]
CLOSE_PX = 1.0
"""Mean distance of contours, of 640 rows: halved and doubled, a picture is not quite the same."""


@pytest.fixture(scope="module")
def square() -> Pixels:
    """A real radiograph, bone white, 12 bits, 600 x 640, of a resolution of which half the rows keep all."""
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.intensity import normalize_intensity

    image = read_image(sample_radiograph())
    small = Geometry.fit(image.size, (300, 320), mode="stretch").image_to_target(image.pixels)
    whole = Geometry.fit((300, 320), (600, 640)).image_to_target(small)
    return np.round(4095 * normalize_intensity(whole)).astype(np.uint16)


def rows_halved(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pixels twice as high."""
    return np.round(pixels.reshape(-1, 2, pixels.shape[1]).mean(1)).astype(pixels.dtype)


def columns_halved(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pixels twice as wide."""
    return np.round(pixels.reshape(len(pixels), -1, 2).mean(2)).astype(pixels.dtype)


STORED: dict[str, tuple[Any, dict[str, Any], tuple[float, float]]] = {
    "spacing, high": (rows_halved, {"PixelSpacing": [1.2, 0.6]}, (1, 2)),
    "imager, wide": (columns_halved, {"ImagerPixelSpacing": [0.6, 1.2]}, (2, 1)),
    "ratio, high": (rows_halved, {"PixelAspectRatio": [2, 1]}, (1, 2)),
    "ratio, wide": (columns_halved, {"PixelAspectRatio": [1, 2]}, (2, 1)),
}


def write(path: Path, pixels: Pixels, **attributes: Any) -> Path:
    dataset = pydicom.dcmread(sample_radiograph())
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "WindowCenter", "WindowWidth"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def on_square(points: npt.NDArray[Any], factors: tuple[float, float]) -> npt.NDArray[Any]:
    """Points of the halved picture in pixels of the whole one."""
    return (np.asarray(points) + 0.5) * factors - 0.5


def distances(points: npt.NDArray[Any], contour: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How far each point is from a closed contour."""
    closed = contour.astype(np.float32)[:, None]
    return np.array([abs(cv2.pointPolygonTest(closed, (float(x), float(y)), True)) for x, y in points])


def off(found: Landmarks, expected: Landmarks, factors: tuple[float, float]) -> float:
    """Mean distance of all contours of the halved picture from those of the whole one."""
    parts = [distances(on_square(found[o], factors), points) for o, points in expected.items()]
    return float(np.concatenate(parts).mean())


@pytest.fixture(scope="module")
def hybridgnet() -> Any:
    return anatozoo.load("hybridgnet-jsrt")


@pytest.fixture(scope="module")
def landmarks(square: Pixels, hybridgnet: Any) -> Landmarks:
    found: Landmarks = hybridgnet.predict(square).landmarks
    return found


@pytest.mark.parametrize("how", STORED)
def test_landmarks_are_those_of_the_square_picture(
    square: Pixels, hybridgnet: Any, landmarks: Landmarks, tmp_path: Path, how: str
) -> None:
    halve, attributes, factors = STORED[how]
    model = hybridgnet
    found = model.predict(write(tmp_path / "b.dcm", halve(square), **attributes))
    assert "non_square_pixels" in found.flags
    assert found.size == halve(square).shape[::-1]
    assert off(found.landmarks, landmarks, factors) < CLOSE_PX
    for organ, points in landmarks.items():
        # Landmarks also slide along their contour, which moves nothing.
        away = np.linalg.norm(on_square(found.landmarks[organ], factors) - points, axis=1)
        assert away.mean() < 2 * CLOSE_PX
    if "PixelAspectRatio" in attributes:
        assert found.landmarks_mm is None
        return
    assert found.landmarks_mm is not None
    for organ, points in landmarks.items():
        # Millimetres start at the centre of the first pixel, which lies further inside.
        there = 0.6 * (points - (np.asarray(factors) - 1) / 2)
        assert distances(found.landmarks_mm[organ], there).mean() < 0.6 * 2 * CLOSE_PX


@pytest.mark.parametrize("how", ["spacing, high", "ratio, wide"])
def test_label_maps_are_those_of_the_square_picture(square: Pixels, tmp_path: Path, how: str) -> None:
    halve, attributes, (fx, fy) = STORED[how]
    model = anatozoo.load("unet-jsrt")
    expected = model.predict(write(tmp_path / "a.dcm", square)).mask
    found = model.predict(write(tmp_path / "b.dcm", halve(square), **attributes)).mask
    assert found.shape == halve(square).shape
    whole = found.repeat(int(fy), 0).repeat(int(fx), 1)
    for label in np.unique(expected)[1:]:
        a, b = whole == label, expected == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > (0.97 if b.sum() > 5000 else 0.9)


@pytest.mark.parametrize("name", ["acregnet-jsrt", "affinereg-jsrt-rca"])
@pytest.mark.parametrize("how", ["ratio, high", "imager, wide"])
def test_fields_are_those_of_the_square_picture(square: Pixels, tmp_path: Path, name: str, how: str) -> None:
    halve, attributes, (fx, fy) = STORED[how]
    model = anatozoo.load(name)
    other = np.roll(square, (18, -12), (0, 1))
    spacing = {} if "PixelAspectRatio" in attributes else {"PixelSpacing": [0.6, 0.6]}
    plain = [write(tmp_path / f"{n}.dcm", p, **spacing) for n, p in enumerate((other, square))]
    halved = [write(tmp_path / f"h{n}.dcm", halve(p), **attributes) for n, p in enumerate((other, square))]
    expected = model.predict(*plain).displacement_px
    found = model.predict(*halved).displacement_px * [fx, fy]
    height, width = expected.shape[:2]
    means = expected.reshape(height // int(fy), int(fy), width // int(fx), int(fx), 2).mean((1, 3))
    inner = (slice(20, -20), slice(20, -20))
    away = np.linalg.norm(found[inner] - means[inner], axis=-1)
    # The affine network sees 128 pixels, of which one is five of these.
    assert away.mean() < (CLOSE_PX if name.startswith("acregnet") else 2 * CLOSE_PX)


def test_quality_is_that_of_the_square_picture(square: Pixels, tmp_path: Path) -> None:
    from anatozoo.io.read import read_grid_image
    from anatozoo.quality.atlas import in_frame

    expected = in_frame(read_grid_image(write(tmp_path / "a.dcm", square), 2), (256, 256))
    for how, (halve, attributes, _) in STORED.items():
        path = write(tmp_path / "b.dcm", halve(square), **attributes)
        seen = in_frame(read_grid_image(path, 2), (256, 256))
        assert np.abs(seen.pixels - expected.pixels).mean() < 0.01, how


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "postdae-jsrt",
            {"lung_right": 1, "lung_left": 2, "heart": 3, "clavicle_right": 4, "clavicle_left": 5},
        ),
        ("aenet-jsrt", {"lung_right": 1, "lung_left": 1, "heart": 2}),
    ],
)
def test_masks_are_those_of_the_square_picture(tmp_path: Path, name: str, values: dict[str, int]) -> None:
    model = anatozoo.load(name)
    contours = make_chest_phantom(400, 400).landmarks
    labels = np.zeros((400, 400), np.uint8)
    for organ, value in values.items():
        labels[draw_organ_mask(contours[organ], (400, 400))] = value
    paths = []
    for stored, spacing in ((labels, (1.0, 1.0)), (labels[::2], (1.0, 2.0))):
        image = sitk.GetImageFromArray(stored)
        image.SetSpacing(spacing)
        paths.append(str(tmp_path / f"{len(stored)}.nii.gz"))
        sitk.WriteImage(image, paths[-1])
    expected, found = (model.predict(path).mask for path in paths)
    assert found.shape == (200, 400)
    for value in set(values.values()):
        a, b = found.repeat(2, 0) == value, expected == value
        assert b.sum() > 1000
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > (0.97 if value < 4 else 0.9)


def test_an_image_from_memory_takes_the_spacing_it_is_given(
    square: Pixels, hybridgnet: Any, landmarks: Landmarks
) -> None:
    model = hybridgnet
    for found in (
        model.predict(rows_halved(square), spacing_mm=(0.6, 1.2)),
        model.predict(Image(rows_halved(square).astype(np.float32), aspect=2.0)),
    ):
        assert off(found.landmarks, landmarks, (1, 2)) < CLOSE_PX
