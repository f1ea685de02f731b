"""The layouts by name, and the search for cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anatozoo.data.layouts import acdc, chest, findings, folder
from anatozoo.data.layouts.base import Layout, Listing, Wanted
from anatozoo.errors import ConfigError, DataError

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (*chest.LAYOUTS, acdc.LAYOUT, folder.LAYOUT, findings.LAYOUT)
}
"""Values of ``--data.layout``; other packages add theirs by ``LAYOUTS[name] = Layout(...)``."""
_BUNDLED = tuple(LAYOUTS)


def find_cases(
    root: str | Path,
    layout: str,
    organs: Sequence[str] | None = (),
    *,
    dims: int = 2,
    label_values: Sequence[int] | str | None = None,
    subject_pattern: str | None = None,
    seen: Any = None,
) -> Listing:
    """The cases below a folder.

    Args:
        root: the folder, or a manifest.
        layout: a name of `LAYOUTS`, or ``"auto"`` to recognise it.
        organs: names in the order of their labels; empty if annotations are not needed, None for all.
        dims: 2 for images, 3 for volumes.
        label_values: values of the organs in label maps, see `anatozoo.data.layouts.base.Wanted`.
        subject_pattern: regular expression for subjects, see `anatozoo.data.layouts.base.Wanted`.
        seen: what `recognised` found there, of the layout that it named; None if it was not asked.

    Raises:
        DataError: the folder holds no cases, or its files contradict one another.
        ConfigError: the layout is unknown, or holds no cases of these dimensions.
    """
    place = Path(root)
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is unknown; choose one of {', '.join(LAYOUTS)}, or auto.")
    if not place.exists():
        raise DataError(f"{place} is not a folder; --root or data.root names the folder with the data.")
    name, seen = recognised(place) if layout == "auto" else (layout, seen)
    chosen = LAYOUTS[name]
    if dims not in chosen.dims:
        kinds = "images" if dims == 2 else "volumes"
        raise ConfigError(
            f"the layout {chosen.name!r} holds no {dims}-D {kinds}, which the model takes; give other data, "
            "or train with a frame of another size."
        )
    asked = None if organs is None else tuple(organs)
    listing = chosen.find(Wanted(place, asked, dims, label_values, subject_pattern, seen))
    return replace(listing, layout=name)


def recognised(root: Path) -> tuple[str, Any]:
    """The layout of a folder, recognised by its files, and what `Layout.recognises` found there.

    Raises:
        DataError: no layout fits, or several do.
    """
    for group in (("acdc", "chest"), ("findings",), ("folder",), sorted(set(LAYOUTS) - set(_BUNDLED))):
        found = {name: seen for name in group if (seen := LAYOUTS[name].recognises(root))}
        if len(found) > 1:
            raise DataError(
                f"{root} looks like {' and like '.join(found)}; say which (--data, --layout or data.layout)."
            )
        if found:
            return next(iter(found.items()))
    known = "; ".join(f"{layout.name}: {layout.words}" for layout in LAYOUTS.values())
    raise DataError(f"{root}: no layout is recognised. There are {known}.")
