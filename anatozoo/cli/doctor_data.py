"""What ``anatozoo doctor --data DIR`` recognises in the folder of a data set."""

import json
import re
from collections import Counter
from pathlib import Path

from anatozoo.errors import DataError

JSRT_IMG_BYTES = 2048 * 2048 * 2
"""A raw JSRT radiograph: 2048 × 2048 big-endian 16-bit values without a header."""
IMAGES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".img", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"}
)
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp"})
MASKS = IMAGES | _PICTURES
LABEL_FOLDERS = ("labels", "labelsTr", "masks")
LANDMARK_FOLDERS = ("RL", "LL", "H", "RCLA", "LCLA")
_ACDC = re.compile(r"patient\d+_frame\d+_gt\.nii(\.gz)?")
_LOOKED_INTO = 20
"""Label maps of a folder whose values are shown: reading all of a data set takes long."""


def describe_folder(root: Path) -> list[str]:
    """Lines that say which images, landmarks, masks and splits lie below a folder.

    Raises:
        DataError: it is not a folder.
    """
    if not root.is_dir():
        raise DataError(f"--data {root}: there is no such folder.")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{root}: {len(files)} files"]
    lines += _by_folder(root, files)
    lines += _jsrt(files)
    lines += _landmarks(root, files)
    lines += _masks(files)
    lines += _label_maps(root, files)
    lines += [f"split {path.relative_to(root)}: {_entries(path)}" for path in files if _is_split(path)]
    if len(lines) == 1:
        lines.append("nothing recognised: no images, landmarks (.npy), masks or splits (.txt, splits.json)")
    return lines


def _suffix(path: Path) -> str:
    """The suffix in lower case, that of gzipped NIfTI whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _by_folder(root: Path, files: list[Path], most: int = 12) -> list[str]:
    counts = Counter(
        (path.parent.relative_to(root).as_posix(), _suffix(path)) for path in files if _suffix(path) in IMAGES
    )
    lines = [f"{count} images {suffix} in {folder}/" for (folder, suffix), count in counts.most_common(most)]
    return lines + ([f"and images in {len(counts) - most} more folders"] if len(counts) > most else [])


def _jsrt(files: list[Path]) -> list[str]:
    raw = [path for path in files if path.suffix.lower() == ".img"]
    if not raw:
        return []
    short = [path.name for path in raw if path.stat().st_size != JSRT_IMG_BYTES]
    lines = [f"{len(raw) - len(short)} raw JSRT radiographs (.IMG, 2048 × 2048)"]
    if short:
        lines.append(f"{len(short)} .IMG files of another size, as {short[0]}: cut short or not JSRT's")
    return lines


def _landmarks(root: Path, files: list[Path]) -> list[str]:
    lines = []
    stems = {path.stem for path in files if _suffix(path) in IMAGES}
    for organ in LANDMARK_FOLDERS:
        found = [path for path in files if path.parent.name == organ and path.suffix == ".npy"]
        if found:
            # The public data set names its files after the image, with its extension or without.
            matched = sum(Path(path.stem).stem in stems or path.stem in stems for path in found)
            folder = found[0].parent.relative_to(root)
            lines.append(f"landmarks {folder}/: {len(found)}, {matched} of them with an image")
    return lines


def _masks(files: list[Path]) -> list[str]:
    from anatozoo.io.chest_folders import MASK_FOLDERS

    counts = Counter(path.parent.name.lower().replace(" ", "_") for path in files if _suffix(path) in MASKS)
    return [f"masks of {organ}: {counts[organ]}" for organ in MASK_FOLDERS if counts[organ]]


def _label_maps(root: Path, files: list[Path]) -> list[str]:
    """Folders of label maps, and what values these hold: what `label_values` and `--labels` must name."""
    from anatozoo.errors import AnatozooError
    from anatozoo.io.label_codes import Survey, some
    from anatozoo.io.read import read_labels

    folders: dict[str, list[Path]] = {}
    for path in files:
        if _suffix(path) in MASKS and path.parent.name in LABEL_FOLDERS:
            folders.setdefault(f"{path.parent.relative_to(root).as_posix()}/", []).append(path)
        elif _ACDC.fullmatch(path.name):
            folders.setdefault("patientNNN_frameFF_gt files", []).append(path)
    lines = []
    for name, paths in folders.items():
        survey, unread = Survey(name), list[str]()
        for path in paths[:_LOOKED_INTO]:
            try:
                survey.add(read_labels(path, 2 if _suffix(path) in _PICTURES else 3)[0])
            except AnatozooError as error:
                unread.append(str(error))
        looked = f"values above 0 in the first {survey.files}: {some(sorted(survey.values)) or 'none'}"
        soft = f", of which {some(survey.soft)} are soft edges" if survey.soft else ""
        lines.append(f"label maps {name}: {len(paths)}, {looked}{soft}")
        if unread:
            lines.append(f"label maps {name}: {len(unread)} could not be read, the first: {unread[0]}")
    return lines


def _is_split(path: Path) -> bool:
    if path.name == "splits.json":
        return True
    return path.suffix == ".txt" and any(word in path.stem for word in ("train", "val", "test"))


def _entries(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".txt":
        return f"{sum(bool(line.strip()) for line in text.splitlines())} entries"
    try:
        lists = json.loads(text)
        return ", ".join(f"{name} {len(names)}" for name, names in lists.items())
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return f"no lists of names by split ({error})"
