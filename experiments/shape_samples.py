"""How well the graph spectral VAE gives shapes back, and whether the shapes that it draws can be.

    python experiments/shape_samples.py --root DIR --out docs/evidence --images docs/images

`--root` holds JSRT with its landmarks. Landmarks of the validation images are encoded and decoded. Shapes are
drawn from N(0, I), mapped to the distribution of the training codes as `sample` does, and once without that
map. A shape is clean if none of its contours crosses itself, by exact arithmetic on the coordinates. How near
it is to a real one: the root mean square distance of its landmarks from those of the nearest training shape.
Everything is in pixels of a frame of 1024 x 1024.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import options_of, table_lines, validation_cases, write

import anatozoo
from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.io.figures import figure_bytes
from anatozoo.io.writers import write_bytes
from anatozoo.metrics.chest import FRAME, to_frame
from anatozoo.metrics.landmarks import landmark_mse_px2
from anatozoo.results.draw.shapes import plot_shapes
from anatozoo.results.shapes import ShapeSet

SAMPLES, SEEDS = 1000, (0, 1, 2)
DRAWN, STEPS, TRAVERSED = 16, 8, (0, 1, 2)
Floats = npt.NDArray[np.float64]


def shapes_of(cases: Sequence[Case], organs: Sequence[str]) -> Floats:
    """Landmarks (n, N, 2) of cases in pixels of the frame.

    Raises:
        DataError: a case lacks the landmarks of an organ.
    """
    found = []
    for case in cases:
        drawn = case.read_drawn(organs)
        if lacking := [organ for organ in organs if organ not in drawn.landmarks]:
            raise DataError(f"{case.id} has no landmarks of {', '.join(lacking)}.")
        points = to_frame(drawn.landmarks, (drawn.grid.size[0], drawn.grid.size[1]))
        found.append(np.concatenate([points[organ] for organ in organs]))
    return np.stack(found)


def nearest_px(shapes: Floats, others: Floats) -> Floats:
    """Root mean square distance of each shape's landmarks from those of the nearest of the others, (n,)."""
    flat, rest = (torch.tensor(each).flatten(1) for each in (shapes, others))
    distance: Floats = torch.cdist(flat, rest).amin(1).numpy() / np.sqrt(shapes.shape[1])
    return distance


def spread(values: Floats) -> dict[str, float]:
    """Median, 5 and 95 % quantile."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return {"median": round(middle, 2), "low": round(low, 2), "high": round(high, 2)}


def unmapped(model: Any, seed: int) -> ShapeSet:
    """Shapes of codes that are N(0, I) as they are."""
    noise = torch.randn(SAMPLES, model.latents, generator=torch.Generator().manual_seed(seed))
    found: ShapeSet = model.decoded(noise, ["sample"] * SAMPLES)
    return found


def measured(model: Any, root: Path, allow_dealt: bool) -> dict[str, Any]:
    """All numbers of a model."""
    organs = list(model.organs)
    train = find_cases(root, "jsrt", organs, dims=2).complete(organs, "train")
    val = validation_cases(root, "jsrt", organs, 2, allow_dealt)
    known, new = shapes_of(train, organs), shapes_of(val, organs)
    back = np.stack([np.concatenate(list(model.predict(shape).landmarks.values())) for shape in new])
    errors = np.array([landmark_mse_px2(*pair) for pair in zip(back, new, strict=True)])
    drawn = {f"N(0, I), mapped, seed {seed}": model.sample(SAMPLES, seed=seed) for seed in SEEDS} | {
        "N(0, I) as it is, seed 0": unmapped(model, 0)
    }
    return {
        "reconstruction": {
            "images": len(val),
            "mse_px2": round(float(errors.mean()), 2),
            "mse_px2_sd": round(float(errors.std(ddof=1)), 2),
            "nearest_px_of_validation_shapes": spread(nearest_px(new, known)),
        },
        "samples": {
            name: {
                "shapes": len(shapes),
                "clean_percent": round(100 * float(shapes.clean.mean()), 2),
                "nearest_px": spread(nearest_px(shapes.points, known)),
            }
            for name, shapes in drawn.items()
        },
    }


def picture(model: Any) -> bytes:
    """Samples above, traversals of the first components below."""
    sets = [model.sample(DRAWN, seed=0), *(model.traverse(each, steps=STEPS) for each in TRAVERSED)]
    shapes = [shape for each in sets for shape in each]
    captions = [caption for each in sets for caption in each.captions]
    crossed = [not clean for each in sets for clean in each.clean]
    return figure_bytes(plot_shapes(shapes, captions, (FRAME, FRAME), crossed), 72)


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""

    def words(values: dict[str, float]) -> str:
        return f"{values['median']:.1f} ({values['low']:.1f} to {values['high']:.1f})"

    rows = [
        [name, str(row["shapes"]), f"{row['clean_percent']:.1f} %", words(row["nearest_px"])]
        for name, row in record["samples"].items()
    ]
    back = record["reconstruction"]
    rows.append(
        ["real shapes of val", str(back["images"]), "", words(back["nearest_px_of_validation_shapes"])]
    )
    head = ["shapes", "n", "clean", "px to the nearest training shape: median (5 to 95 %)"]
    error = (
        f"Reconstruction of the {back['images']} validation shapes, by which the weights were chosen: MSE "
        f"{back['mse_px2']:.1f} px² (standard deviation {back['mse_px2_sd']:.1f})."
    )
    return (
        "\n".join(["# Shapes that are drawn", "", record["about"], "", error, "", *table_lines(head, rows)])
        + "\n"
    )


def main() -> None:
    """Parse the options, measure, write the tables and the picture."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--model", default="shapevae-jsrt", help="a checkpoint: name, folder or run")
    parser.add_argument("--images", type=Path, help="folder for the picture")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = anatozoo.load(options.model)
    record = {
        "about": (
            f"{model.checkpoint_name} {model.checkpoint_version} on JSRT. Clean: no contour crosses itself. "
            "`sample` maps N(0, I) to the mean and the covariance of the training codes; without this map "
            "the codes are none that a real shape has. Settings and weights were chosen on the validation "
            "split. "
            "`python experiments/shape_samples.py --root DIR --out docs/evidence --images docs/images`"
        ),
        **measured(model, options.root, options.allow_dealt_split),
    }
    print(markdown(record))
    if options.out is not None:
        write(options.out, f"{model.checkpoint_name}_experiment", record, markdown(record))
    if options.images is not None:
        write_bytes(options.images / "shape-samples.png", picture(model))


if __name__ == "__main__":
    main()
