"""What ``anatozoo doctor --data DIR`` recognises in the folder of a data set."""

from collections import Counter
from pathlib import Path

from anatozoo.errors import DataError

JSRT_IMG_BYTES = 2048 * 2048 * 2
"""A raw JSRT radiograph: 2048 × 2048 big-endian 16-bit values without a header."""
IMAGES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".img", ".nii", ".mha", ".mhd", ".nrrd"}
)
LANDMARK_FOLDERS = ("RL", "LL", "H", "RCLA", "LCLA")
SCR_MASKS = ("right_lung", "left_lung", "heart", "right_clavicle", "left_clavicle")


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
    lines += [
        f"split {path.relative_to(root)}: {_entries(path)} entries" for path in files if _is_split(path)
    ]
    if len(lines) == 1:
        lines.append("nothing recognised: no images, landmarks (.npy), masks or splits (.txt)")
    return lines


def _by_folder(root: Path, files: list[Path], most: int = 12) -> list[str]:
    counts = Counter(
        (path.parent.relative_to(root).as_posix(), path.suffix.lower())
        for path in files
        if path.suffix.lower() in IMAGES
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
    stems = {path.stem for path in files if path.suffix.lower() in IMAGES}
    for organ in LANDMARK_FOLDERS:
        found = [path for path in files if path.parent.name == organ and path.suffix == ".npy"]
        if found:
            # The public data set names its files after the image, with its extension or without.
            matched = sum(Path(path.stem).stem in stems or path.stem in stems for path in found)
            folder = found[0].parent.relative_to(root)
            lines.append(f"landmarks {folder}/: {len(found)}, {matched} of them with an image")
    return lines


def _masks(files: list[Path]) -> list[str]:
    counts = Counter(path.parent.name.replace(" ", "_") for path in files)
    return [f"masks of {organ}: {counts[organ]}" for organ in SCR_MASKS if counts[organ]]


def _is_split(path: Path) -> bool:
    return path.suffix == ".txt" and any(word in path.stem for word in ("train", "val", "test"))


def _entries(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
