"""The layouts of public chest radiographs: ``jsrt``, ``landmarks``, ``hybridgnet``, ``covid``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from anatozoo.data.case import METADATA, Case, Drawn, Mask
from anatozoo.data.layouts.base import Layout, Listing, Wanted
from anatozoo.errors import DataError
from anatozoo.io.chest import ChestCase, deal_cases, index_chest
from anatozoo.io.chest_folders import Found, is_jsrt, scan
from anatozoo.io.grid import Grid
from anatozoo.io.splits import check_subjects, dealt, refuse_foreign


def find_chest(layout: str, wanted: Wanted) -> Listing:
    """The radiographs of a layout, with the splits of their lists, or else assigned at random.

    If lists name some cases, the others are in no split. Only the cases of ``landmarks`` that are not from
    JSRT, for which no list is published, are then assigned too.

    Raises:
        DataError: the folder holds no radiographs, or files contradict one another.
    """
    scanned = wanted.seen or scan(wanted.root)
    found = index_chest(wanted.root, "auto" if layout == "chest" else layout, found=scanned)
    # Cases of JSRT are never assigned beside lists: its test split would be among them.
    free = {c.id: c.patient for c in found if layout == "landmarks" and c.split is None and not is_jsrt(c.id)}
    if free:
        others = dealt(wanted.root, free, tables=scanned.tables)
        found = [
            replace(c, split=others.splits[c.id], origin=others.origin) if c.id in free else c for c in found
        ]
    if not any(case.split for case in found):
        refuse_foreign(wanted.root, {case.id: (case.id,) for case in found}, scanned.tables)
        found = deal_cases(wanted.root, found, scanned.tables)
    check_subjects((case.patient, case.split) for case in found)
    return Listing([case_of(case) for case in found])


def case_of(chest: ChestCase) -> Case:
    """A radiograph as a case."""
    organs = frozenset({*chest.masks, *chest.landmarks})
    return Case(
        chest.id,
        chest.patient,
        chest.split,
        str(chest.metadata.get("dataset", "unknown")),
        organs,
        None if chest.image is None else chest.read_image,
        partial(_draw, chest) if organs else None,
        {key: chest.metadata[key] for key in METADATA if chest.metadata.get(key) is not None},
        chest.origin,
    )


class _Masks(Mapping[str, Mask]):
    """The masks of a case, each read on first use: many methods need few of them."""

    def __init__(self, chest: ChestCase) -> None:
        self.chest = chest
        self.read: dict[str, Mask] = {}

    def __getitem__(self, organ: str) -> Mask:
        if organ not in self.chest.masks:
            raise KeyError(organ)
        if organ not in self.read:
            self.read[organ] = self.chest.read_mask(organ)
        return self.read[organ]

    def __iter__(self) -> Iterator[str]:
        return iter(self.chest.masks)

    def __len__(self) -> int:
        return len(self.chest.masks)

    def __contains__(self, organ: object) -> bool:
        return organ in self.chest.masks


def _draw(chest: ChestCase, organs: Sequence[str], grid: Grid | None) -> Drawn:
    """All masks and landmarks, on the grid of the case."""
    return Drawn(Grid(chest.size, chest.spacing_mm), chest.landmarks, _Masks(chest))


def _recognises(layout: str, root: Path) -> Found | None:
    """What lies below a folder, if it holds radiographs of the layout."""
    if not root.is_dir():
        return None
    try:
        found = scan(root)
    except DataError:
        return None
    kinds = {
        "jsrt": any(map(is_jsrt, (*found.images, *found.masks, *found.landmarks))),
        "landmarks": bool(found.separate),
        "hybridgnet": bool(found.vectors),
        "covid": bool(found.covid),
    }
    return found if kinds.get(layout, any(kinds.values())) else None


_WORDS = {
    "jsrt": "JPCLN001.IMG anywhere, or .png in images/, with masks/heart/ or landmarks",
    "landmarks": "landmarks/{RL,LL,H,RCLA,LCLA}/NAME.npy with images/",
    "hybridgnet": "{Train,Val,Test}/landmarks/NAME.npy with all organs in one vector",
    "covid": "metadata.csv with images/ and masks/",
    "chest": "any of these four, all that are there",
}
LAYOUTS = [
    Layout(name, words, (2,), partial(_recognises, name), partial(find_chest, name), takes_label_values=False)
    for name, words in _WORDS.items()
]
