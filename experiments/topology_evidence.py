"""Organs that fall apart on other hospitals' images: parts, holes, lost organs, crossing contours.

    python experiments/topology_evidence.py --root DIR --out docs/evidence

`--root` holds covid-cxr as users download it, whose validation images are segmented. No reference is
needed: an organ is whole if it is there, in one part, without a hole. A label map has no lung behind
the heart and the clavicles; these are given back to the lung before its parts are counted, or their
borders would count as faults of the U-Net. Contours are drawn as they are. Parts of any size count.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from comparing import write
from scipy.ndimage import binary_fill_holes

import anatozoo
from anatozoo.io.chest import index_chest
from anatozoo.metrics.functional import self_intersections
from anatozoo.metrics.plausibility import components, holes
from anatozoo.metrics.tables import markdown_table
from anatozoo.organs import LUNGS
from anatozoo.results.segmentation import SegmentationResult

Mask = npt.NDArray[np.bool_]
COLUMNS = ("organs", "whole", "lost", "extra_parts", "holes", "self_intersections")


def whole_masks(result: SegmentationResult) -> dict[str, Mask]:
    """The mask of each organ, the lungs of a label map with what covers them.

    Of what covers a lung, only parts that touch it are given back: a heart beside it is none of its parts.
    """
    masks = {organ: mask.astype(bool) for organ, mask in result.masks.items()}
    if result.landmarks:
        return masks
    cover = np.zeros(next(iter(masks.values())).shape, bool)
    for organ, mask in masks.items():
        if organ not in LUNGS:
            cover |= binary_fill_holes(mask)  # a hole of the heart is no fault of the lung
    return {organ: _touching(mask, cover) if organ in LUNGS else mask for organ, mask in masks.items()}


def faults(result: SegmentationResult) -> list[dict[str, float]]:
    """Of each organ: whether it is whole or lost, parts beyond one, holes, crossings of its contour."""
    rows = []
    for organ, mask in whole_masks(result).items():
        lost = not result.masks[organ].any()
        # A lung may miss what covers it by a pixel: holes are those of the lung alone.
        parts, gaps = (0, 0) if lost else (components(mask) - 1, holes(result.masks[organ]))
        crossings = self_intersections(result.landmarks[organ]) if organ in result.landmarks else 0
        rows.append(
            {
                "organs": 1,
                "whole": float(not (lost or parts or gaps or crossings)),
                "lost": float(lost),
                "extra_parts": parts,
                "holes": gaps,
                "self_intersections": crossings,
            }
        )
    return rows


def totals(rows: Iterable[Mapping[str, float]]) -> dict[str, int]:
    """Sums over organs and images."""
    listed = list(rows)
    return {column: int(sum(row[column] for row in listed)) for column in COLUMNS}


def _touching(lung: Mask, cover: Mask) -> Mask:
    """A lung with the parts of its cover that touch it, of the union of both."""
    import cv2

    count, labels = cv2.connectedComponents((lung | cover).astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[np.unique(labels[lung])] = True
    kept[0] = False
    return np.asarray(kept[labels])


def markdown(record: Mapping[str, Any]) -> str:
    """The record as a table."""
    rows = [
        [model, str(found["images"]), *(str(found[column]) for column in COLUMNS)]
        for model, found in record["models"].items()
    ]
    table = markdown_table(["model", "images", *(c.replace("_", " ") for c in COLUMNS)], rows)
    return "\n".join(["# Organs that fall apart", "", record["about"], "", *table]) + "\n"


def main() -> None:
    """Parse the options, segment, count, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["unet-jsrt", "hybridgnet-jsrt"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    cases = [case for case in index_chest(options.root, "covid", "val") if case.image is not None]
    for name in options.models:
        model = anatozoo.load(name)
        rows = [row for case in cases for row in faults(model.predict(case.read_image()))]
        found[f"{name} {model.checkpoint_version}"] = {"images": len(cases), **totals(rows)}
        print(json.dumps(found), flush=True)
    if options.out is None:
        return
    command = "python experiments/topology_evidence.py --root DIR --out docs/evidence"
    about = (
        "Sums over the validation images of covid-cxr and their organs: organs that are whole (there, in "
        "one part, without a hole, contour not crossing itself) or lost, parts beyond one, holes, and "
        "crossings of contours, which label maps do not have. Lungs of label maps get back what covers "
        f"them. `{command}`"
    )
    record = {"command": command, "about": about, "models": found}
    write(options.out, "topology_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
