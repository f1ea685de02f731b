"""Names, order, landmarks and pairs of the organs of chest radiographs, and names of sets of them."""

from collections.abc import Collection, Mapping

LUNGS = {"lung_right": 44, "lung_left": 50}
LUNGS_HEART = {**LUNGS, "heart": 26}
CHEST_ORGANS = {**LUNGS_HEART, "clavicle_right": 23, "clavicle_left": 23}
"""Organs of the chest models, in order, and their numbers of landmarks; sides are the patient's."""
PAIRS = {
    "lungs": ("lung_right", "lung_left"),
    "clavicles": ("clavicle_right", "clavicle_left"),
}
"""Names for two organs together, and the two, the right one first."""
ORGAN_SETS: Mapping[str, Mapping[str, int]] = {
    "lungs": LUNGS,
    "lungs_heart": LUNGS_HEART,
    "lungs_heart_clavicles": CHEST_ORGANS,
}
"""Sets that settings of models take for their organs, by name."""


def parts_of(organ: str) -> tuple[str, ...]:
    """The two organs of a pair, or the organ alone."""
    return PAIRS.get(organ, (organ,))


def with_pairs(organs: Collection[str]) -> list[str]:
    """Organs in their order, then the other pairs whose two organs are among them."""
    pairs = (pair for pair, parts in PAIRS.items() if pair not in organs and set(parts) <= set(organs))
    return [*organs, *pairs]


def annotated(organ: str, names: Collection[str]) -> bool:
    """Whether an organ, or both of its sides, are among the names of what is annotated."""
    return organ in names or all(part in names for part in parts_of(organ))
