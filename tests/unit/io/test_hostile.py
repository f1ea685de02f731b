"""Hostile headers and damaged streams: each is refused in a sentence, quickly and within little memory."""

import gzip
import io
import os
import socket
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit

from anatozoo.errors import AnatozooError, DataError, ImageError
from anatozoo.io import dicom_file, untrusted
from anatozoo.io.annotations import find_annotations
from anatozoo.io.images import read_image
from anatozoo.io.landmarks import read_landmarks
from anatozoo.io.read import read_grid_image, read_labels
from tests.fuzz.seeds import GREY, VOLUME, XRAY, _data_set, _dicom
from tests.unit.io.conftest import DicomWriter

Pixels = npt.NDArray[np.uint16]
META = (
    "ObjectType = Image\nNDims = 2\nBinaryData = True\nCompressedData = False\nElementSpacing = 0.4 0.5\n"
    "DimSize = 48 60\nElementType = MET_USHORT\nElementDataFile = LOCAL\n"
)
NRRD = "NRRD0004\ntype: uint16\ndimension: 2\nsizes: 48 60\nendian: little\nencoding: raw\n"


def annotate(path: Path) -> None:
    for entry in find_annotations(path).entries.values():
        entry.read()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("NDims = 2", f"NDims = {n}") for n in (-1, 0, 1, 6, 100, 10**6, 2**31, "x", "")),
        ("NDims = 2\n", ""),
        ("NDims = 2\n", "NDims = 2\nNDims = 3\n"),
        *(("48 60", size) for size in ("48", "48 60 2", "-48 60", "0 60", "48 60.5", "99999 99999", "x y")),
        *(("MET_USHORT", kind) for kind in ("MET_OTHER", "MET_STRING", "MET_NONE", "", "MET_DOUBLE")),
        ("BinaryData = True", "BinaryData = maybe"),
        ("NDims = 2", "NDims = 2\nHeaderSize = -5"),
        ("NDims = 2", "NDims = 2\nElementNumberOfChannels = 100000"),
        *(
            ("LOCAL", name)
            for name in ("LOCAL*", "LIST", "LIST 2D", "a%03d.raw 1 9 1", "", ".", "..", "no.raw")
        ),
        *(("LOCAL", name) for name in ("/dev/zero", "../a.raw", "sub/a.raw", "C:\\a.raw")),
        ("\nElementDataFile = LOCAL\n", "\n"),
        ("DimSize", "\0\0"),
        ("DimSize", "x" * 70_000),
    ],
)
def test_mad_headers_of_metaimage(tmp_path: Path, xray: Pixels, old: str, new: str) -> None:
    path = tmp_path / "a.mha"
    path.write_bytes(META.encode() + xray.tobytes())
    np.testing.assert_array_equal(read_image(path).pixels, xray)
    assert old in META
    path.write_bytes(META.replace(old, new, 1).encode() + xray.tobytes())
    for read in (read_image, lambda p: read_labels(p, 2), annotate, lambda p: read_grid_image(p, 2)):
        with pytest.raises(AnatozooError, match=r"a\.mha"):
            read(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("dimension: 2", f"dimension: {n}") for n in (-1, 0, 6, 17, 10**9, "x")),
        *(
            ("48 60", size)
            for size in ("48", "-48 60", "0 60", "99999 99999", "48 61", "18446744073709551617 1")
        ),
        *(("uint16", kind) for kind in ("block", "nonsense", "double")),
        *(("raw", kind) for kind in ("gzip", "zrl", "none")),
        ("encoding: raw", "encoding: raw\nencoding: gzip"),
        *(
            ("encoding", f"data file: {name}\nencoding")
            for name in ("LIST", "/dev/zero", "../a", "s%d 1 9 1", "no")
        ),
        ("encoding", "byte skip: x\nencoding"),
        ("NRRD0004", "NRRD0009"),
        ("type", "x" * 70_000),
    ],
)
def test_mad_headers_of_nrrd(tmp_path: Path, xray: Pixels, old: str, new: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.encode() + b"\n" + xray.tobytes())
    np.testing.assert_array_equal(read_image(path).pixels, xray)
    path.write_bytes(NRRD.replace(old, new, 1).encode() + b"\n" + xray.tobytes())
    for read in (read_image, lambda p: read_labels(p, 2)):
        with pytest.raises(ImageError, match=r"a\.nrrd"):
            read(path)


@pytest.mark.parametrize(
    ("at", "packed"),
    [
        *((40, struct.pack("<h", n)) for n in (0, -1, 8)),
        *((42, struct.pack("<h", n)) for n in (0, -44)),
        (42, struct.pack("<3h", 32_767, 32_767, 32_767)),
        *((70, struct.pack("<h", n)) for n in (0, 1, 1536, 2048, -4)),
        (72, struct.pack("<h", 8)),
        *((108, struct.pack("<f", n)) for n in (float("nan"), float("inf"), -352, 1e30, 10_000, 352.5)),
        *((112, struct.pack("<f", n)) for n in (float("nan"), float("inf"))),
    ],
)
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_mad_headers_of_nifti(tmp_path: Path, at: int, packed: bytes, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(tmp_path / "whole.nii"))
    data = bytearray((tmp_path / "whole.nii").read_bytes())
    data[at : at + len(packed)] = packed
    path.write_bytes(gzip.compress(data, 1) if suffix == "nii.gz" else data)
    for read in (lambda p: read_grid_image(p, 3), lambda p: read_labels(p, 3)):
        with pytest.raises(ImageError, match=r"a\.nii"):
            read(path)


def test_voxels_beside_their_header_and_nowhere_else(tmp_path: Path, xray: Pixels) -> None:
    folder, away = tmp_path / "a", tmp_path / "away"
    folder.mkdir()
    away.mkdir()
    (away / "x.raw").write_bytes(xray.tobytes())
    heads = {
        "a.mhd": META.replace("LOCAL", "x.raw"),
        "a.nhdr": NRRD + "data file: x.raw\n",
        "b.mhd": META.replace("LOCAL", "./x.raw"),
        "b.nhdr": NRRD + "data file: ./x.raw\n",
    }
    for name, text in heads.items():
        (folder / name).write_text(text)
    (folder / "x.raw").symlink_to(away / "x.raw")
    for name in heads:
        with pytest.raises(ImageError, match="link out of the folder"):
            read_image(folder / name)
    (folder / "x.raw").unlink()
    (folder / "x.raw").write_bytes(xray.tobytes())
    for name in heads:
        np.testing.assert_array_equal(read_image(folder / name).pixels, xray)
    (folder / "x.raw").write_bytes(xray.tobytes()[:-1])
    for name in heads:
        with pytest.raises(ImageError, match="before its last voxel"):
            read_image(folder / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["p.png", "p.nii.gz", "p.mha", "p.dcm", "p.npy", "p.json", "p.csv"])
def test_pipes_and_sockets_are_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / f"s{name}"))
        start = time.monotonic()
        for path in (tmp_path / name, tmp_path / f"s{name}"):
            reads = [read_landmarks] if name.endswith(("npy", "json", "csv")) else [
                read_image, lambda p: read_labels(p, 2), lambda p: read_grid_image(p, 3),
            ]  # fmt: skip
            for read in reads:
                with pytest.raises(AnatozooError, match="device or a pipe"):
                    read(path)
    assert time.monotonic() - start < 10


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "MOST_INFLATED_BYTES", 2**20)
    [whole] = _dicom(_data_set(XRAY), DeflatedExplicitVRLittleEndian).values()
    path = tmp_path / "a.dcm"
    path.write_bytes(whole)
    assert read_image(path).pixels.shape == XRAY.shape
    at = 144 + struct.unpack("<I", whole[140:144])[0]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunks = [squeeze.compress(struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, 2**23))]
    chunks += [squeeze.compress(bytes(2**22)) for _ in range(2)]
    path.write_bytes(whole[:at] + b"".join(chunks) + squeeze.flush())
    with pytest.raises(ImageError, match=r"inflates to over 1048576"):
        read_image(path)
    path.write_bytes(whole[:-9])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_image(path)


def jpeg(pixels: npt.NDArray[np.uint8], **options: object) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "JPEG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 255, (120, 88)).astype(np.uint8)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"quality": 20}, {"optimize": True}])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
def test_a_jpeg_that_is_closed_early_is_truncated(
    tmp_path: Path, options: dict[str, int], kept: float
) -> None:
    whole = jpeg(NOISE, **options)
    cut = whole[: int(len(whole) * kept)].rstrip(b"\xff") + b"\xff\xd9"
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).size == (88, 120)
    path.write_bytes(cut)
    for read in (read_image, lambda p: read_labels(p, 2)):
        with pytest.raises(ImageError, match=r"a\.jpg' is damaged or truncated"):
            read(path)


@pytest.mark.parametrize("colour", [False, True])
def test_a_progressive_jpeg_that_is_closed_early_is_truncated(tmp_path: Path, colour: bool) -> None:
    whole = jpeg(
        np.stack([NOISE, NOISE.T.reshape(NOISE.shape), NOISE], -1) if colour else NOISE, progressive=True
    )
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).size == (88, 120)
    for kept in (0.1, 0.3, 0.5, 0.7):
        path.write_bytes(whole[: int(len(whole) * kept)].rstrip(b"\xff") + b"\xff\xd9")
        with pytest.raises(ImageError, match=r"a\.jpg' is damaged or truncated"):
            read_image(path)


def jpeg_dicom(path: Path, content: bytes) -> None:
    data_set = _data_set(NOISE, PixelData=encapsulate([content]))
    data_set["PixelData"].is_undefined_length = True
    path.write_bytes(_dicom(data_set, JPEGBaseline8Bit)["a.dcm"])


def test_compressed_pixels_of_another_size_than_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    jpeg_dicom(path, jpeg(NOISE))
    assert read_image(path).size == (88, 120)
    jpeg_dicom(path, jpeg(NOISE[:, :80]))
    with pytest.raises(ImageError, match="80 x 120 x 1, but its header says 88 x 120 x 1"):
        read_image(path)
    whole = jpeg(NOISE)
    at = whole.index(b"\xff\xc0") + 5
    jpeg_dicom(path, whole[:at] + struct.pack(">HH", 60_000, 60_000) + whole[at + 4 :])
    with pytest.raises(ImageError, match="bytes are there for 60000 x 60000"):
        read_image(path)
    jpeg_dicom(path, whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(path)


def test_a_jpeg_has_one_frame_and_a_scan(tmp_path: Path) -> None:
    whole = jpeg(NOISE)
    table, scan = whole.rindex(b"\xff\xc4"), whole.index(b"\xff\xda")
    frame = whole[whole.index(b"\xff\xc0") :][:13]
    damaged = {
        # The last table reaches beyond the end: in search of a scan, a decoder would fill the memory.
        "the first scan is missing": whole[: table + 2]
        + b"\xff\xf0"
        + whole[table + 4 : scan + 400]
        + b"\xff\xd9",
        "the size is stated twice": whole[:scan] + frame + whole[scan:],
    }
    for said, content in damaged.items():
        jpeg_dicom(tmp_path / "a.dcm", content)
        (tmp_path / "a.jpg").write_bytes(content)
        for name in ("a.dcm", "a.jpg"):
            with pytest.raises(ImageError, match=said):
                read_image(tmp_path / name)


def test_jpeg_2000_without_its_data(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PILImage.fromarray(NOISE).save(buffer, "JPEG2000", no_jp2=True, tile_size=(32, 32))
    whole, path = buffer.getvalue(), tmp_path / "a.j2k"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_image(path).pixels, NOISE)
    for cut in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9", whole[:40]):
        path.write_bytes(cut)
        with pytest.raises(ImageError, match="damaged or truncated"):
            read_image(path)
    claimed = whole[:8] + struct.pack(">II", 7000, 7000) + whole[16:]
    path.write_bytes(claimed)
    with pytest.raises(ImageError, match="bytes are there for 7000 x 7000"):
        read_image(path)


def test_a_box_of_a_jp2_file_that_is_longer_than_any_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PILImage.fromarray(NOISE).save(buffer, "JPEG2000")
    whole, path = buffer.getvalue(), tmp_path / "a.jp2"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_image(path).pixels, NOISE)
    for length in (2**64 - 1, 2**63, len(whole)):
        path.write_bytes(whole[:12] + struct.pack(">I4sQ", 1, b"free", length) + whole[12:])
        with pytest.raises(ImageError, match="damaged or truncated"):
            read_image(path)


@pytest.mark.parametrize(("suffix", "said"), [("tif", "10 or more pages"), ("gif", "10 or more pages")])
def test_pages_are_not_counted_for_minutes(tmp_path: Path, suffix: str, said: str) -> None:
    pages = [PILImage.fromarray(GREY + n % 2) for n in range(300)]
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / f"a.{suffix}")
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:3])
    with pytest.raises(ImageError, match="holds 3 pages"):
        read_image(tmp_path / f"a.{suffix}")


def test_a_gzipped_table_that_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_FREE_INFLATION", 2**20)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"ImageID,Landmarks\n" + bytes(2**22), 9))
    with pytest.raises(DataError, match="inflates to over 100 times"):
        annotate(path)


def test_sizes_and_files_over_the_limits(tmp_path: Path, write_dicom: DicomWriter, xray: Pixels) -> None:
    for size in ("16385 30", "9000 9000"):
        (tmp_path / "a.pgm").write_bytes(f"P5 {size} 255\n".encode() + bytes(500))
        for read in (read_image, lambda p: read_labels(p, 2)):
            with pytest.raises(ImageError, match=r"over the limit of 16384 a side or 67108864"):
                read(tmp_path / "a.pgm")
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ImageError, match=r"at most 1073741824 .* are read"):
        read_image(tmp_path / "a.png")


def test_an_element_of_an_unknown_kind_is_damage(tmp_path: Path) -> None:
    [whole] = _dicom(_data_set(XRAY)).values()
    at = whole.index(b"\x28\0\x11\0US")
    path = tmp_path / "a.dcm"
    path.write_bytes(whole[: at + 4] + b"U\x5b" + whole[at + 6 :])
    for read in (lambda p: read_image(p, allow_any_modality=True), lambda p: read_grid_image(p, 3)):
        with pytest.raises(ImageError, match=r"a\.dcm"):
            read(path)
