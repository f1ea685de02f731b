"""Give every image of a run its own stem, the same one whenever the run is repeated."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from anatozoo.serve.inputs import image_suffix

# File systems allow names of 255 bytes; the longest ending of an output needs 14.
_LONGEST_STEM_BYTES = 200


def assign_stems(images: Sequence[Path], known: Mapping[str, str]) -> dict[Path, str]:
    """Choose the start of the names of each image's outputs.

    An image keeps the stem it had. A new one gets the stem of its name; where several share that, with the
    suffix (``a.png`` and ``a.jpg`` give ``a_png`` and ``a_jpg``), and where that is not enough, with eight
    digits of the path's SHA-256. The order of the images does not matter. Stems differ by more
    than case and Unicode form, which some file systems ignore.

    Args:
        images: absolute paths.
        known: stems of earlier runs, by absolute path.
    """
    stems = {path: known[str(path)] for path in images if str(path) in known}
    taken = {_folded(stem) for stem in known.values()}
    rest = [path for path in dict.fromkeys(images) if path not in stems]
    for name_of in (_plain, _with_suffix, _with_hash):
        counts = Counter(_folded(name_of(path)) for path in rest)
        chosen = {path: name_of(path) for path in rest if counts[_folded(name_of(path))] == 1}
        chosen = {path: stem for path, stem in chosen.items() if _folded(stem) not in taken}
        stems |= chosen
        taken |= {_folded(stem) for stem in chosen.values()}
        rest = [path for path in rest if path not in chosen]
    # Eight digits met by chance, or an image that is named like another's hash: the whole digest.
    return stems | {path: f"{_plain(path)}_{_digest(path)}" for path in rest}


def _plain(path: Path) -> str:
    name = path.name
    stem = name[: len(name) - len(image_suffix(name))]
    if len(stem.encode(errors="surrogateescape")) <= _LONGEST_STEM_BYTES:
        return stem
    short = stem.encode(errors="surrogateescape")[: _LONGEST_STEM_BYTES - 9].decode(errors="ignore")
    return f"{short}_{_digest(path)[:8]}"


def _with_suffix(path: Path) -> str:
    return _plain(path) + image_suffix(path.name).replace(".", "_").lower()


def _with_hash(path: Path) -> str:
    return f"{_plain(path)}_{_digest(path)[:8]}"


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:32]


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())
