"""The design of the experiment on heterogeneous labels: two hospitals made of one, and the arms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fitting import by_hash

from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.chest import case_of
from anatozoo.errors import DataError
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.grid import Grid
from anatozoo.io.images import Image
from anatozoo.io.intensity import to_unit_range
from anatozoo.organs import parts_of

DOMAINS = ("A", "B")
ORGANS = ("lungs", "heart", "clavicles")
GAMMA, CLIP_LIMIT, BORDER = 1.6, 4.0, 0.05


# --- networks ----------------------------------------------------------------------------------------------


class Arm(NamedTuple):
    """A kind of network and what it makes of missing labels.

    Attributes:
        label: in tables.
        method: of the zoo.
        settings: of the method.
        longer: steps for each step of `--steps`, so that all have about the same computing time.
    """

    label: str
    method: str
    settings: Mapping[str, Any]
    longer: float = 1.0


_ENCODER = {
    "encoder": "tf_efficientnet_lite0",
    "encoder_weights": "package",
    "frozen_layers": ["body.conv_stem", "body.bn1", "body.blocks.0", "body.blocks.1"],
}
_GRAPH = _ENCODER | {"organs": "lungs_heart_clavicles", "template": True, "region_weight": 0.0}
_LABELS = {"organs": list(ORGANS), "loss": "organs"}
_DYNUNET = _LABELS | {"encoder": "dynunet", "decoder_widths": [8, 16, 32, 64, 128, 128]}
ARMS = {
    "hybridgnet": Arm(
        "HybridGNet",
        "hybridgnet",
        # At a quarter of the publication's size, skips from finer levels look at as many places.
        _GRAPH | {"skips": [5, 4], "loss": "paper"},
        longer=1.5,
    ),
    "hybridgnet-refined": Arm(
        "HybridGNet, refined",
        "hybridgnet",
        _GRAPH
        | {"skips": [6, 5], "loss": "contour", "refine": [0.05, 0.03, 0.015], "huber_delta": 3.0}
        | {"dense_weight": 1.0},
    ),
    "unet": Arm("U-Net, missing = background", "unet", _LABELS | _ENCODER | {"missing": "background"}),
    "unet-either": Arm("U-Net, missing = either", "unet", _LABELS | _ENCODER | {"missing": "either"}),
    "unet-ht": Arm("UNet-HT", "unet", _LABELS | _ENCODER | {"output": "organs"}),
    "dynunet": Arm("DynUNet, missing = background", "unet", _DYNUNET | {"missing": "background"}),
    "dynunet-ignore": Arm("DynUNet, missing = ignore", "unet", _DYNUNET | {"missing": "ignore"}),
}


class Run(NamedTuple):
    """One network: its arm, the organ that is missing, where, and the seed."""

    arm: str
    organ: str
    domain: str
    seed: int

    @property
    def file(self) -> str:
        """Its file in `--work`."""
        return f"{self.organ}_{self.domain}_{self.arm}_{self.seed}.json"


# --- two hospitals of one ----------------------------------------------------------------------------------


def find_patients(root: Path) -> dict[str, list[ChestCase]]:
    """JSRT's images of the train and val splits with contours; those of the test split are not touched.

    Raises:
        DataError: a split has fewer than two.
    """
    found: dict[str, list[ChestCase]] = {"train": [], "val": []}
    for case in index_chest(root, "jsrt"):
        if case.split in found and case.image is not None and "clavicle_left" in case.landmarks:
            found[case.split].append(case)
    if min(map(len, found.values())) < 2:
        raise DataError(f"{root} has too few images of JSRT's train and val splits with landmarks.")
    return found


def deal(cases: Sequence[ChestCase]) -> dict[str, list[ChestCase]]:
    """Half of the cases for each hospital, by a hash of their names."""
    ordered = by_hash(cases)
    half = len(ordered) // 2
    return {"A": ordered[:half], "B": ordered[half : 2 * half]}


def other_look(image: Image) -> Image:
    """The image as hospital B would have it: of the same geometry, with other grey values."""
    import cv2

    levels = np.arange(256) / 255
    curve = np.round(255 * (0.12 + 0.8 * (levels + 0.06 * np.sin(2 * np.pi * levels)))).astype(np.uint8)
    grey = np.round(255 * to_unit_range(image.pixels) ** GAMMA).astype(np.uint8)
    grey = curve[cv2.createCLAHE(CLIP_LIMIT, (8, 8)).apply(grey)]
    height, width = grey.shape
    size = height / 512
    for words, place in (("B", (0.09, 0.13)), ("PORTABLE AP", (0.64, 0.09))):
        where = (int(place[0] * width), int(place[1] * height))
        cv2.putText(grey, words, where, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * size, 255, max(1, int(2 * size)))
    inside = np.zeros_like(grey)
    top, left = int(BORDER * height), int(BORDER * width)
    inside[top : height - top, left : width - left] = 1
    return replace(image, pixels=(grey * inside).astype(np.float32), black_white=(0.0, 255.0))


def as_seen(chest: ChestCase, domain: str, hidden: str | None = None) -> Case:
    """A case in the look of a hospital, with its contours, without those of a hidden organ."""
    landmarks = {
        organ: points
        for organ, points in chest.landmarks.items()
        if hidden is None or organ not in parts_of(hidden)
    }

    def read() -> Image:
        image = chest.read_image()
        return other_look(image) if domain == "B" else image

    def draw(organs: Sequence[str], grid: Grid | None) -> Drawn:
        return Drawn(Grid(chest.size, chest.spacing_mm), landmarks)

    return replace(case_of(chest), domain=domain, organs=frozenset(landmarks), image=read, draw=draw)
