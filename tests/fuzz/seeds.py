"""Small whole files of every format, the seeds that are mutated."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

Files = dict[str, bytes]
"""Name -> content; the first one is read and mutated, the others lie beside it."""

ROWS, COLUMNS = np.mgrid[:60, :48]
XRAY = (ROWS * 50 + COLUMNS * 7).astype(np.uint16)
GREY = (XRAY >> 4).astype(np.uint8)
LABELS = ((ROWS // 20) % 3).astype(np.uint8)
VOLUME = (np.arange(5)[:, None, None] * 100 + XRAY[None, :40, :44]).astype(np.int16)


def _picture(pixels: np.ndarray, name: str, **options: object) -> Files:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if options.pop("palette", False):
        picture = picture.convert("P")
    if options.pop("pages", False):
        options |= {"save_all": True, "append_images": [picture, picture]}
    formats = {"jpg": "JPEG", "jp2": "JPEG2000", "j2k": "JPEG2000", "tif": "TIFF", "pgm": "PPM"}
    kind = name.rsplit(".", 1)[1]
    picture.save(buffer, format=formats.get(kind, kind.upper()), **options)  # type: ignore[arg-type]
    return {name: buffer.getvalue()}


def _itk(values: np.ndarray, name: str, **options: object) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.5, 0.7, 3.0)[: values.ndim])
        sitk.WriteImage(image, str(Path(folder) / name), **options)
        found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {name: found.pop(name), **found}


def _data_set(pixels: np.ndarray, **attributes: object) -> Dataset:
    standard = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "PixelSpacing": [0.5, 0.7],
        "WindowCenter": 1500,
        "WindowWidth": 3000,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME1",
        "BitsAllocated": pixels.itemsize * 8,
        "BitsStored": 12 if pixels.itemsize == 2 else 8,
        "HighBit": 11 if pixels.itemsize == 2 else 7,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in (standard | attributes).items():
        setattr(data_set, keyword, value)
    return data_set


def _dicom(data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> Files:
    buffer = io.BytesIO()
    if syntax in (JPEG2000Lossless, RLELossless):
        data_set.compress(syntax)
    elif syntax == ExplicitVRBigEndian:
        data_set.PixelData = np.frombuffer(data_set.PixelData, "<u2").astype(">u2").tobytes()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.save_as(buffer, enforce_file_format=True)
    return {"a.dcm": buffer.getvalue()}


def _jpeg_dicom() -> Files:
    [content] = _picture(GREY, "a.jpg").values()
    data_set = _data_set(GREY, PixelData=encapsulate([content]))
    data_set["PixelData"].is_undefined_length = True
    return _dicom(data_set, JPEGBaseline8Bit)


def _table_dicom() -> Files:
    data_set = _data_set(XRAY)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], list(range(4096))
    table["LUTData"].VR = "US"
    data_set.VOILUTSequence = [table]
    return _dicom(data_set)


def _slice(number: int) -> bytes:
    place = {"ImagePositionPatient": [0, 0, 3 * number], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    [content] = _dicom(_data_set(XRAY, SOPInstanceUID=f"1.2.3.{number}", Modality="MR", **place)).values()
    return content


def _sample(*names: str) -> Callable[[], list[Files]]:
    def read() -> list[Files]:
        paths = [get_testdata_file(name, download=False) for name in names]
        return [{"a.dcm": Path(path).read_bytes()} for path in paths if isinstance(path, str)]

    return read


def _npy() -> list[Files]:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(332.0))
    return [{"a.npy": buffer.getvalue()}]


def _json() -> list[Files]:
    contour = {"lung_right": [[1, 2], [30, 4.5], [5, 60]], "heart": [[9, 9], [20, 9], [9, 20]]}
    result = {"schema_version": 1, "size": [48, 60], "spacing_mm": [0.5, 0.7], "landmarks": contour}
    return [{"a.json": json.dumps(value).encode()} for value in (contour, result)]


def _csv() -> list[Files]:
    rows = "".join(f"heart,{index},{index}.5,{index * index},,\n" for index in range(12))
    return [{"a.csv": ("organ,index,x_px,y_px,x_mm,y_mm\n" + rows).encode()}]


def _chexmask() -> list[Files]:
    points = " ".join(f"[{index % 40} {index % 50}]" for index in range(120))
    row = f'a.png,0.9,0.95,"[{points}]",61 5 121 5,200 9,1 4 60 4,60,48\n'
    text = "ImageID,Dice RCA (Mean),Dice RCA (Max),Landmarks,Left Lung,Right Lung,Heart,Height,Width\n" + row
    content = (text + row.replace("a.png", "b.png")).encode()
    return [{"a.csv": content}, {"a.csv.gz": gzip.compress(content, mtime=0)}]


def _nifti() -> list[Files]:
    files = [_itk(XRAY, "a.nii"), _itk(VOLUME, "a.nii"), _itk(VOLUME.astype(np.float32), "a.nii.gz")]
    return [*files, _itk(VOLUME, "a.hdr"), _itk(np.stack([LABELS] * 4), "a.nii.gz")]


def _nrrd() -> list[Files]:
    packed = _itk(VOLUME, "a.nrrd", useCompression=True)
    header, data = _itk(VOLUME, "a.nrrd")["a.nrrd"].split(b"\n\n", 1)
    text = header.replace(b"encoding: raw", b"encoding: text") + b"\n\n" + _as_text(data)
    return [_itk(XRAY, "a.nrrd"), packed, {"a.nrrd": text}, _itk(VOLUME, "a.nhdr")]


def _as_text(data: bytes) -> bytes:
    return " ".join(map(str, np.frombuffer(data, "<i2"))).encode()


def _pictures(*kinds: tuple[np.ndarray, str, dict[str, object]]) -> Callable[[], list[Files]]:
    return lambda: [_picture(pixels, name, **options) for pixels, name, options in kinds]


RGB = np.stack([GREY, GREY // 2, GREY // 3], axis=2)
SEEDS: dict[str, Callable[[], list[Files]]] = {
    "png": _pictures(
        (GREY, "a.png", {}), (XRAY, "a.png", {}), (RGB, "a.png", {}), (LABELS, "a.png", {"palette": 1})
    ),
    "jpeg": _pictures(
        (GREY, "a.jpg", {}),
        (RGB, "a.jpg", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        (GREY, "a.jpg", {"progressive": 1}),
    ),
    "tiff": _pictures(
        (XRAY, "a.tif", {}),
        (XRAY, "a.tif", {"compression": "tiff_lzw"}),
        (RGB, "a.tif", {"compression": "tiff_adobe_deflate"}),
        (GREY.astype(np.float32), "a.tif", {"compression": "tiff_adobe_deflate"}),
        (GREY, "a.tif", {"compression": "jpeg"}),
        (GREY, "a.tif", {"pages": 1}),
    ),
    "bmp": _pictures((GREY, "a.bmp", {}), (RGB, "a.bmp", {})),
    "gif": _pictures((GREY, "a.gif", {}), (GREY, "a.gif", {"pages": 1})),
    "jp2": _pictures((GREY, "a.jp2", {}), (XRAY, "a.j2k", {"no_jp2": True}), (RGB, "a.jp2", {})),
    "webp": _pictures((RGB, "a.webp", {}), (RGB, "a.webp", {"lossless": True})),
    "pgm": _pictures((GREY, "a.pgm", {})),
    "dicom": lambda: [
        _dicom(_data_set(XRAY)),
        _dicom(_data_set(XRAY), ImplicitVRLittleEndian),
        _dicom(_data_set(XRAY), ExplicitVRBigEndian),
        _table_dicom(),
    ],
    "dicom-jpeg": lambda: [_jpeg_dicom(), *_sample("SC_rgb_jpeg_dcmtk.dcm")()],
    "dicom-jpeg-lossless": _sample("SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm"),
    "dicom-j2k": lambda: [
        _dicom(_data_set(XRAY), JPEG2000Lossless),
        _dicom(_data_set(GREY), JPEG2000Lossless),
    ],
    "dicom-rle": lambda: [_dicom(_data_set(XRAY), RLELossless)],
    "dicom-deflated": lambda: [_dicom(_data_set(XRAY), DeflatedExplicitVRLittleEndian)],
    "dicom-series": lambda: [{f"{number}.dcm": _slice(number) for number in range(5)}],
    "nifti": _nifti,
    "mha": lambda: [_itk(XRAY, "a.mha"), _itk(VOLUME, "a.mha"), _itk(VOLUME, "a.mha", useCompression=True)],
    "mhd": lambda: [_itk(XRAY, "a.mhd"), _itk(VOLUME, "a.mhd", useCompression=True)],
    "nrrd": _nrrd,
    "npy": _npy,
    "json": _json,
    "csv": _csv,
    "chexmask": _chexmask,
}
"""Format -> its seeds."""


def all_seeds() -> Iterator[tuple[str, list[Files]]]:
    """Every format with its seeds."""
    for name, make in SEEDS.items():
        yield name, make()
