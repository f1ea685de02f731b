"""Find the images or masks that files, folders and patterns on the command line stand for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatozoo.errors import DataError
from anatozoo.io.files import dicom_files, has_no_suffix, is_hidden
from anatozoo.serve.manifest import MANIFEST_NAME, has_manifest
from anatozoo.serve.outputs import ENDINGS

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
MASK_SUFFIXES = (".nii.gz", ".png", ".tif", ".tiff", ".bmp", ".nii", ".mha", ".mhd", ".nrrd")
"""Formats of `IMAGE_SUFFIXES` that keep labels as they are."""
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
"""Formats of `IMAGE_SUFFIXES` whose files hold whole volumes."""
MASK_ENDING = "_mask"
"""What `anatozoo predict` appends to the stem of a mask."""
TRUTH_ENDING = "_gt"
"""What ACDC appends to the stem of a volume for its ground truth, which lies beside it."""

_DICOM_MAGIC_AT, _DICOM_MAGIC = 128, b"DICM"
_OUTPUT_ENDINGS = tuple(ending for ending in ENDINGS if ending.endswith(IMAGE_SUFFIXES))
# Pictures, label maps and fields; restored, translated and warped images may well be inputs.
_NO_IMAGES = tuple(
    e
    for e in _OUTPUT_ENDINGS
    if (e.endswith((".png", ".dcm")) or e.startswith(("_mask", "_displac"))) and e != "_translated.png"
)
# In the order of preference: volumes know their spacing.
_MASK_OUTPUTS = tuple(MASK_ENDING + suffix for suffix in (".nii.gz", ".mha", ".png"))


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        what: one of them, in a word.
        suffixes: what names of such files end in.
        dicom: whether files without a suffix count whose contents say DICOM.
        masks: whether it is masks, which results of earlier runs may be.
        series: whether a folder with DICOM files right in it is one, with all of them.
    """

    what: str
    suffixes: tuple[str, ...]
    dicom: bool = False
    masks: bool = False
    series: bool = False


IMAGES = Wanted("image", IMAGE_SUFFIXES, dicom=True)
VOLUMES = Wanted("volume", VOLUME_SUFFIXES, series=True)
MASKS = Wanted("mask", MASK_SUFFIXES, masks=True)
WANTED = {wanted.what: wanted for wanted in (IMAGES, VOLUMES, MASKS)}
"""What is looked for, by what a kind takes."""


@dataclass(frozen=True)
class Found:
    """Files in a fixed order, and arguments that led to none.

    Attributes:
        images: absolute paths, each once; of a DICOM series its folder.
        missing: argument (absolute) -> reason.
        roots: image -> the folder that was given; of files that were given, their folder.
    """

    images: tuple[Path, ...]
    missing: dict[str, str]
    roots: Mapping[Path, Path] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images) + len(self.missing)

    def check(self) -> None:
        """Make sure that there is something to do.

        Raises:
            DataError: there is no file; the message gives the reason for each argument.
        """
        if not self.images:
            reasons = "; ".join(f"{file!r}: {reason.rstrip('.')}" for file, reason in self.missing.items())
            raise DataError(f"there is nothing to do. {reasons or 'Give files, folders or patterns'}.")


def image_suffix(name: str) -> str:
    """The suffix of an image's file name, as in ``IMAGE_SUFFIXES``; empty where it has none of them."""
    lower = name.lower()
    suffix = next((s for s in IMAGE_SUFFIXES if lower.endswith(s) and len(lower) > len(s)), "")
    return name[len(name) - len(suffix) :]


def find(
    inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, wanted: Wanted
) -> Found:
    """Resolve files, folders and patterns.

    A file that is named is always taken; folders are searched to the bottom. Folders and patterns give files
    whose names say what is wanted or, of images, files without a suffix whose contents say DICOM. Hidden
    files are left out, and so are the results in `out`. Pictures, label maps and displacements of a run into
    any folder are neither images nor volumes, and ``a_gt.nii.gz`` beside ``a.nii.gz`` is no volume either.

    Where masks are wanted, a folder of results, which holds a ``manifest.csv``, gives the label maps among
    them and no other picture; of one that was saved in several formats, the first of NIfTI, MetaImage and
    PNG. Volumes are files of volumes, and folders with DICOM files right in them, whose slices are one
    volume. A DICOM file that is named is taken too: it may hold several slices.

    Args:
        inputs: paths or patterns (``*``, ``?``, ``[...]``, ``**``).
        out: folder of the results; None where no results are written.
        wanted: `IMAGES`, `MASKS` or `VOLUMES`.
    """
    return _Search(None if out is None else Path(os.path.abspath(out)), wanted).find(inputs)


@dataclass(frozen=True)
class _Search:
    results: Path | None
    wanted: Wanted

    def find(self, inputs: Sequence[str | os.PathLike[str]]) -> Found:
        images: dict[Path, Path] = {}
        missing: dict[str, str] = {}
        for given in inputs:
            path = Path(os.path.abspath(os.path.expanduser(os.fspath(given))))
            found = list(self._resolve(path))
            if found:
                root = root_of(path)
                for each in found:
                    images.setdefault(each, root)
            else:
                missing[str(path)] = self._why_none(path)
        return Found(tuple(images), missing, images)

    def _resolve(self, path: Path) -> Iterator[Path]:
        if path.is_dir():
            yield from self._walk(path)
        elif os.path.lexists(path):
            yield path
        elif glob.has_magic(str(path)):
            for match in sorted(glob.glob(str(path), recursive=True)):
                if os.path.isdir(match):
                    # `**` lists the files of folders by itself.
                    if "**" not in path.parts:
                        yield from self._walk(Path(match))
                elif self._is_wanted(Path(match)):
                    yield Path(match)

    def _why_none(self, path: Path) -> str:
        what = self.wanted.what
        if path.is_dir():
            has_results = path == self.results or has_manifest(path)
            beside = " beside the results of an earlier run" if has_results else ""
            endings = ", ".join(self.wanted.suffixes)
            series = ", or are folders of DICOM files" if self.wanted.series else ""
            return f"There is no {what} in this folder{beside}; {what}s end in {endings}{series}."
        if glob.has_magic(str(path)):
            return f"No {what} matches this pattern."
        return "There is no such file or folder; check the path."

    def _walk(self, root: Path) -> Iterator[Path]:
        """Files below a folder, links followed but no folder visited twice."""
        visited: set[str] = set()
        for folder, folders, files in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            # Results of an earlier run are not images to segment, unless one asks for that folder itself.
            if real in visited or (Path(folder) == self.results and self.results != root):
                folders.clear()
                continue
            visited.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            if self.wanted.masks and has_manifest(Path(folder)):
                files = label_maps(files)
            if self.wanted.series and dicom_files(Path(folder)):
                yield Path(folder)
            for name in sorted(files):
                path = Path(folder, name)
                if self._is_wanted(path):
                    yield path

    def _is_wanted(self, path: Path) -> bool:
        name = path.name
        if is_hidden(name):
            return False
        is_result = path.parent == self.results and name.endswith(_OUTPUT_ENDINGS)
        if is_result and (path.parent / MANIFEST_NAME).exists():
            return False
        if not self.wanted.masks and name.endswith(_NO_IMAGES) and has_manifest(path.parent):
            return False
        suffix = image_suffix(name)
        if self.wanted.series and name.endswith(TRUTH_ENDING + suffix):
            stem = name.removesuffix(TRUTH_ENDING + suffix)
            if stem and path.with_name(stem + suffix).is_file():
                return False
        if suffix.lower() in self.wanted.suffixes:
            return True
        return self.wanted.dicom and has_no_suffix(name) and _says_dicom(path)


def root_of(given: Path) -> Path:
    """The folder that an argument stands for: itself, that of a file, or what no part of a pattern is."""
    if given.is_dir():
        return given
    if os.path.lexists(given):
        return given.parent
    while glob.has_magic(str(given)):
        given = given.parent
    return given


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files that an input is made of: itself, or those of a DICOM series."""
    return tuple(dicom_files(path)) if path.is_dir() else (path,)


def label_maps(names: Sequence[str]) -> list[str]:
    """The label maps among the files of a folder of results, one of each stem."""
    best: dict[str, str] = {}
    for ending in _MASK_OUTPUTS:
        for name in names:
            if name.endswith(ending):
                best.setdefault(name[: -len(ending)], name)
    return list(best.values())


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
