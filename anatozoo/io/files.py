"""Decode image files, told apart by their content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from anatozoo.errors import AnatozooError, ImageError, turned_into
from anatozoo.io import tiff
from anatozoo.io.decoded import Decoded
from anatozoo.io.limits import MAX_PIXELS
from anatozoo.io.picture_headers import checked_picture
from anatozoo.io.pictures import decode_picture
from anatozoo.io.untrusted import open_regular
from anatozoo.io.volumes import decode_volume, is_volume

# Pillow knows more formats, but some of them start other programs or are never X-rays.
_PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "JPEG2000", "WEBP", "PPM", "GIF")
_DICOM_MAGIC_AT, _DICOM_MAGIC = 128, b"DICM"
# Without the preamble, DICOM begins with an element of group 2 or 8, little endian, or of 8, big endian.
_DICOM_BARE = (b"\x02\0\0\0", b"\x02\0\x01\0", b"\x02\0\x10\0", b"\x08\0", b"\0\x08\0")
_HEAD_BYTES = 512
_MEDIA_CLASS = b"\x02\0\x02\0UI"
_ABOUT_IMAGES = tuple(
    b"1.2.840.10008.5.1.4.1.1." + end
    # Segmentations, structure sets, reports of all kinds and presentation states.
    for end in (b"66.4", b"66.7", b"481.3", b"88.", b"11.")
)
_DOUBLE_SUFFIXES = (".nii.gz", ".img.gz")
IMAGES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".pgm"),
    *(".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr"),
)
"""Suffixes of images of any kind."""
_NAMED_BY = (*_DOUBLE_SUFFIXES, *IMAGES, ".img", ".raw", ".npy", ".npz", ".json", ".txt", ".csv", ".mat")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# DICOM files are often named by a UID, whose last number looks like a suffix.
_NO_SUFFIX_OR_UID = re.compile(r"[^.]+|.*\.\d+", re.DOTALL)


def stem_of(path: Path) -> str:
    """File name without its suffix, ``.nii.gz`` counting as one."""
    bare = _without(path.name, _DOUBLE_SUFFIXES)
    return path.stem if bare == path.name else bare


def without_suffix(name: str) -> str:
    """A name without a suffix of images or annotations; ``s.left`` and ``1.2.840.113`` have none."""
    return _without(name, _NAMED_BY)


def _without(name: str, suffixes: Iterable[str]) -> str:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def decode_file(path: Path, *, allow_any_modality: bool = False) -> Decoded:
    """Decode an image file.

    Raises:
        ImageError: the file is missing, a folder, empty, damaged or no image.
    """
    label = repr(str(path))
    head = _read_head(path, label)
    # SimpleITK and pydicom take most of a second to import: not before a file needs them.
    if _is_dicom(head):
        from anatozoo.io.dicom import decode_dicom

        with damaged(label):
            return decode_dicom(path, allow_any_modality=allow_any_modality)
    if is_volume(head, path):
        return decode_volume(path, label)
    return _decode_picture_file(path, label)


def damaged(label: str) -> AbstractContextManager[None]:
    """Parsing of a file that a hostile hand may have made: an `ImageError` if the parser fails."""
    return turned_into(ImageError, lambda reason: f"{label} is damaged ({reason}); copy or export it again.")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content; False where it cannot be opened."""
    try:
        return _is_dicom(_read_head(path, repr(str(path))))
    except ImageError:
        return False


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files right in a folder, sorted by name: by what they hold, or by a suffix that says so.

    Where such files have no suffix, empty ones without a suffix are among them, for they may have been
    slices. Hidden files and a DICOMDIR are not, nor are segmentations, structure sets, reports and
    presentation states, which are about images.
    """
    files = [path for path in sorted(folder.iterdir()) if not is_hidden(path.name) and path.is_file()]
    files = [path for path in files if not _is_about_images(path)]
    found = {path for path in files if path.name.lower().endswith(_DICOM_SUFFIXES) or is_dicom(path)}
    if any(has_no_suffix(path.name) for path in found):
        found |= {path for path in files if has_no_suffix(path.name) and not path.stat().st_size}
    return sorted(found)


def _is_about_images(path: Path) -> bool:
    """Whether a file says by its first elements that it is a DICOM object about images, and none itself."""
    try:
        head = _read_head(path, repr(str(path)))
    except ImageError:
        return False
    if not head[_DICOM_MAGIC_AT:].startswith(_DICOM_MAGIC):
        return False
    _, found, rest = head.partition(_MEDIA_CLASS)
    length = int.from_bytes(rest[:2], "little")
    return bool(found) and rest[2 : 2 + length].rstrip(b"\0").startswith(_ABOUT_IMAGES)


def has_no_suffix(name: str) -> bool:
    """Whether a file's name has no suffix, the numbers of a UID being none."""
    return _NO_SUFFIX_OR_UID.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Whether a name is that of a file that is not an image: a hidden one, or DICOM's table of contents."""
    return name.startswith(".") or name.upper() == "DICOMDIR"


def _is_dicom(head: bytes) -> bool:
    return head[_DICOM_MAGIC_AT:].startswith(_DICOM_MAGIC) or head.startswith(_DICOM_BARE)


def _read_head(path: Path, label: str) -> bytes:
    if path.is_dir():
        raise ImageError(f"{label} is a folder; give one file, or run `anatozoo predict` on the folder.")
    with open_regular(path) as file:
        try:
            head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise ImageError(f"{label} cannot be read: {error.strerror}. Check the disk.") from error
    if not head:
        raise ImageError(f"{label} is empty (zero bytes); copy or export it again.")
    return head


@contextmanager
def open_picture(path: Path, label: str) -> Iterator[PILImage.Image]:
    """Open a picture file with Pillow, nothing decoded yet; what fails in the block is told of the file.

    Raises:
        ImageError: the file is missing, no regular file, no picture, damaged, or claims an impossible size.
        UnidentifiedImageError: Pillow does not know it, but it begins as a TIFF does.
    """
    head = _read_head(path, label)
    checked = checked_picture(path, head, label)
    try:
        with PILImage.open(checked, formats=_PICTURE_FORMATS) as picture:
            yield picture
    except AnatozooError:
        raise
    except (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning) as error:
        raise ImageError(
            f"{label} has over {MAX_PIXELS} (2**26) pixels, the limit; shrink it first."
        ) from error
    except UnidentifiedImageError as error:
        if head.startswith(tiff.MAGICS):
            raise
        raise ImageError(
            f"{label} cannot be read: it is not an image of a known kind; give PNG, JPEG, TIFF, BMP, DICOM, "
            "NIfTI, MHA or NRRD."
        ) from error
    except Exception as error:  # a hostile file makes decoders fail in any way they like
        raise ImageError(f"{label} is damaged or truncated ({error}); copy or export it again.") from error


def _decode_picture_file(path: Path, label: str) -> Decoded:
    try:
        with open_picture(path, label) as picture:
            return decode_picture(picture, label, path)
    except UnidentifiedImageError:
        return tiff.decode_tiff(path, label)
