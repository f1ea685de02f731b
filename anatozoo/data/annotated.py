"""What each source of a data set annotates: sources that cannot be meant, and organs that nobody drew."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anatozoo.data.case import Case
from anatozoo.errors import DataError
from anatozoo.io.annotation import misspelt
from anatozoo.organs import PAIRS, annotated


def by_source(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Source, the `Case.domain`, -> its cases; in order of the names."""
    found: dict[str, list[Case]] = {name: [] for name in sorted({case.domain for case in cases})}
    for case in cases:
        found[case.domain].append(case)
    return found


def both_sides(names: Collection[str], organs: Collection[str]) -> str:
    """What to say of names for two organs together where each is an organ by itself; ends in a semicolon."""
    return "".join(
        f"{pair} are both sides in one, but {' and '.join(sides)} are needed each by itself; "
        for pair, sides in PAIRS.items()
        if pair in names and set(sides) <= set(organs)
    )


def check_sources(
    root: str, cases: Sequence[Case], organs: Sequence[str], asked: Collection[str] = ()
) -> list[str]:
    """Say which sources annotate organs, but none of the model's; refuse those that were asked for.

    Args:
        root: folder of the data, for messages.
        cases: the training cases of all sources, but of those that the user left out by the weight 0.
        organs: organs of the model.
        asked: sources that the user named.

    Returns:
        A sentence for each source without the model's organs and for each name that may be misspelt, and one
        about organs that no source annotates.

    Raises:
        DataError: a source that was asked for, or every annotated one, has none of the model's organs; or one
            has none of them, but a name that may be a misspelt one.
    """
    said = []
    named = {
        source: frozenset().union(*(case.organs for case in members if case.labelled))
        for source, members in by_source(cases).items()
    }
    # Images without annotation are counted elsewhere.
    named = {source: names for source, names in named.items() if names}
    useful = any(annotated(organ, names) for organ in organs for names in named.values())
    for source, names in named.items():
        lacking = [organ for organ in organs if not annotated(organ, names)]
        meant = misspelt(names, organs)
        if organs and len(lacking) == len(organs):
            foreign = (
                f"{root}: the source {source} annotates {', '.join(sorted(names))}, none of which is an "
                f"organ of the model ({', '.join(organs)}); "
                + "".join(f"{name} looks like {near}; " for name, near in meant.items())
                + both_sides(names, organs)
            )
            if source in asked or not useful or meant:
                raise DataError(
                    f"{foreign}name organs as the model does, or leave the source out: take it away, or give "
                    "it the weight 0 in data.balance."
                )
            said.append(f"{foreign}it is left out.")
            continue
        said += [
            f"{root}: the source {source} annotates {name}, which is no organ of the model, and lacks "
            f"{near}; give it that name if it is meant."
            for name, near in meant.items()
        ]
    if nowhere := [o for o in organs if not any(annotated(o, names) for names in named.values())]:
        said.append(
            f"{root}: no training case annotates {', '.join(nowhere)}; nothing is learnt about it, and what "
            "the network says about it is that of the weights it starts from."
        )
    return said
