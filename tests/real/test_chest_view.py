"""How many real radiographs the check of the view flags, turned, mirrored and upright."""

from pathlib import Path

import numpy as np
import pytest

from anatozoo.frames.square import to_network
from anatozoo.io.chest import index_chest
from anatozoo.tasks.chest_view import flags_of_view, view_probabilities

pytestmark = pytest.mark.real


def frames(shared: Path, layout: str) -> list[np.ndarray]:
    if not (shared / "data" / {"jsrt": "jsrt", "covid": "covid-cxr"}[layout]).is_dir():
        pytest.skip(f"the images of {layout} are not in {shared}")
    cases = [case for case in index_chest(shared / "data", layout) if case.image is not None]
    return [to_network(case.read_image(), 512)[0] for case in cases if case.split == "val"]


def flags(pictures: list[np.ndarray]) -> list[tuple[str, ...]]:
    arrays = [np.ascontiguousarray(picture) for picture in pictures]
    return [flags_of_view(probability) for probability in view_probabilities(arrays)]


def test_turned_and_mirrored_validation_images_are_flagged_and_upright_ones_are_not(shared: Path) -> None:
    jsrt, covid = frames(shared, "jsrt"), frames(shared, "covid")
    assert (len(jsrt), len(covid)) == (21, 97)
    for turn in (1, 2, 3):
        found = flags([np.rot90(frame, -turn) for frame in jsrt])
        assert sum(f"turned_{90 * turn}" in view for view in found) >= 20
        found = flags([np.rot90(frame, -turn) for frame in covid])
        assert sum(map(bool, found)) >= 0.95 * len(covid)
    assert sum("mirrored" in view for view in flags([frame[:, ::-1] for frame in jsrt])) >= 19
    alarms = flags(jsrt) + flags(covid)
    assert sum(map(bool, alarms)) <= 0.02 * len(alarms)
