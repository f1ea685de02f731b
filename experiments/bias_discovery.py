"""Unsupervised bias discovery from the files of its authors, and their Dice from their masks.

    python experiments/bias_discovery.py --root UBD --landmarks DIR [--out docs/evidence]

`--root` is the study's folder (``DifferentQualities/{M,F}``, ``CrossVal/{M,F}``, each with ``heart.csv``,
``lungs.csv``, the same names after ``rca_``, and a folder of masks per model); `--landmarks` holds the public
landmark data set. Gaggion et al., "Unsupervised bias discovery in medical image segmentation", MICCAI
workshop FAIMI 2023: (a) twelve U-Nets after as many epochs, every one on male against every one on female
patients, 144 fictitious models of known bias; (b) ten U-Nets trained on one sex; (c) Dice of all 3,982 masks
against polygons of the landmarks. Nothing is trained, no radiograph is read.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import PIL.Image
from comparing import write

from anatozoo.fairness import Agreement, GroupFrame, crossed_gaps, gap_agreement
from anatozoo.io.chest import index_chest
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.functional import dice
from anatozoo.metrics.tables import markdown_table, provenance

SYNTHETIC, REAL = "DifferentQualities", "CrossVal"
ORGANS = ("lungs", "heart")
SIDE = 1024
TOLERANCE = 1e-6
PUBLISHED: dict[str, dict[str, Any]] = {
    "synthetic": {
        "lungs": {"r": 0.987, "slope": 0.678, "signs": {0.0: 0.896, 0.01: 0.962}},
        "heart": {"r": 0.987, "slope": 0.668, "signs": {0.0: 0.917, 0.01: 0.922}},
    },
    "real": {"lungs": {"r": 0.772}, "heart": {"r": 0.930}},
}
"""What the authors' notebooks and files gave, to three decimals."""
COLUMNS = {"Dice Lungs": "lungs", "Dice Heart": "heart"}


def read_scores(root: Path, experiment: str, estimate: str = "") -> pd.DataFrame:
    """True and estimated Dice of every image by every model.

    Args:
        root: folder of the study.
        experiment: `SYNTHETIC` or `REAL`.
        estimate: ``""`` for the mean over atlases, ``"_max"`` for the best one.

    Returns:
        Columns ``model``, ``file``, ``sex``, ``list`` and, per organ, ``dice/ORGAN`` and ``dice_rca/ORGAN``.
        The heart is not annotated in the list of lungs, and NaN there.
    """
    parts = []
    for sex in ("M", "F"):
        for images in ("heart", "lungs"):
            folder = root / experiment / sex
            true = pd.read_csv(folder / f"{images}.csv").rename(columns=_named("dice"))
            rca = pd.read_csv(folder / f"rca_{images}{estimate}.csv").rename(columns=_named("dice_rca"))
            both = true.merge(rca, on=["Model", "File"], how="left", validate="one_to_one")
            if len(rca) != len(true) or both["dice_rca/lungs"].isna().any():
                sys.exit(f"{folder}: {images}.csv and its estimates are not of the same masks.")
            parts.append(both.assign(sex=sex, list=images))
    return pd.concat(parts, ignore_index=True).rename(columns={"Model": "model", "File": "file"})


def _named(kind: str) -> dict[str, str]:
    return {column: f"{kind}/{organ}" for column, organ in COLUMNS.items()}


def frames_of(scores: pd.DataFrame) -> dict[str, GroupFrame]:
    """The frame by sex of each model."""
    metrics = [f"{kind}/{organ}" for organ in ORGANS for kind in ("dice", "dice_rca")]
    return {str(model): GroupFrame(part, metrics, "sex") for model, part in scores.groupby("model")}


def means_of(frames: Mapping[str, GroupFrame], metric: str, sex: str) -> np.ndarray:
    """The mean of one sex by every model."""
    return np.array([frame.by_group.loc[sex, metric] for frame in frames.values()])


def synthetic(frames: Mapping[str, GroupFrame]) -> dict[str, Agreement]:
    """Agreement over all pairs of a model on male and a model on female patients, by organ."""
    found = {}
    for organ in ORGANS:
        gaps = [
            crossed_gaps(means_of(frames, f"{kind}/{organ}", "M"), means_of(frames, f"{kind}/{organ}", "F"))
            for kind in ("dice", "dice_rca")
        ]
        found[organ] = gap_agreement(*gaps)
    return found


def real(frames: Mapping[str, GroupFrame]) -> dict[str, Agreement]:
    """Agreement over the models, each on both sexes, by organ."""
    found = {}
    for organ in ORGANS:
        gaps = [
            means_of(frames, f"{kind}/{organ}", "M") - means_of(frames, f"{kind}/{organ}", "F")
            for kind in ("dice", "dice_rca")
        ]
        found[organ] = gap_agreement(*gaps)
    return found


# --- Dice from the masks ------------------------------------------------------------------------------------


def truth_of(points: Mapping[str, np.ndarray], images: str) -> dict[str, np.ndarray]:
    """Masks (1024, 1024) of lungs and heart, coordinates truncated as the authors did.

    In the list of hearts the heart covers the lungs; in the list of lungs there is none.
    """
    drawn = {organ: draw_organ_mask(np.trunc(p), (SIDE, SIDE)) for organ, p in points.items()}
    lungs = drawn["lung_right"] | drawn["lung_left"]
    if images == "lungs":
        return {"lungs": lungs}
    return {"lungs": lungs & ~drawn["heart"], "heart": drawn["heart"]}


def recompute(
    root: Path, experiment: str, scores: pd.DataFrame, landmarks: Mapping[str, Any]
) -> pd.DataFrame:
    """Dice of every mask beside the authors'.

    Returns:
        One row per mask: ``difference``, the largest over organs; ``place`` of the file in the authors'
        table, from 1; ``outside``, whether a landmark lies beyond the image.
    """
    order = scores.groupby(["sex", "list"])["file"].transform(lambda files: pd.factorize(files)[0] + 1)
    rows = []
    for (sex, images, file), part in scores.assign(place=order).groupby(["sex", "list", "file"], sort=False):
        points = landmarks[Path(file).stem]
        truth = truth_of(points, images)
        contours = np.concatenate(
            [points[organ] for organ in ("lung_right", "lung_left", *truth) if organ in points]
        )
        outside = bool((contours < 0).any() or (contours >= SIDE).any())
        for _, row in part.iterrows():
            with PIL.Image.open(root / experiment / sex / row["model"] / file) as picture:
                labels = np.asarray(picture)
            differences = [
                abs(dice(labels == 1 + ORGANS.index(organ), mask) - row[f"dice/{organ}"])
                for organ, mask in truth.items()
            ]
            row = {
                "experiment": experiment,
                "sex": sex,
                "list": images,
                "file": file,
                "model": row["model"],
            } | {
                "place": int(row["place"]),
                "outside": outside,
                "difference": max(differences),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def exceptions(masks: pd.DataFrame) -> list[dict[str, Any]]:
    """Files with a Dice that differs from the authors': how many of their masks, and by how much at most."""
    keys = ["experiment", "sex", "list", "file", "place", "outside"]
    differing = masks[masks["difference"] > TOLERANCE]
    found = differing.groupby(keys, sort=False)["difference"].agg(["size", "max"]).reset_index()
    every = found.rename(columns={"size": "masks", "max": "largest"}).sort_values(["experiment", "place"])
    return [dict(row) for row in every.to_dict(orient="records")]


# --- tables -------------------------------------------------------------------------------------------------


def agreement_lines(found: Mapping[str, Agreement], published: Mapping[str, Any]) -> list[str]:
    """A table: here, and in brackets what was published."""
    rows = []
    for organ, fit in found.items():
        known = published[organ]
        signs = [
            f"{_beside(sign.accuracy, known.get('signs', {}).get(sign.threshold))}, n {sign.n}"
            for sign in fit.signs
        ]
        line = [_beside(fit.r, known.get("r")), f"{fit.p:.2g}", _beside(fit.slope, known.get("slope"), 4)]
        rows.append([organ, *line, f"{fit.intercept:.4f}", *signs])
    head = [
        "organ",
        "r",
        "p",
        "slope",
        "intercept",
        "sign accuracy",
        "both < .01 dropped",
        "both < .02 dropped",
    ]
    return markdown_table(head, rows)


def _beside(value: float, published: float | None, digits: int = 3) -> str:
    words = "–" if np.isnan(value) else f"{value:.{digits}f}"
    return words + (f" ({published:.3f})" if published is not None else "")


def gap_rows(frames: Mapping[str, GroupFrame]) -> list[dict[str, Any]]:
    """Gaps of each model, male minus female, with what chance may do to them."""
    rows = []
    for model, frame in frames.items():
        for pair in frame.pairs:
            sign = 1 if pair.a == "M" else -1
            ends = sorted((sign * pair.ci_low, sign * pair.ci_high))
            rows.append(
                {"model": model, "metric": pair.metric, "gap": sign * pair.gap}
                | {"ci_low": ends[0], "ci_high": ends[1], "p": pair.p}
            )
    return rows


def gap_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the gaps of each model."""
    by_model: dict[str, dict[str, str]] = {}
    for row in rows:
        words = f"{row['gap']:+.4f}"
        if not row["metric"].startswith("dice_rca"):
            words += f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        by_model.setdefault(row["model"], {})[row["metric"]] = words
    metrics = list(next(iter(by_model.values())))
    head = ["model", *(m.replace("dice_rca/", "estimated, ").replace("dice/", "true, ") for m in metrics)]
    return markdown_table(head, [[model, *(cells[m] for m in metrics)] for model, cells in by_model.items()])


def mask_lines(masks: pd.DataFrame) -> list[str]:
    """What the comparison of all masks gave, in words."""
    equal = masks["difference"] <= TOLERANCE
    lines = [
        f"{int(equal.sum())} of {len(masks)} masks have the authors' Dice within {TOLERANCE:g} (largest "
        f"difference among them {masks.loc[equal, 'difference'].max():.0e}), the others within "
        f"{masks['difference'].max():.1e}:"
    ]
    differing = exceptions(masks)
    outside = [entry for entry in differing if entry["outside"]]
    if outside:
        names = ", ".join(dict.fromkeys(entry["file"] for entry in outside))
        lines += [
            "",
            f"* {_count(outside)} masks of {names}: a landmark lies beyond the image, and how a contour is "
            f"filled at the image's edge is a matter of the library (here OpenCV {cv2.__version__}).",
        ]
    others = pd.DataFrame([entry for entry in differing if not entry["outside"]])
    for (experiment, sex, images), group in (
        others.groupby(["experiment", "sex", "list"]) if len(others) else ()
    ):
        first = sorted(group["place"]) == list(range(1, len(group) + 1))
        files = f"the first {len(group)} files" if first else f"{len(group)} files"
        entries = group.to_dict(orient="records")
        line = f"* {_count(entries)} masks of {files} of `{experiment}/{sex}/{images}.csv`."
        if _agree_elsewhere(masks, experiment, entries):
            line += (
                " The same polygons give the authors' Dice in the other experiment, so these masks are not "
                "the ones that the table was made from."
            )
        lines += ["", line]
    return lines


def _count(entries: Sequence[Mapping[str, Any]]) -> str:
    largest = max(entry["largest"] for entry in entries)
    return f"{sum(entry['masks'] for entry in entries)} (by up to {largest:.1e})"


def _agree_elsewhere(masks: pd.DataFrame, experiment: str, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all masks of these files have the authors' Dice in the other experiment."""
    others = masks[masks["file"].isin([e["file"] for e in entries]) & (masks["experiment"] != experiment)]
    return bool(len(others) and (others["difference"] <= TOLERANCE).all())


def agreement_json(found: Mapping[str, Agreement]) -> dict[str, Any]:
    """Numbers of each organ."""
    return {
        organ: {
            "n": fit.n,
            "r": fit.r,
            "p": fit.p,
            "slope": fit.slope,
            "intercept": fit.intercept,
            "mae": fit.mae,
        }
        | {"signs": [{"threshold": s.threshold, "n": s.n, "accuracy": s.accuracy} for s in fit.signs]}
        for organ, fit in found.items()
    }


def main() -> None:
    """Parse the options, compute, print or write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the study")
    parser.add_argument("--landmarks", type=Path, required=True, help="folder of the landmark data set")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    scores = {experiment: read_scores(options.root, experiment) for experiment in (SYNTHETIC, REAL)}
    best = {experiment: read_scores(options.root, experiment, "_max") for experiment in (SYNTHETIC, REAL)}
    fictitious, trained = (frames_of(scores[experiment]) for experiment in (SYNTHETIC, REAL))
    gaps = gap_rows(trained)
    landmarks = {case.id: case.landmarks for case in index_chest(options.landmarks, "landmarks")}
    masks = pd.concat([recompute(options.root, name, table, landmarks) for name, table in scores.items()])
    command = "python experiments/bias_discovery.py --root UBD --landmarks DIR --out docs/evidence"
    record = {
        "command": command,
        **provenance(("numpy", "pandas", "opencv-python-headless")),
        "synthetic": agreement_json(synthetic(fictitious)),
        "synthetic, best atlas": agreement_json(synthetic(frames_of(best[SYNTHETIC]))),
        "real": agreement_json(real(trained)),
        "real, best atlas": agreement_json(real(frames_of(best[REAL]))),
        "gaps of the real models": gaps,
        "masks": {
            "n": len(masks),
            "tolerance": TOLERANCE,
            "equal": int((masks["difference"] <= TOLERANCE).sum()),
            "largest difference": float(masks["difference"].max()),
            "files that differ": exceptions(masks),
        },
    }
    text = "\n".join(report_lines(command, fictitious, trained, gaps, masks)) + "\n"
    print(text)
    if options.out is not None:
        write(options.out, "bias-discovery_experiment", record, text)


def report_lines(
    command: str,
    fictitious: Mapping[str, GroupFrame],
    trained: Mapping[str, GroupFrame],
    gaps: Sequence[Mapping[str, Any]],
    masks: pd.DataFrame,
) -> list[str]:
    """The Markdown."""
    frame = next(iter(fictitious.values()))
    patients = "; ".join(
        f"{organ} {', '.join(f'{frame.patients.loc[sex, metric]} {sex}' for sex in frame.groups)}"
        for organ, metric in ((organ, f"dice/{organ}") for organ in ORGANS)
    )
    true = {organ: [row["gap"] for row in gaps if row["metric"] == f"dice/{organ}"] for organ in ORGANS}
    negative = "; ".join(
        f"{organ} {sum(gap < 0 for gap in found)} of {len(found)} below 0, "
        f"{min(found):+.4f} to {max(found):+.4f}"
        for organ, found in true.items()
    )
    return [
        "# Unsupervised bias discovery",
        "",
        "Gaps are mean Dice of male minus mean Dice of female patients; the estimate is the Dice that "
        f"Reverse Classification Accuracy expects, mean over five atlases. Test images: {patients}. In "
        f"brackets what the authors' notebooks and files gave. `{command}`",
        "",
        f"## {len(fictitious) ** 2} pairs of models",
        "",
        "Every one of twelve U-Nets on male patients against every one on female patients. The pairs share "
        "models, so that p is not that of independent points.",
        "",
        *agreement_lines(synthetic(fictitious), PUBLISHED["synthetic"]),
        "",
        f"## {len(trained)} U-Nets, trained on one sex",
        "",
        *agreement_lines(real(trained), PUBLISHED["real"]),
        "",
        f"True gaps: {negative}. Below with 95 % bootstrap intervals over patients.",
        "",
        *gap_lines(gaps),
        "",
        "## Dice from masks and landmarks",
        "",
        "Masks against polygons of the landmarks, coordinates truncated; in the list of hearts the heart "
        "cuts the lungs, in the list of lungs not.",
        "",
        *mask_lines(masks),
    ]


if __name__ == "__main__":
    main()
