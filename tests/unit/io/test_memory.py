"""Inputs without a path are read as the files that they could be, by the same rules and under their names."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from anatozoo.errors import ImageError
from anatozoo.io.images import read_image
from anatozoo.io.masks import read_mask
from anatozoo.io.memory import input_name
from anatozoo.io.read import read_grid_image, read_labels, read_stack
from tests.support.dicom_data import SERIES, write_frames, write_scan, write_series

VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 20, 24)).astype(np.uint16)


class Named(io.BytesIO):
    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is written for a reader is gone when it has read."""
    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.dcm", PixelSpacing=[0.5, 0.5], ImagerPixelSpacing=[0.5, 0.5])


def test_a_radiograph_is_the_same_from_everywhere(scan: Path) -> None:
    known, content = read_image(scan), scan.read_bytes()
    dataset = pydicom.dcmread(scan)
    bare = Dataset()
    bare.update(dict(dataset.items()))
    for x, name in (
        (content, "bytes"),
        (bytearray(content), "bytes"),
        (memoryview(content), "bytes"),
        (io.BytesIO(content), "bytes"),
        (Named(content, "folder/scan.dcm"), "scan.dcm"),
        (dataset, dataset.SOPInstanceUID),
        (bare, dataset.SOPInstanceUID),
    ):
        image = read_image(x, invert=True)
        assert np.array_equal(image.pixels, read_image(scan, invert=True).pixels)
        assert (image.spacing_mm, image.flags, image.metadata) == (
            known.spacing_mm,
            known.flags,
            known.metadata,
        )
        assert (image.name, image.source, input_name(x)) == (name, None, name)
    for frame in (*read_image(content).dicom.frames, *read_image(dataset).dicom.frames):
        # The file is gone, and DICOM objects of the result refer to its header.
        assert (frame.path, frame.instance) == (None, dataset.SOPInstanceUID)
        assert frame.header.PatientID == dataset.PatientID
    with scan.open("rb") as file:
        assert read_grid_image(file, 2).name == "scan.dcm"
    assert read_grid_image(content, 2).grid == read_grid_image(scan, 2).grid


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_volume_is_the_same_from_bytes(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((1.0, 2.0, 7.0))
    path = tmp_path / f"heart{suffix}"
    sitk.WriteImage(image, str(path))
    known = read_stack(path)
    for x, name in ((path.read_bytes(), "bytes"), (Named(path.read_bytes(), path.name), path.name)):
        found = read_stack(x)
        assert np.array_equal(found.pixels, known.pixels)
        assert (found.grid, found.name, found.source) == (known.grid, name, None)


def test_a_series_is_a_list_of_data_sets(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    known = read_stack(write_series(tmp_path / "series", VOLUME))
    datasets = [pydicom.dcmread(path) for path in sorted((tmp_path / "series").iterdir())]
    for found in (read_stack(datasets), read_grid_image(tuple(reversed(datasets)), 3)):
        assert np.array_equal(found.pixels, known.pixels)
        assert (found.grid, found.name) == (known.grid, SERIES)
    frames = write_frames(tmp_path / "frames.dcm", VOLUME)
    assert read_stack(pydicom.dcmread(frames)).grid == read_stack(frames).grid
    with pytest.raises(ImageError, match=f"'{SERIES}' holds slices that are .* one is missing"):
        read_stack([each for each in datasets if each.ImagePositionPatient[2] != 20])
    datasets[2].PixelData = datasets[2].PixelData[:50]
    with pytest.raises(ImageError, match=f"'{SERIES}/00003.dcm' cannot be decoded"):
        read_stack(datasets)
    with pytest.raises(ImageError, match="from list; give a path"):
        read_image(datasets)
    with pytest.raises(ImageError, match="from list; give a path"):
        read_stack([])


def test_a_mask_is_read_from_bytes(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[4:20, 5:20], labels[20:30, 10:40] = 1, 2
    content = io.BytesIO()
    PIL.Image.fromarray(labels).save(content, "PNG")
    mask = read_mask(Named(content.getvalue(), "a_mask.png"), ["heart", "lungs"], 2)
    assert np.array_equal(mask.labels, labels)
    assert mask.name == "a_mask.png"
    assert np.array_equal(read_labels(content.getvalue(), 2)[0], labels)
    with pytest.raises(ImageError, match=r"the mask 'a_mask.png' holds the labels 2, "):
        read_mask(Named(content.getvalue(), "a_mask.png"), ["heart"], 2)
    with pytest.raises(ImageError, match="is DICOM, which label maps are not read from"):
        read_mask(pydicom.dcmread(write_scan(tmp_path / "a.dcm")), ["heart"], 2)


def broken() -> Dataset:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 30
    return dataset


class Upload:
    filename = "x.png"

    async def read(self, size: int) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (b"", "'bytes' is empty"),
        (b"garbage" * 100, "'bytes' cannot be read: it is not an image"),
        (io.StringIO("text"), r"'bytes' gives str rather than bytes; open it in binary mode \('rb'\)"),
        (Named(b"garbage" * 100, "c:\\a\\\x1b[31mb.png"), r"u001b\[31mb.png['\"] cannot be read"),
        (Named(b"", "scan.dcm"), r"'scan.dcm' is empty .*seek\(0\)"),
        (broken(), "'data set' has no pixel data"),
        (
            b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 20 20\nencoding: raw\ndata file: ../x\n\n",
            "'bytes' names '../x'",
        ),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "'bytes' "),
    ],
)
def test_what_is_wrong_is_said_under_its_name(x: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(x)
    assert "private" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:coroutine")
def test_an_upload_that_is_awaited_is_refused() -> None:
    with pytest.raises(
        ImageError, match=r"'x.png' gives coroutine rather than bytes.* of an upload give its"
    ):
        read_image(Upload())


def test_an_object_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Named(b"abc" * 100, "a.png")
    monkeypatch.setattr("anatozoo.io.memory.MAX_FILE_BYTES", 100)
    with pytest.raises(ImageError, match=r"'a.png' has over 100 "):
        read_image(file)
    file.close()
    with pytest.raises(ImageError, match=r"'a.png' cannot be read \(ValueError: "):
        read_image(file)
