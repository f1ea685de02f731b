"""Landmarks from masks: how near to those of the data set, and how well they reproduce the masks.

    python experiments/seg2graph_evidence.py --root DIR --out docs/evidence

`--root` holds JSRT with its landmarks and SCR's masks, and covid-cxr; validation images alone are used.
Masks are drawn from the landmarks of JSRT, as in the publication, and then taken away in part: one organ
cuts another, organs are missing, lungs are one organ. SCR's own masks and those of covid-cxr, whose lungs go
on behind the heart, come from the data sets.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparing import write

import anatozoo
from anatozoo.io.annotation import Annotation
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.organ_masks import OrganMasks
from anatozoo.metrics.cases import Case, Measures, case_row
from anatozoo.metrics.chest import FRAME, scale_points, with_pairs
from anatozoo.metrics.tables import markdown_table
from anatozoo.organs import LUNGS, LUNGS_HEART

SPACING_MM = 0.35
COLUMNS = ("mse_px2", *(f"{m}/{o}" for o in ("lungs", "heart", "clavicles") for m in ("dice", "hd_mm")))
Masks = dict[str, np.ndarray]


def exclusive(masks: Masks) -> Masks:
    """Masks of which a later one cuts the earlier ones."""
    found, taken = {}, np.zeros_like(next(iter(masks.values())))
    for organ, mask in reversed(masks.items()):
        found[organ] = mask & ~taken
        taken = taken | mask
    return dict(reversed(found.items()))


def as_one(masks: Masks) -> Masks:
    """Both lungs as one organ."""
    return {"lungs": masks["lung_right"] | masks["lung_left"]}


def inputs(masks: Masks) -> Iterator[tuple[str, Masks]]:
    """The same masks as different data sets have them."""
    yield "drawn, five organs", masks
    yield "drawn, five organs in one label map", exclusive(masks)
    yield "drawn, lungs and heart", {organ: masks[organ] for organ in LUNGS_HEART}
    yield "drawn, lungs and heart in one label map", exclusive({organ: masks[organ] for organ in LUNGS_HEART})
    yield "drawn, lungs", {organ: masks[organ] for organ in LUNGS}
    yield "drawn, lungs as one organ", as_one(masks)


def jsrt_rows(model: Any, case: ChestCase) -> Iterator[tuple[str, Mapping[str, float]]]:
    """The numbers of one case for each kind of input."""
    points = scale_points(case.landmarks, case.size, (FRAME, FRAME))
    whole = {organ: draw_organ_mask(p, (FRAME, FRAME)) for organ, p in points.items()}
    grid = Grid((FRAME, FRAME), (SPACING_MM, SPACING_MM))
    for name, masks in inputs(whole):
        result = model.predict(OrganMasks(masks, grid))
        yield name, _row(result.landmarks, points, {organ: whole[organ] for organ in result.landmarks})
    given = {organ: case.read_mask(organ) for organ in case.masks}
    result = model.predict(OrganMasks(given, grid))
    yield "SCR, five organs", _row(result.landmarks, {}, given)


def _row(
    found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], masks: Masks
) -> Mapping[str, float]:
    size, spacing = (FRAME, FRAME), (SPACING_MM, SPACING_MM)
    drawn = {organ: draw_organ_mask(points, size) for organ, points in found.items()}
    known = {organ: truth[organ] for organ in found if organ in truth}
    prediction, reference = Annotation(size, found, drawn), Annotation(size, known, masks, spacing)
    case = Case(with_pairs(prediction, reference), reference)
    return case_row(case, Measures(rounding="nearest", plausibility=False))


def covid_rows(model: Any, root: Path) -> list[dict[str, float]]:
    """How well the landmarks reproduce the masks of covid-cxr."""
    rows = []
    for case in index_chest(root, "covid", "val"):
        masks = {organ: case.read_mask(organ) for organ in LUNGS}
        height, width = masks["lung_right"].shape
        result = model.predict(OrganMasks(as_one(masks), Grid((width, height))))
        poor = any(flag.startswith("poor_fit") for flag in result.flags)
        rows.append(
            {"dice/lungs": result.dice["lungs"], "hd_px/lungs": result.hd_px["lungs"], "poor_fit": poor}
        )
    return rows


def means(rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> dict[str, float]:
    """Means over the cases of the columns that there are."""
    found = {c: float(np.mean([row[c] for row in rows])) for c in columns if all(c in row for row in rows)}
    return {column: round(value, 4) for column, value in found.items() if not math.isnan(value)}


def markdown(record: Mapping[str, Any]) -> str:
    """The record as a table."""
    rows = [
        [row["masks"], str(row["n"]), *(f"{row[c]:.4g}" if c in row else "" for c in COLUMNS)]
        for row in record["jsrt"]
    ]
    table = markdown_table(["masks", "images", *(c.replace("/", " ") for c in COLUMNS)], rows)
    covid = record["covid"]
    words = (
        f"covid-cxr, {covid['n']} masks of lungs as one organ: Dice {covid['dice/lungs']:.4f}, Hausdorff "
        f"{covid['hd_px/lungs']:.1f} px between given masks and landmarks; poor fits: {covid['poor_fit']}."
    )
    return "\n".join(["# Landmarks from masks", "", record["about"], "", *table, "", words]) + "\n"


def main() -> None:
    """Parse the options, find landmarks, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="seg2graph-jsrt")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = anatozoo.load(options.model, trainable=False)
    rows: dict[str, list[Mapping[str, float]]] = {}
    for case in index_chest(options.root, "jsrt", "val"):
        for name, row in jsrt_rows(model, case):
            rows.setdefault(name, []).append(row)
    jsrt = [{"masks": name, "n": len(found), **means(found, COLUMNS)} for name, found in rows.items()]
    print(json.dumps(jsrt, indent=1), flush=True)
    other = covid_rows(model, options.root)
    covid = {"n": len(other), **means(other, ("dice/lungs", "hd_px/lungs"))}
    covid["poor_fit"] = int(sum(row["poor_fit"] for row in other))
    print(json.dumps(covid), flush=True)
    if options.out is None:
        return
    command = "python experiments/seg2graph_evidence.py --root DIR --out docs/evidence"
    about = (
        f"{model.checkpoint_name} {model.checkpoint_version} on the validation images of JSRT at 1024 x "
        f"1024, {SPACING_MM} mm a pixel, on which its weights were chosen. MSE is over the landmarks of the "
        "organs that the masks show; Dice and Hausdorff distance compare the areas in the landmarks with "
        "those in JSRT's, whole also where the masks were cut, and in the last line with SCR's masks. Masks "
        f"of covid-cxr are of other radiographs, none of which was trained on. `{command}`"
    )
    record = {"command": command, "about": about, "jsrt": jsrt, "covid": covid}
    write(options.out, "seg2graph-jsrt_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
