"""Meaning of the values of label maps, from settings or in the formats of nnU-Net and the Decathlon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.data.annotated import both_sides
from anatozoo.data.layouts.base import Wanted
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.label_codes import BACKGROUND, LabelCodes, check_known, parse_labels
from anatozoo.io.marks import organ_named
from anatozoo.io.untrusted import read_json
from anatozoo.organs import annotated

FILES = ("dataset.json", "labels.json")
_MOST_BYTES = 2**24
_MOST_NAMED = 64


def label_codes(wanted: Wanted, folder: Path, *, alone: bool = True) -> LabelCodes:
    """The values of the organs: as given, else from ``dataset.json`` or ``labels.json``, else 1, 2, ...

    Text and files may leave out organs: the label maps do not annotate these.

    Args:
        wanted: organs and given values.
        folder: folder in which the two files are looked for.
        alone: whether there is no other folder. The file of one site of several may name other organs only:
            its cases then annotate none of those that are wanted.

    Raises:
        ConfigError: the given values are not possible, or are those of no organ.
        DataError: a file cannot be read, or names none of the organs where it is alone.
    """
    given, organs = wanted.label_values, wanted.organs or ()
    if isinstance(given, str):
        try:
            codes = parse_labels(given)[0]
        except ConfigError as error:
            raise ConfigError(str(error).replace("--labels", "--labels or data.label_values")) from error
        if organs and not any(annotated(organ, codes.ranges) for organ in organs):
            raise ConfigError(
                f"the label values {given!r} have no value for {', '.join(organs)}; give one to each organ "
                "that the label maps annotate (--labels or data.label_values)."
            )
        return codes
    if given is None:
        for path in (folder / name for name in FILES):
            if path.is_file() and (stated := _of_file(path, organs, alone)) is not None:
                return stated
    values = list(range(1, len(organs) + 1)) if given is None else list(given)
    if len(values) != len(organs) or len({*values, 0}) != len(values) + 1:
        raise ConfigError(f"label_values={values} must be one number above 0 for each of {list(organs)}.")
    return LabelCodes({organ: ((value, value),) for organ, value in zip(organs, values, strict=True)})


def check_values(labels: np.ndarray, codes: LabelCodes, what: str) -> None:
    """Refuse a label map with a value that has no name.

    Raises:
        DataError: the label map has such a value.
    """
    if not codes.unknown(np.unique(labels).tolist()):
        return
    ranges = [(name, low, high) for name, pairs in codes.ranges.items() for low, high in pairs]
    named = {value: name for name, low, high in ranges for value in range(low, min(high, low + 255) + 1)}
    if len(named) > _MOST_NAMED:
        codes.masks(labels)
    named.pop(0, None)
    check_known(labels, named, what, "give label_values")


def _of_file(path: Path, organs: Sequence[str], alone: bool) -> LabelCodes | None:
    """The codes of a file, if it is alone of at least one of the organs; None if it names no labels."""
    value = read_json(path, DataError, _MOST_BYTES)
    stated: Any = None
    if _is_map(value):
        stated = value.get("labels", value if path.name == "labels.json" else None)
    if stated is None:
        return None
    if not _is_map(stated):
        raise DataError(f'{path}: its labels must be {{"name": value}}; correct it, or give label_values.')
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for key, meant in stated.items():
        # The Decathlon writes value: name, nnU-Net name: value, with lists for regions.
        swapped = key.strip().isdigit() and isinstance(meant, str)
        name, values = (meant, key) if swapped else (key, meant)
        numbers = [_number(one) for one in (values if isinstance(values, list) else [values])]
        if None in numbers or not numbers:
            raise DataError(f"{path}: the values of {name!r} are not whole numbers; correct it.")
        ranges[organ_named(name, organs)] = tuple((n, n) for n in numbers if n is not None)
    known = [name for name in ranges if name != BACKGROUND]
    if organs and (alone or not known) and not any(annotated(organ, ranges) for organ in organs):
        raise DataError(
            f"{path} names {', '.join(known) or 'nothing'}, not {', '.join(organs)}; "
            f"{both_sides(known, organs)}name organs as it does, or give label_values."
        )
    return LabelCodes(ranges)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isdigit() and len(value) < 10:
        return int(value)
    plain = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if plain else None
