"""How well the spread of HybridGNet's samples tells where its contours are wrong.

    python experiments/uncertainty_evidence.py --root DIR --model NAME --out docs/evidence

`--root` holds JSRT with its landmarks, and covid-cxr with its masks of lungs; validation images alone are
used. Each image is given as it is, and damaged: black squares and blurred squares at seeded places, blur of
the whole image, noise. For each picture the mean standard deviation of the landmarks (sigma) stands beside
the error of the landmarks and the Dice of lungs and heart. Reported are correlations, and how well sigma
detects failures, pictures of a Dice below 0.9, beside the flags that the package raises anyway. Intervals are
bootstraps over images, whose pictures are drawn together. After Gaggion et al., "CheXmask-U", MIDL 2026.
"""

import argparse
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from comparing import options_of, table_lines, write
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import rankdata

import anatozoo
from anatozoo.data.case import Case as DataCase
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.rows import auc
from anatozoo.io.grid import Grid
from anatozoo.io.images import Image
from anatozoo.io.splits import refuse_dealt
from anatozoo.metrics.cases import OVERLAP, case_row
from anatozoo.metrics.functional import landmark_error_px
from anatozoo.metrics.occlusion import FRAME, occlude, occlusion_centres
from anatozoo.metrics.statistics import bootstrap_interval_of
from anatozoo.organs import parts_of
from anatozoo.tasks.chest_cases import compared, spread_numbers
from anatozoo.tasks.trials import Conditions

CORE = ("lung_right", "lung_left", "heart")
FAILURE = 0.9
SAMPLES = 50
POSITIONS = 2
RESAMPLES = 1000
LEVELS: dict[str, tuple[float, ...]] = {
    "occlusion": (64, 128, 256, 384),
    "local blur": (8, 16, 32),
    "blur": (4, 8, 16),
    "noise": (0.05, 0.1, 0.2, 0.4),
}
"""Side of the square and sigma of the blur in pixels of 1024 x 1024; noise as a share of the grey range."""
BLURRED_SIDE = 256
DATA = {"jsrt": "JSRT", "covid": "covid-cxr"}
Row = dict[str, Any]
Statistic = Callable[[np.ndarray, np.ndarray], float]


def blurred(image: Image, sigma: float) -> Image:
    """Gaussian blur; sigma is in pixels where the longer side has 1024."""
    width = sigma * max(image.size) / FRAME
    return replace(image, pixels=cv2.GaussianBlur(image.pixels, (0, 0), max(width, 1e-3)))


def locally_blurred(image: Image, sigma: float, centre: np.ndarray) -> Image:
    """Gaussian blur inside a square."""
    # A ramp has one smallest value: what `occlude` changes of it is the square.
    ramp = np.arange(1, image.pixels.size + 1, dtype=np.float64).reshape(image.pixels.shape)
    square = occlude(replace(image, pixels=ramp), BLURRED_SIDE, centre).pixels != ramp
    return replace(image, pixels=np.where(square, blurred(image, sigma).pixels, image.pixels))


def noisy(image: Image, share: float, seed: int) -> Image:
    """Gaussian noise of a share of the range between the percentiles 0.5 and 99.5."""
    low, high = np.percentile(image.pixels, [0.5, 99.5])
    noise = np.random.default_rng(seed).standard_normal(image.pixels.shape, dtype=np.float32)
    return replace(image, pixels=image.pixels + np.float32(share * (high - low)) * noise)


def pictures(image: Image, name: str, positions: int) -> Iterator[tuple[str, float, Image]]:
    """The image as it is, then damaged: kind, level and picture."""
    yield "none", 0.0, image
    centres = occlusion_centres(positions)
    for level in LEVELS["occlusion"]:
        for centre in centres:
            yield "occlusion", level, occlude(image, level, centre)
    for level in LEVELS["local blur"]:
        for centre in centres:
            yield "local blur", level, locally_blurred(image, level, centre)
    for level in LEVELS["blur"]:
        yield "blur", level, blurred(image, level)
    for level in LEVELS["noise"]:
        yield "noise", level, noisy(image, level, zlib.crc32(f"{name} {level}".encode()))


def rows_of(model: Any, case: DataCase, data: str, samples: int, positions: int) -> Iterator[Row]:
    """One row for each picture of a case."""
    image, how = case.read_flat(), Conditions(OVERLAP)
    drawn = case.read_drawn(tuple(model.organs), Grid(image.size, image.spacing_mm))
    for kind, level, picture in pictures(image, case.id, positions):
        result = model.predict(picture, samples=samples)
        found = compared(drawn, result, how)
        measured = case_row(found, how.measures)
        row: Row = {"id": f"{data}/{case.id}", "data": data, "kind": kind, "level": level}
        row["dice"] = float(np.mean([measured[n] for n in ("dice/lungs", "dice/heart") if n in measured]))
        annotated = {part for organ in drawn.organs for part in parts_of(organ)}
        known = [organ for organ in CORE if organ in result.landmarks and organ in annotated]
        weights = [len(result.landmarks[organ]) for organ in known]
        # In one unit for all data sets: pixels where the longer side has 1024.
        spread = spread_numbers(result, FRAME / max(picture.size))
        row["sigma_px"] = float(np.average([spread[f"sigma_px/{o}"] for o in known], weights=weights))
        row["error_px"] = math.nan
        sides = found.prediction.landmarks, found.reference.landmarks
        if marked := [organ for organ in CORE if all(organ in side for side in sides)]:
            row["error_px"] = landmark_error_px(*(np.concatenate([s[o] for o in marked]) for s in sides))
        yield row | {"flags": list(result.flags)}


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of the ranks; NaN where one side does not vary."""
    return pearson(rankdata(x), rankdata(y))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation; NaN where one side does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def with_interval(statistic: Statistic, x: np.ndarray, y: np.ndarray, clusters: Sequence[str]) -> Row | None:
    """A statistic and its 95 % percentile interval over draws of whole images; None where it has no value."""
    value = statistic(x, y)
    if math.isnan(value):
        return None
    low, high = bootstrap_interval_of(lambda i: statistic(x[i], y[i]), clusters, resamples=RESAMPLES)
    return {"value": value, "ci_low": low, "ci_high": high}


def summary(rows: Sequence[Row]) -> Row:
    """What rows say together."""
    sigma, dice, error = (np.array([row[key] for row in rows]) for key in ("sigma_px", "dice", "error_px"))
    ids, failed = [row["id"] for row in rows], dice < FAILURE
    flagged = np.array([bool(row["flags"]) for row in rows])
    marked = ~np.isnan(error)
    found: Row = {"pictures": len(rows), "images": len(set(ids)), "failures": int(failed.sum())}
    found["sigma_px"] = {"median": float(np.median(sigma)), "max": float(sigma.max())}
    for name, statistic in (("spearman", spearman), ("pearson", pearson)):
        own = [each for each, is_marked in zip(ids, marked, strict=True) if is_marked]
        found[f"{name}_error"] = with_interval(statistic, sigma[marked], error[marked], own)
        found[f"{name}_dice"] = with_interval(statistic, sigma, dice, ids)
    found["auroc_sigma"] = with_interval(auc, failed, sigma, ids)
    found["auroc_flags"] = with_interval(auc, failed, flagged, ids)
    found["flags"] = {
        "sensitivity": float(flagged[failed].mean()) if failed.any() else None,
        "specificity": float((~flagged[~failed]).mean()) if (~failed).any() else None,
    }
    return found


def groups_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """All pictures, those of each data set, and those of each kind of damage with the clean ones."""
    found = {"all": list(rows)}
    for data in dict.fromkeys(row["data"] for row in rows):
        found[DATA.get(data, data)] = [row for row in rows if row["data"] == data]
    found["clean"] = [row for row in rows if row["kind"] == "none"]
    for kind in LEVELS:
        found[f"clean and {kind}"] = [row for row in rows if row["kind"] in ("none", kind)]
    return found


def levels_of(rows: Sequence[Row]) -> list[Row]:
    """Means at each level of damage."""
    keys = dict.fromkeys((row["data"], row["kind"], row["level"]) for row in rows)
    found = []
    for data, kind, level in keys:
        own = [row for row in rows if (row["data"], row["kind"], row["level"]) == (data, kind, level)]
        numbers = {key: float(np.mean([row[key] for row in own])) for key in ("sigma_px", "dice", "error_px")}
        known = {key: None if math.isnan(value) else value for key, value in numbers.items()}
        flagged = float(np.mean([bool(row["flags"]) for row in own]))
        failed = int(sum(row["dice"] < FAILURE for row in own))
        identity = {"data": data, "kind": kind, "level": level, "pictures": len(own)}
        found.append(identity | known | {"failures": failed, "flagged": flagged})
    return found


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""

    def number(value: Mapping[str, float] | None) -> str:
        return (
            "–" if value is None else f"{value['value']:.3f} ({value['ci_low']:.3f} – {value['ci_high']:.3f})"
        )

    columns = (
        "spearman_error",
        "pearson_error",
        "spearman_dice",
        "pearson_dice",
        "auroc_sigma",
        "auroc_flags",
    )
    words = [name.replace("_", " ") for name in columns]
    lines = ["# Uncertainty by samples of the latent code", "", record["about"], ""]
    lines += table_lines(
        ["pictures of", "n", "failures", *words],
        [
            [name, str(each["pictures"]), str(each["failures"]), *(number(each[c]) for c in columns)]
            for name, each in record["groups"].items()
        ],
    )
    lines += ["", "Means at each level:", ""]
    keys = ("sigma_px", "error_px", "dice", "flagged")
    lines += table_lines(
        ["data", "damage", "level", "n", "failures", "sigma px", "error px", "Dice", "flagged"],
        [
            [
                DATA.get(r["data"], r["data"]),
                r["kind"],
                f"{r['level']:g}",
                str(r["pictures"]),
                str(r["failures"]),
            ]
            + ["–" if r[key] is None else f"{r[key]:.4g}" for key in keys]
            for r in record["levels"]
        ],
    )
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row]) -> Figure:
    """Sigma beside Dice and error, and the ROC curve of failure detection with the flags as one point."""
    drawn = Figure(figsize=(13, 4), layout="constrained")
    axes = drawn.subplots(1, 3)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        sigma = [max(row["sigma_px"], 1e-6) for row in own]
        label = "clean" if kind == "none" else kind
        axes[0].scatter(sigma, [row["error_px"] for row in own], s=6, alpha=0.6, label=label)
        axes[1].scatter(sigma, [row["dice"] for row in own], s=6, alpha=0.6)
    axes[0].set(xscale="log", yscale="log", xlabel="mean σ, px", ylabel="mean landmark error, px")
    axes[0].legend(fontsize=8)
    axes[1].axhline(FAILURE, color="grey", linewidth=0.8)
    axes[1].set(xscale="log", xlabel="mean σ, px", ylabel="Dice")
    failed = np.array([row["dice"] < FAILURE for row in rows])
    score = np.array([row["sigma_px"] for row in rows])
    flagged = np.array([bool(row["flags"]) for row in rows])
    if failed.any() and not failed.all():
        order = failed[np.argsort(-score, kind="stable")]
        axes[2].plot(np.cumsum(~order) / (~failed).sum(), np.cumsum(order) / failed.sum(), label="mean σ")
        axes[2].plot(flagged[~failed].mean(), flagged[failed].mean(), "o", label="flags")
        axes[2].legend(fontsize=8)
    for axis in (axes[0].xaxis, axes[0].yaxis, axes[1].xaxis):
        # Numbers at every tenth between powers of ten would lie upon one another.
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes[2].set(
        xlabel="false alarms", ylabel=f"failures found (Dice < {FAILURE})", xlim=(0, 1), ylim=(0, 1.02)
    )
    return drawn


def chosen(root: Path, layout: str, model: Any, allow_dealt: bool) -> list[DataCase]:
    """Validation images that the model can be judged on.

    Raises:
        DataError: there are none, or no list says which they are.
    """
    found = find_cases(root, layout, tuple(model.organs), dims=2).cases
    cases = [case for case in found if case.split == "val" and model.usable(case)]
    if not cases:
        raise DataError(f"{root}: the layout {layout!r} has no validation images with annotations.")
    refuse_dealt(cases, allow_dealt)
    return cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, damage, predict, measure, write the tables and the figure."""
    parser: argparse.ArgumentParser = options_of(__doc__, threads=1)
    parser.add_argument("--model", required=True)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--positions", type=int, default=POSITIONS, help="places of each square")
    parser.add_argument("--layouts", nargs="+", default=list(DATA), help="jsrt and covid by default")
    options = parser.parse_args(arguments)
    model = anatozoo.load(options.model, trainable=False)
    if missing := [organ for organ in CORE[:2] if organ not in model.organs]:
        raise ConfigError(f"{options.model} has no {missing[0]}.")
    rows: list[Row] = []
    for layout in options.layouts:
        cases = chosen(options.root, layout, model, options.allow_dealt_split)
        for number, case in enumerate(cases, start=1):
            rows += rows_of(model, case, layout, options.samples, options.positions)
            print(f"{layout}: {number} of {len(cases)}", flush=True)
    groups = {name: summary(own) for name, own in groups_of(rows).items() if own}
    command = (
        f"python experiments/uncertainty_evidence.py --root DIR --model {Path(options.model).name} --samples "
        f"{options.samples} --positions {options.positions} --layouts {' '.join(options.layouts)}"
        f"{' --allow-dealt-split' * options.allow_dealt_split} --out DIR"
    )
    about = (
        f"{model.checkpoint_name} {model.checkpoint_version}, {options.samples} samples, validation images. "
        "Sigma is the mean standard deviation of the landmarks of the organs that are annotated (lungs, "
        "heart), sigma and error are in pixels of 1024 x 1024; Dice is that of lungs and heart, a failure "
        f"is one below {FAILURE}. Levels: side of the black square; sigma of the blur in pixels of 1024 x "
        f"1024, in a square of {BLURRED_SIDE} or everywhere; noise as a share of the grey range. "
        "In brackets, 95 % intervals over images. The AUROC of the flags is that of a yes or no. "
        f"`{command}`"
    )
    record = {"command": command, "about": about, "groups": groups, "levels": levels_of(rows)}
    print(markdown(record))
    if options.out is not None:
        name = f"{model.checkpoint_name}_uncertainty_experiment"
        write(options.out, name, record, markdown(record))
        figure(rows).savefig(options.out / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
