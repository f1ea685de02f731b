"""Do the nodes of a contour network that has seen masks alone lie at the same anatomy in every patient?

    python experiments/node_correspondence.py --root DIR --out docs/evidence

On training images of JSRT each landmark of the annotators is put on the network's contour, at the nearest
place: so many nodes and a fraction after node 0. The mean of these places over the patients says where on the
contour the landmark belongs. On the validation images the point at that place is compared with the true
landmark. If nodes correspond, it lies near it; if they slide along the contour from patient to patient, it
does not, however good the contour is.

Controls: the same contours with nodes spaced anew, evenly, from the corner of their bounding box where
hand-drawn contours start (`anatozoo.data.contours`), so that nothing learnt is left in their numbering; and
the distance of the landmark from the nearest point of the contour, which no numbering can beat.
`hybridgnet-jsrt` has learnt the landmarks themselves, and is measured in the same way.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import options_of, paired, table_lines, write

import anatozoo
from anatozoo.data.case import Case
from anatozoo.data.contours import resampled
from anatozoo.data.layouts.registry import find_cases
from anatozoo.io.splits import refuse_dealt
from anatozoo.organs import CHEST_ORGANS

Points = npt.NDArray[np.float64]
ORGANS = list(CHEST_ORGANS)
NAME = "node-correspondence_experiment"
MODELS = ("maskhybridgnet-jsrt", "hybridgnet-jsrt")


def places_on(contour: Points, points: Points) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where points lie on a closed contour.

    Args:
        contour: (N, 2).
        points: (M, 2).

    Returns:
        (M,) the nearest place, as a number from 0 to N whose whole part is the node before it, and (M,) the
        distance from it.
    """
    start, step = contour, np.roll(contour, -1, axis=0) - contour
    along = ((points[:, None] - start) * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12)
    along = along.clip(0, 1)
    distance = np.linalg.norm(start + along[..., None] * step - points[:, None], axis=-1)
    edge = distance.argmin(1)
    rows = np.arange(len(points))
    return edge + along[rows, edge], distance[rows, edge]


def point_at(contour: Points, places: npt.NDArray[np.float64]) -> Points:
    """Points (M, 2) at places (M,) of a closed contour (N, 2), see `places_on`."""
    node, part = np.floor(places).astype(int) % len(contour), (places % 1)[:, None]
    found: Points = contour[node] * (1 - part) + contour[(node + 1) % len(contour)] * part
    return found


def usual_places(places: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Mean over patients (n, M) of places on closed contours of `count` nodes, where 0 follows the last."""
    turned = np.exp(2j * np.pi * places / count).mean(0)
    found: npt.NDArray[np.float64] = np.angle(turned) / (2 * np.pi) % 1 * count
    return found


def distances(
    train: Sequence[tuple[Points, Points]], val: Sequence[tuple[Points, Points]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances of carried landmarks, and of the contours, from the true landmarks.

    Args:
        train: contour (N, 2) and landmarks (M, 2) of each patient who says where landmarks belong.
        val: the same of those who are measured.

    Returns:
        (n,) means over the landmarks of each patient of `val`: by the numbers of the nodes, and to the
        nearest place of the contour.
    """
    belongs = usual_places(
        np.stack([places_on(contour, points)[0] for contour, points in train]), len(train[0][0])
    )
    carried = [np.linalg.norm(point_at(contour, belongs) - points, axis=1).mean() for contour, points in val]
    nearest = [places_on(contour, points)[1].mean() for contour, points in val]
    return np.array(carried), np.array(nearest)


def measured(model: Any, cases: Mapping[str, Sequence[Case]], spacing: float) -> dict[str, dict[str, Any]]:
    """Distances in millimetres of each organ, by numbering."""
    pairs: dict[str, dict[str, list[tuple[Points, Points]]]] = {}
    for split, each in cases.items():
        for case in each:
            image = case.read_flat()
            contours = model.predict(image).landmarks
            true = case.read_drawn(ORGANS).landmarks
            for organ in ORGANS:
                pairs.setdefault(organ, {}).setdefault(split, []).append(
                    (np.asarray(contours[organ], float), np.asarray(true[organ], float))
                )
    rows: dict[str, dict[str, Any]] = {}
    for organ, found in pairs.items():
        anew = {
            split: [(resampled(contour, len(contour), organ), points) for contour, points in both]
            for split, both in found.items()
        }
        carried, nearest = distances(found["train"], found["val"])
        control, _ = distances(anew["train"], anew["val"])
        rows[organ] = {
            "nodes": (carried * spacing).tolist(),
            "spaced_anew": (control * spacing).tolist(),
            "nearest": (nearest * spacing).tolist(),
        }
    return rows


def report(record: Mapping[str, Any]) -> str:
    """The table."""
    lines = ["# Whether nodes correspond", "", f"`{record['command']}`", ""]
    lines += [
        f"Mean distance in mm of landmarks from where they are carried to, {record['train']} training images "
        f"and {record['val']} of validation. Of `maskhybridgnet-jsrt` the weights were chosen on the latter. "
        "p of Wilcoxon's signed-rank test over images, nodes against nodes spaced anew.",
        "",
    ]
    head = ("model", "organ", "by its nodes", "nodes spaced anew", "nearest place of the contour", "p")
    rows = []
    for model, organs in record["models"].items():
        for organ, found in organs.items():
            nodes, anew, nearest = (np.mean(found[key]) for key in ("nodes", "spaced_anew", "nearest"))
            rows.append(
                [model, organ, f"{nodes:.2f}", f"{anew:.2f}", f"{nearest:.2f}", f"{found['test']['p']:.1g}"]
            )
    return "\n".join([*lines, *table_lines(head, rows)]) + "\n"


def main() -> None:
    """Parse the options, measure, write the table."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--spacing-mm", type=float, default=0.35, help="of a pixel (default: 0.35)")
    options: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(options.threads)
    listing = find_cases(options.root, "jsrt", ORGANS, dims=2)
    cases = {split: listing.complete(ORGANS, split) for split in ("train", "val")}
    refuse_dealt(cases["val"], options.allow_dealt_split)
    models = {}
    for name in MODELS:
        model = anatozoo.load(name, trainable=False)
        models[f"{name} {model.checkpoint_version}"] = found = measured(model, cases, options.spacing_mm)
        for each in found.values():
            each["test"] = paired(np.subtract(each["nodes"], each["spaced_anew"]))
    record = {
        "command": "python experiments/node_correspondence.py --root DIR --out docs/evidence",
        "train": len(cases["train"]),
        "val": len(cases["val"]),
        "models": models,
    }
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
