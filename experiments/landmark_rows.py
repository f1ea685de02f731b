"""The rows of the landmark table, and the answers of each that are measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anatozoo.organs import PAIRS
from anatozoo.results.labels import LabelResult

METRICS = {
    "mse_px2": "MSE, px²",
    "dice/lungs": "Dice, lungs",
    "hd_mm/lungs": "HD, lungs, mm",
    "dice/heart": "Dice, heart",
    "hd_mm/heart": "HD, heart, mm",
}
"""Columns of the table, with their heads."""


@dataclass(frozen=True)
class TableRow:
    """One row.

    Args:
        name: name of its checkpoint; that of a second run ends in ``-2``.
        title: its name in tables.
        config: the configuration that trains it.
        published: title of the published row, where there is one.
        runs: how many trainings, with seeds 1, 2, ...
    """

    name: str
    title: str
    config: str
    published: str | None = None
    runs: int = 1

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Names of the checkpoints of all runs; the first one stands in the table."""
        return (self.name, *(f"{self.name}-{run}" for run in range(2, self.runs + 1)))


def _hybridgnet(name: str, title: str, config: str, published: str | None = None, runs: int = 1) -> TableRow:
    return TableRow(f"hybridgnet-jsrt-{name}", title, f"hybridgnet/rows/{config}.yaml", published, runs)


def _skips(*levels: int, runs: int = 1) -> TableRow:
    joined = "-".join(map(str, levels))
    title = f"1 IGSC, level {joined}" if len(levels) == 1 else f"2 IGSC, {joined}"
    shown = joined.replace("-", "")
    return _hybridgnet(f"igsc{shown}", title, f"igsc_{joined.replace('-', '_')}", title, runs)


ROWS = (
    TableRow("multiatlas-jsrt", "Multi-atlas", "multiatlas/jsrt.yaml", "Multi-atlas"),
    TableRow("pca-jsrt", "PCA", "landmarkvae/rows/pca.yaml", "PCA", 2),
    TableRow("fc-jsrt", "FC", "landmarkvae/rows/fc.yaml", "FC", 2),
    TableRow("fc-jsrt-miccai", "FC of MICCAI 2021", "landmarkvae/rows/fc_miccai.yaml"),
    _hybridgnet("noskip", "HybridGNet, no skips", "none", "HybridGNet, no skips", 2),
    _skips(3),
    _skips(4),
    _skips(5),
    _skips(6),
    _skips(4, 3),
    _skips(5, 4),
    _skips(6, 5, runs=2),
    *(_hybridgnet(f"k{order}", f"no skips, K = {order}", f"order_{order}") for order in (3, 5, 7, 9)),
    _hybridgnet("dual", "Dual", "dual"),
    _hybridgnet("dualskips", "Dual, skips", "dual_skips"),
    TableRow("unet-jsrt-row", "U-Net", "unet/rows/unet.yaml", "U-Net"),
    TableRow("unet-jsrt-dynunet", "DynUNet", "unet/rows/dynunet.yaml"),
    TableRow("unet-jsrt", "unet-jsrt of the zoo", "unet/jsrt.yaml"),
)
"""In the order of the table. The first learns nothing, the last had ImageNet and more steps: both stand
outside the equal budget."""


def answers(result: Any) -> Iterator[tuple[str, Any]]:
    """What is measured of a result: its name, empty for the result itself, and a result.

    Label maps are measured as they are, and with the largest part of each organ alone. A result of contours
    and a label map is measured as contours, and its label map like that of others.
    """
    yield "", result
    if isinstance(result, LabelResult):
        yield "largest parts", replace(result, label_map=largest_parts(result))
    elif getattr(result, "label_map", None) is not None:
        shared = ("checkpoint", "version", "image", "size", "spacing_mm")
        maps = LabelResult(
            **{name: getattr(result, name) for name in shared},
            label_map=result.label_map,
            classes=tuple(result.landmarks),
        )
        yield "masks", maps
        yield "masks, largest parts", replace(maps, label_map=largest_parts(maps))


def largest_parts(result: LabelResult) -> npt.NDArray[np.uint8]:
    """The label map with the largest part of each organ, of both lungs under one label the two largest."""
    kept = np.zeros_like(result.label_map)
    for organ, value in result.labels.items():
        labels, count = ndimage.label(result.label_map == value, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        chosen = np.argsort(-sizes, kind="stable")[: parts_of_organ(organ)] + 1
        kept[np.isin(labels, chosen)] = value
    return kept


def parts_of_organ(organ: str) -> int:
    """Of how many parts an organ is: a pair has two."""
    return 2 if organ in PAIRS else 1
