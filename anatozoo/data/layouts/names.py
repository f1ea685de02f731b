"""Matching of annotations and images whose file names differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from anatozoo.data.layouts.base import shown
from anatozoo.errors import DataError
from anatozoo.organs import CHEST_ORGANS, PAIRS

_IMAGE_WORDS = "0000|image|images|img"
_MASK_WORDS = "mask|masks|seg|segmentation|label|labels|gt|landmarks|annotation|annotations|roi"
_BETWEEN = r"[_\-. ]"


@dataclass(frozen=True)
class Pairs:
    """Images with their annotations.

    Attributes:
        of_image: image -> annotation.
        names: image -> name of the case.
        lonely: annotations without an image.
        how: a sentence on what of the names was left out to match them; empty where equal names were matched.
    """

    of_image: Mapping[str, str]
    names: Mapping[str, str]
    lonely: tuple[str, ...]
    how: str = ""


def image_key(name: str) -> str:
    """A name without the usual marks of images: ``a_0000``, ``a_image`` and ``img_a`` are ``a``."""
    return _stripped(name, _IMAGE_WORDS)


def mask_key(name: str) -> str:
    """A name without the usual marks of masks: ``a_mask``, ``a_seg`` and ``label-a`` are ``a``."""
    return _stripped(name, f"{_MASK_WORDS}|{_IMAGE_WORDS}")


def _stripped(name: str, words: str) -> str:
    ending = re.compile(f"(.+?){_BETWEEN}(?:{words})", re.IGNORECASE | re.DOTALL)
    beginning = re.compile(f"(?:{words}){_BETWEEN}(.+)", re.IGNORECASE | re.DOTALL)
    while match := ending.fullmatch(name) or beginning.fullmatch(name):
        name = match[1]
    return name


def organ_at_end(name: str, organs: Collection[str]) -> tuple[str, str | None]:
    """Name and organ of a file with one organ, such as ``a_heart``; None if it names no organ."""
    bare = mask_key(name)
    for organ in sorted({*organs, *CHEST_ORGANS, *PAIRS}, key=len, reverse=True):
        if re.fullmatch(f".+{_BETWEEN}{re.escape(organ)}", bare, re.IGNORECASE | re.DOTALL):
            return mask_key(bare[: -len(organ) - 1]), organ
    return name, None


def pair(images: Collection[str], annotations: Collection[str]) -> Pairs:
    """Match equal names, then names without marks, then without the parts that all names share.

    Raises:
        DataError: an image may have several annotations, or an annotation several images.
    """
    found = {name: name for name in images if name in annotations}
    names = {name: name for name in images}
    left = [name for name in annotations if name not in found]
    if left:
        keyed = _grouped(left, mask_key)
        by_key = _grouped(images, image_key)
        for key in [key for key in by_key if key in keyed]:
            of_key = by_key[key]
            taken = [found[name] for name in of_key if name in found]
            if len(of_key) > 1 or len(keyed[key]) + len(taken) > 1:
                raise DataError(
                    f"the images {shown(of_key)} and the annotations {shown([*taken, *keyed[key]])} may "
                    "belong together in several ways; keep one of each, or name an annotation as its image."
                )
            found[of_key[0]] = keyed[key][0]
    left_out = "what marks images and masks"
    if left and not found:
        found, left_out = _without_the_common(list(images), left)
    if any(image != annotation for image, annotation in found.items()):
        keys = _grouped(images, image_key)
        if twice := next((group for group in keys.values() if len(group) > 1), None):
            raise DataError(f"the images {shown(twice)} would be one case; keep one, or rename them.")
        names = {group[0]: key for key, group in keys.items()}
    used = set(found.values())
    unlike = [f"{image} and {mask}" for image, mask in found.items() if image != mask]
    how = unlike and f"matched by their names without {left_out}: {shown(unlike)}"
    return Pairs(found, names, tuple(name for name in annotations if name not in used), how or "")


def _grouped(names: Iterable[str], key: object) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)  # type: ignore[operator]  # a function of names
    return groups


def _without_the_common(images: list[str], annotations: list[str]) -> tuple[dict[str, str], str]:
    """Pairs of names, compared without the beginning and end that all names of a side share, and these."""
    if len(images) < 2 or len(annotations) < 2:
        return {}, ""
    (of_images, one), (of_annotations, two) = (_rests(side) for side in (images, annotations))
    found = {image: of_annotations[rest] for rest, image in of_images.items() if rest in of_annotations}
    ends = (
        f"{' and '.join(side) or 'nothing'} of the {what}" for side, what in ((one, "images"), (two, "masks"))
    )
    return found, ", ".join(ends)


def _rests(names: list[str]) -> tuple[dict[str, str], list[str]]:
    before = re.sub(r"\d+$", "", _shared_start(names))
    after = re.sub(r"\d+$", "", _shared_start([name[len(before) :][::-1] for name in names]))
    ends = [repr(end) for end in (before, after[::-1]) if end]
    return {name[len(before) : len(name) - len(after)]: name for name in names}, ends


def _shared_start(names: list[str]) -> str:
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same]
