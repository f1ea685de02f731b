"""Give every input of a run its own stem, the same one whenever the run is repeated."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatozoo.serve.inputs import image_suffix

# File systems allow names of 255 bytes; the longest ending of an output needs 20, a number in a stem 33.
_LONGEST_STEM_BYTES = 200


@dataclass(frozen=True)
class Nameable:
    """An input that needs a stem.

    Attributes:
        key: what tells it from all others and stays the same, such as its path.
        wish: the stem that it would like.
        suffix: what is added where several wish the same; may be empty.
    """

    key: str
    wish: str
    suffix: str = ""

    @property
    def plain(self) -> str:
        """The wish, shortened where it is too long for a file name."""
        encoded = self.wish.encode(errors="surrogateescape")
        if len(encoded) <= _LONGEST_STEM_BYTES:
            return self.wish
        return f"{encoded[: _LONGEST_STEM_BYTES - 9].decode(errors='ignore')}_{self.digest[:8]}"

    @property
    def with_suffix(self) -> str:
        """The wish and the suffix."""
        return self.plain + self.suffix

    @property
    def with_hash(self) -> str:
        """The wish and eight digits."""
        return f"{self.plain}_{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that follow from the key."""
        return hashlib.sha256(self.key.encode(errors="surrogateescape")).hexdigest()[:32]


def assign_stems(
    images: Sequence[Path],
    known: Mapping[str, str],
    *,
    without: str = "",
    keys: Mapping[Path, str] | None = None,
) -> dict[Path, str]:
    """Choose the start of the names of each image's outputs.

    An image keeps the stem it had. A new one gets the stem of its name; where several share that, with the
    suffix (``a.png`` and ``a.jpg`` give ``a_png`` and ``a_jpg``), and where that is not enough, with eight
    digits of the SHA-256 of its path, or key. The order of the images does not matter. Stems differ by more
    than case and Unicode form, which some file systems ignore.

    Args:
        images: absolute paths.
        known: stems of earlier runs, by absolute path, or by key.
        without: an ending that stems of names lose, such as ``"_mask"``.
        keys: what tells the images apart and stays the same, in place of the path.
    """
    called = {path: str(path) if keys is None else keys[path] for path in images}
    items = [Nameable(called[path], *_parts(path.name, without)) for path in images]
    stems = choose_stems(items, known)
    return {path: stems[called[path]] for path in images}


def choose_stems(
    items: Iterable[Nameable], known: Mapping[str, str], reserved: Iterable[str] = ()
) -> dict[str, str]:
    """Choose stems by key, see `assign_stems`.

    Args:
        items: what needs one.
        known: stems of earlier runs, by key.
        reserved: stems that none of them may get.
    """
    unique = {item.key: item for item in items}
    stems = {key: known[key] for key in unique if key in known}
    taken = {folded(stem) for stem in [*known.values(), *reserved]}
    rest = [item for key, item in unique.items() if key not in stems]
    for way in ("plain", "with_suffix", "with_hash"):
        wishes = {item.key: getattr(item, way) for item in rest}
        counts = Counter(folded(wish) for wish in wishes.values())
        chosen = {k: w for k, w in wishes.items() if counts[folded(w)] == 1 and folded(w) not in taken}
        stems |= chosen
        taken |= {folded(stem) for stem in chosen.values()}
        rest = [item for item in rest if item.key not in chosen]
    # Eight digits met by chance, or an image that is named like another's hash: the whole digest.
    return stems | {item.key: f"{item.plain}_{item.digest}" for item in rest}


def folded(stem: str) -> str:
    """What is the same for names that a file system may take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def _parts(name: str, without: str) -> tuple[str, str]:
    """Stem, and what was taken off it as a part of a stem: ``a.nii.gz`` gives ``a`` and ``_nii_gz``."""
    stem = name[: len(name) - len(image_suffix(name))]
    if without and stem.lower().endswith(without) and len(stem) > len(without):
        stem = stem[: -len(without)]
    return stem, name[len(stem) :].replace(".", "_").lower()
