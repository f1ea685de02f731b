"""Folders of sources that annotate different organs, and data modules of them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anatozoo.data.case import Case, Drawn
from anatozoo.data.module import ZooDataModule
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.unet.data import UNetDataModule
from tests.support.phantoms import make_chest_phantom

ORGANS = ["lung_right", "heart"]


def case(source: str, *organs: str) -> Case:
    return Case("x", "x", domain=source, organs=frozenset(organs), draw=lambda _, grid: Drawn(Grid((2, 2))))


def site(root: Path, name: str, organs: dict[str, str], count: int = 3, size: int = 1) -> None:
    """A folder of images, and one of masks for each organ under a name; every mask `size` times as wide."""
    for number in range(count):
        phantom = make_chest_phantom(96, 80, seed=number)
        for place in ("images", *(f"masks/{written}" for written in organs.values())):
            (root / name / place).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name / "images" / f"p{number}.png"), phantom.image)
        for organ, written in organs.items():
            mask = np.zeros((80, 96), np.uint8)
            cv2.fillPoly(mask, [np.rint(phantom.landmarks[organ]).astype(np.int32)], 255)
            mask = np.repeat(mask, size, 1)
            cv2.imwrite(str(root / name / "masks" / written / f"p{number}.png"), mask)


def finish(root: Path, count: int = 3) -> Path:
    names = [f"{each.name}/p{n}" for each in sorted(root.iterdir()) for n in range(count)]
    val = [name for name in names if name.endswith("p2")]
    (root / "splits.json").write_text(json.dumps({"train": sorted(set(names) - set(val)), "val": val}))
    return root


def ready(root: Path, method: str = "unet", **settings: Any) -> ZooDataModule:
    given: dict[str, Any] = {"layout": "folder", "frame": FrameSpec(64), "batch_size": 2} | settings
    if method == "unet":
        module: ZooDataModule = UNetDataModule(str(root), organs=ORGANS, **given)
    else:
        module = HybridGNetDataModule(str(root), organs={"lung_right": 44, "heart": 26}, **given)
    module.setup("fit")
    return module


def label_maps(root: Path, heart: int = 1) -> Path:
    """Label maps without lungs in place of the masks of a site's hearts."""
    for path in list((root / "masks" / "heart").iterdir()):
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert labels is not None
        path.unlink()
        cv2.imwrite(str(path.parents[1] / path.name), labels // 255 * np.uint8(heart))
    (root / "masks" / "heart").rmdir()
    return root
