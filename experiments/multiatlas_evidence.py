"""Multi-atlas segmentation: what its engines and its ways of fusing reach, and which images it calls unlike.

    python experiments/multiatlas_evidence.py --root DIR --out docs/evidence

`--root` holds JSRT with its landmarks; its 21 validation images are segmented. `--model` is the folder of the
atlas, which users build themselves (docs/multiatlas.md); by default it is where a source checkout has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from comparing import options_of, validation_cases, write
from landmark_rows import METRICS, answers
from landmark_table import HOW

import anatozoo
from anatozoo.data.case import Case as DataCase
from anatozoo.frames.square import to_network
from anatozoo.io.grid import Grid
from anatozoo.methods.multiatlas.model import UNLIKE, resemblance
from anatozoo.metrics.cases import case_row
from anatozoo.metrics.tables import describe, markdown_table, provenance
from anatozoo.organs import LUNGS_HEART
from anatozoo.tasks.chest_cases import compared

ENGINES = {"bspline": ("voting",), "acregnet-jsrt": ("voting", "staple")}
"""Engine -> the fusions that are measured beside the mean landmarks."""
COLUMNS = {**METRICS, "mse_px2/along": "MSE along the contour, px²"}
COMMAND = "python experiments/multiatlas_evidence.py --root DIR --out docs/evidence"
CUT = replace(HOW, exclusive=True)


def measured(model: Any, cases: Sequence[DataCase]) -> dict[str, Any]:
    """Each engine by its mean landmarks, and Dice of the label maps, organs cut where they overlap."""
    contours: dict[str, list[dict[str, Any]]] = {}
    maps: dict[str, list[dict[str, Any]]] = {}
    unlike = set()
    for engine, fusions in ENGINES.items():
        model.engine = engine
        for fusion in fusions:
            model.fusion = fusion
            for case in cases:
                image = case.read_flat()
                drawn = case.read_drawn(LUNGS_HEART, Grid(image.size, image.spacing_mm))
                result = model.predict(image)
                if UNLIKE in result.flags:
                    unlike.add(case.id)
                found = dict(answers(result))
                if fusion == fusions[0]:
                    contours.setdefault(engine, []).append(
                        case_row(compared(drawn, result, HOW), HOW.measures)
                    )
                    maps.setdefault(f"{engine}, mean landmarks", []).append(
                        case_row(compared(drawn, result, CUT), CUT.measures)
                    )
                maps.setdefault(f"{engine}, {fusion}", []).append(
                    case_row(compared(drawn, found["masks"], CUT), CUT.measures)
                )
            print(engine, fusion, flush=True)
    return {
        "engines": {name: kept(rows, tuple(COLUMNS)) for name, rows in contours.items()},
        "label_maps": {name: kept(rows, ("dice/lungs", "dice/heart")) for name, rows in maps.items()},
        "unlike": sorted(unlike),
    }


def kept(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, Any]:
    """Means, standard deviations and intervals of some columns."""
    return describe([{"id": number} | {c: row[c] for c in columns} for number, row in enumerate(rows)])


def pictures(levels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """An image as it is and as it should not be given."""
    yield "as it is", levels
    yield "mirrored", levels[:, ::-1]
    yield "turned by 90°", np.rot90(levels)
    yield "turned by 180°", np.rot90(levels, 2)
    yield "inverted", 255 - levels
    yield "noise", np.random.default_rng(0).integers(0, 256, levels.shape, np.uint8)


def resemblances(model: Any, cases: Sequence[DataCase]) -> dict[str, list[float]]:
    """Lowest and highest resemblance to the atlas of the images, and of what is made of them."""
    atlas, found = model.atlas_images.numpy(), {}
    for case in cases:
        frame, _ = to_network(case.read_flat(), model.side, model.frame.intensity)
        for name, picture in pictures(np.round(255 * frame).astype(np.uint8)):
            found.setdefault(name, []).append(float(resemblance(np.ascontiguousarray(picture), atlas).max()))
    return {name: [round(min(values), 3), round(max(values), 3)] for name, values in found.items()}


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    engines = [
        [name, *(f"{found[c]['mean']:.4g} ± {found[c]['sd']:.3g}" for c in COLUMNS)]
        for name, found in record["engines"].items()
    ]
    maps = [
        [name, *(f"{found[f'dice/{organ}']['mean']:.3f}" for organ in ("lungs", "heart"))]
        for name, found in record["label_maps"].items()
    ]
    alike = [[name, str(low), str(high)] for name, (low, high) in record["resemblance"].items()]
    lines = [
        "# Multi-atlas segmentation",
        "",
        record["about"],
        "",
        *markdown_table(["engine", *COLUMNS.values()], engines),
        "",
        "Dice of label maps, organs cut where they overlap:",
        "",
        *markdown_table(["label map", "lungs", "heart"], maps),
        "",
        f"Correlation with the most similar image of the atlas at 32 × 32 pixels; below "
        f"{record['least_resemblance']} an image is flagged, of the {record['images']} as they are "
        f"{len(record['unlike'])}:",
        "",
        *markdown_table(["image", "lowest", "highest"], alike),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, segment, measure, write the tables."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--model", default="multiatlas-jsrt", help="the atlas (default: multiatlas-jsrt)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model: Any = anatozoo.load(options.model, trainable=False)
    cases = validation_cases(options.root, "jsrt", LUNGS_HEART, 2, options.allow_dealt_split)
    record = {
        "command": COMMAND,
        "about": (
            f"{model.checkpoint_name} {model.checkpoint_version}, {len(model.atlas)} atlas images, on the "
            f"{len(cases)} validation images of JSRT at 1024 x 1024, 0.35 mm a pixel; no setting was chosen "
            f"on them. `{COMMAND}`"
        ),
        "images": len(cases),
        "least_resemblance": model.least_resemblance,
        "resemblance": resemblances(model, cases),
        **measured(model, cases),
        **provenance(("torch", "numpy", "SimpleITK")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, "multiatlas-jsrt_experiment", record, text)


if __name__ == "__main__":
    main()
