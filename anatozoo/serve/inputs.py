"""Find the images that files, folders and patterns on the command line stand for."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatozoo.results import FORMATS
from anatozoo.serve.manifest import MANIFEST_NAME

IMAGE_SUFFIXES = (
    ".nii.gz",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".dcm",
    ".dicom",
    ".nii",
    ".mha",
    ".mhd",
    ".nrrd",
)

_DICOM_MAGIC_AT, _DICOM_MAGIC = 128, b"DICM"
# DICOM files are often named by a UID, whose last number looks like a suffix.
_NO_SUFFIX_OR_UID = re.compile(r"[^.]+|.*\.\d+", re.DOTALL)
_OUTPUT_ENDINGS = tuple(
    ending for endings in FORMATS.values() for ending in endings if ending.endswith(IMAGE_SUFFIXES)
)


@dataclass(frozen=True)
class Found:
    """Images in a fixed order, and arguments that led to none.

    Attributes:
        images: absolute paths, each once.
        missing: argument (absolute) -> reason.
    """

    images: tuple[Path, ...]
    missing: dict[str, str]

    def __len__(self) -> int:
        return len(self.images) + len(self.missing)


def image_suffix(name: str) -> str:
    """The suffix of an image's file name, as in ``IMAGE_SUFFIXES``; empty where it has none of them."""
    lower = name.lower()
    suffix = next((s for s in IMAGE_SUFFIXES if lower.endswith(s) and len(lower) > len(s)), "")
    return name[len(name) - len(suffix) :]


def find_images(inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Found:
    """Resolve files, folders and patterns.

    A file that is named is always taken; folders are searched to the bottom. Folders and patterns give files
    whose names say image or, for files without a suffix, whose contents say DICOM. Hidden files are left out,
    and so are the results in `out`.

    Args:
        inputs: paths or patterns (``*``, ``?``, ``[...]``, ``**``).
        out: folder of the results.
    """
    images: dict[Path, None] = {}
    missing: dict[str, str] = {}
    results = Path(os.path.abspath(out))
    for given in inputs:
        path = Path(os.path.abspath(os.path.expanduser(os.fspath(given))))
        found = list(_resolve(path, results))
        if found:
            images.update(dict.fromkeys(found))
        else:
            missing[str(path)] = _why_none(path)
    return Found(tuple(images), missing)


def _resolve(path: Path, results: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _walk(path, results)
    elif os.path.lexists(path):
        yield path
    elif glob.has_magic(str(path)):
        for match in sorted(glob.glob(str(path), recursive=True)):
            if os.path.isdir(match):
                # `**` lists the files of folders by itself.
                if "**" not in path.parts:
                    yield from _walk(Path(match), results)
            elif _is_image(Path(match), results):
                yield Path(match)


def _why_none(path: Path) -> str:
    if path.is_dir():
        return f"There is no image in this folder; images end in {', '.join(IMAGE_SUFFIXES)}."
    if glob.has_magic(str(path)):
        return "No image matches this pattern."
    return "There is no such file or folder; check the path."


def _walk(root: Path, results: Path) -> Iterator[Path]:
    """Images below a folder, links followed but no folder visited twice."""
    visited: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        # Results of an earlier run are no images to segment, unless one asks for that folder itself.
        if real in visited or (Path(folder) == results and results != root):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(folder, name)
            if _is_image(path, results):
                yield path


def _is_image(path: Path, results: Path) -> bool:
    name = path.name
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    if path.parent == results and name.endswith(_OUTPUT_ENDINGS) and (results / MANIFEST_NAME).exists():
        return False
    if image_suffix(name):
        return True
    return _NO_SUFFIX_OR_UID.fullmatch(name) is not None and _says_dicom(path)


def _says_dicom(path: Path) -> bool:
    try:
        # Anything but a plain file, such as a named pipe, could block for ever.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_DICOM_MAGIC_AT + len(_DICOM_MAGIC))
    except OSError:
        return False
    return head[_DICOM_MAGIC_AT:] == _DICOM_MAGIC
