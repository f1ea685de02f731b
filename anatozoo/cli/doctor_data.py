"""What ``anatozoo doctor --data DIR`` says of a data set: what would be used, and what would not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.errors import AnatozooError, DataError

if TYPE_CHECKING:
    from anatozoo.data.case import Case
    from anatozoo.data.layouts.base import Listing

_MOST_FOLDERS = 8
_SPLITS = ("train", "val", "test", None)


def describe_folder(
    root: Path, layout: str | None = None, organs: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """What a data module would find below a folder.

    Args:
        root: the folder, or a manifest.
        layout: see `anatozoo.data.layouts.registry`; None finds out.
        organs: what is to be annotated; None takes whatever there is.

    Returns:
        Lines of the report, and problems, which say what to do.

    Raises:
        DataError: there is nothing of this name.
        ConfigError: the layout is unknown.
    """
    from anatozoo.data.layouts.registry import LAYOUTS, find_cases, recognised

    if not root.exists():
        raise DataError(f"--data {root}: there is no such folder.")
    lines = [f"{root}: {words}" for words in _files(root)]
    try:
        chosen, seen = recognised(root) if layout is None else (layout, None)
        dims = _dims(root) if chosen == "folder" else 3 if chosen == "acdc" else 2
        if chosen in LAYOUTS:
            lines.append(f"layout {chosen}, {dims}-D: {LAYOUTS[chosen].words}")
        listing = find_cases(root, chosen, organs, dims=dims, seen=seen)
    except DataError as error:
        return lines, [f"nothing would be used: {error}"]
    lines += [*_cases(listing, organs), *listing.remarks]
    read, problems = _sample(listing.cases, organs, dims)
    return lines + read, _of_sources(root, listing.cases, organs or ()) + problems


def _of_sources(root: Path, cases: Sequence[Case], organs: Sequence[str]) -> list[str]:
    """What a fit would say of the names of organs in the training cases."""
    from anatozoo.data.annotated import check_sources

    try:
        return check_sources(str(root), [case for case in cases if case.split == "train"], organs)
    except DataError as error:
        return [f"a fit would end: {error}"]


def _files(root: Path) -> list[str]:
    """How many files there are, and in which folders most of them lie."""
    from anatozoo.io.split_lists import walk

    if root.is_file():
        return ["a manifest"]
    counts: Counter[tuple[str, str]] = Counter()
    for folder, names in walk(root, None):
        place = folder.relative_to(root).as_posix()
        counts.update((place, _suffix(name)) for name in names)
    shown = [f"{count} {suffix} in {place}/" for (place, suffix), count in counts.most_common(_MOST_FOLDERS)]
    more = len(counts) - len(shown)
    return [f"{counts.total()} files", *shown, *([f"and {more} more kinds or folders"] if more > 0 else [])]


def _suffix(name: str) -> str:
    return ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix.lower() or "without a suffix"


def _dims(root: Path) -> int:
    """Whether the layout ``folder`` holds images or volumes, by the first of its files."""
    from anatozoo.data.layouts.folder import first_file
    from anatozoo.io.volumes import read_itk, suffix_of_volume

    path = first_file(root)
    if path is None or not suffix_of_volume(path):
        return 3 if path is not None and path.is_dir() else 2
    size = read_itk(path, repr(str(path)), values=False).size
    return 3 if sum(side > 1 for side in size) > 2 else 2


def _cases(listing: Listing, organs: Sequence[str] | None) -> list[str]:
    from anatozoo.data.layouts.base import shown
    from anatozoo.io.splits import describe

    cases = listing.cases
    lines = [f"{len(cases)} cases of {len({case.subject for case in cases})} subjects"]
    for split in _SPLITS:
        group = [case for case in cases if case.split == split]
        if group:
            used = [case for case in group if _usable(case, organs)]
            lines.append(
                f"split {split or 'none'}: {len(group)} cases, {len(used)} with image and annotation"
                + ("" if split else f"; in no split are {shown([case.id for case in group])}")
            )
    domains = Counter(case.domain for case in cases)
    lines += [f"domain {domain}: {count} cases" for domain, count in domains.most_common(_MOST_FOLDERS)]
    annotated = Counter(organ for case in cases for organ in case.organs)
    lines += [f"annotated {organ}: {count} cases" for organ, count in annotated.most_common()]
    reasons = {
        "without an image": [case.id for case in cases if case.image is None],
        "without an annotation": [case.id for case in cases if not case.labelled],
        f"without all of {', '.join(organs or ())}": [
            case.id for case in cases if case.labelled and not all(map(case.has, organs or ()))
        ],
    }
    for why, names in {**reasons, **listing.left_out}.items():
        if names:
            lines.append(f"{len(names)} {why}: {shown(names)}")
    some = [case for case in cases if case.image is not None and any(map(case.has, organs or ()))]
    if more := len(some) - sum(_usable(case, organs) for case in some):
        lines.append(
            f"{more} more with image and some of {', '.join(organs or ())}: a fit of U-Net or HybridGNet "
            "uses these too, other methods need all organs"
        )
    return lines + describe(cases)


def _usable(case: Case, organs: Sequence[str] | None) -> bool:
    return case.image is not None and case.labelled and all(map(case.has, organs or ()))


def _sample(cases: Sequence[Case], organs: Sequence[str] | None, dims: int) -> tuple[list[str], list[str]]:
    """What a few cases hold, spread over the data set."""
    from anatozoo.data.layouts.base import shown
    from anatozoo.data.layouts.doubts import Doubts, read_some

    sizes, spacings, read = list[str](), Counter[bool](), 0
    problems: list[str] = []
    doubts = Doubts(organs or ())
    for case, grid, drawn in read_some(cases, organs or (), dims):
        if grid is not None:
            sizes.append(" x ".join(map(str, grid.size)))
            spacings[grid.spacing_mm is not None] += 1
        if isinstance(drawn, AnatozooError):
            problems.append(f"case {case.id}: {drawn}")
        elif drawn is not None:
            doubts.add(drawn)
        read += 1
    doubts.unread = sum(case.labelled for case in cases) - doubts.read
    lines = [f"read {read} cases: {shown(list(dict.fromkeys(sizes)))} pixels"] if sizes else []
    if spacings[False]:
        lines.append(f"spacing unknown in {spacings[False]} of them: nothing is in millimetres there")
    lines += [f"drawn in {count} of {read} cases: {organ}" for organ, count in doubts.seen.items()]
    return lines, problems + doubts.sentences()
