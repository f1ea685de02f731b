"""Intervals of Dice without ground truth: do they hold 90 % of the true values, and how wide are they?

    python experiments/rca_intervals.py --ubd DIR --jsrt DIR --authors df_rca_affine_deformable_lh.csv \
        --out docs/evidence

The masks, images and true Dice are those of ``rca_evidence.py``: U-Nets after 1 to 12 epochs on the JSRT
images of the study of unsupervised bias discovery, none of which is in the atlas or was seen by the engine.
Its ten U-Nets that were trained to the end (``CrossVal``), on the same images, calibrate nothing.

All divisions are by patient: three quarters calibrate, and the masks of the others are measured. Four such
divisions measure each mask once; they are repeated with other divisions.

`--authors` holds the published estimates for 760 of these masks, the best and the mean of the authors' atlas
images alone, so that their interval is the estimate and a margin on both sides.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from comparing import write
from PIL import Image
from rca_evidence import AUTHORS, EPOCHS, ORGANS, read_truth, test_images
from scipy.stats import binomtest

from anatozoo.metrics.tables import markdown_table
from anatozoo.quality import Atlas, Calibration, DiceIntervals, build_atlas, register_to_atlas
from anatozoo.quality.intervals import ALPHA, PERCENTILES, conformal_quantile, upper_mean
from anatozoo.results.quality import QualityResult

ENGINE = "acregnet-jsrt-rca"
COUNT, MORE = 5, (10, 20)
FOLDS, REPEATS = 4, 20
BAD = {"lungs": 0.9, "heart": 0.8}
"""Below this true Dice, a mask is called bad."""
UPPER = "mean of the scores from the 40th percentile up"
OURS, BAND, PLAIN = "band after a curve (anatozoo)", "band of the scores", "estimate ± margin"
ABOUT = "masks of U-Nets after 1 to 12 epochs on JSRT"

Vector = np.ndarray
Truth = dict[tuple[str, str], dict[str, float]]
Ends = tuple[Vector, Vector]


def final_truth(ubd: Path) -> Truth:
    """(model, image) -> the authors' Dice of U-Nets that were trained to the end."""
    table = pd.concat([pd.read_csv(ubd / "CrossVal" / sex / "heart.csv") for sex in "MF"])
    return {
        (str(row["Model"]), str(row["File"]).removesuffix(".png")): {
            organ: float(row[f"Dice {organ.capitalize()}"]) for organ in ORGANS
        }
        for row in table.to_dict("records")
    }


def judged(options: argparse.Namespace, atlas: Atlas, names: Sequence[str], truth: Truth) -> pd.DataFrame:
    """One row for each mask: image, whether it is of the epochs, true Dice, and the result without pixels."""
    rows = []
    for name in names:
        registered = register_to_atlas(
            options.jsrt / "images" / f"{name}.png", atlas, engine=ENGINE, count=max(MORE)
        )
        for model in (model for model, image in truth if image == name):
            kind = "DifferentQualities" if model.startswith("epoch") else "CrossVal"
            found = [options.ubd / kind / sex / model / f"{name}.png" for sex in "MF"]
            with Image.open(next(path for path in found if path.is_file())) as picture:
                labels = np.array(picture)
            result = _without_pixels(registered.judge(labels))
            true = {f"true/{organ}": truth[model, name][organ] for organ in ORGANS}
            rows.append({"image": name, "epochs": kind != "CrossVal", "result": result} | true)
    return pd.DataFrame(rows)


def _without_pixels(result: QualityResult) -> QualityResult:
    nothing = np.zeros((0, 0), np.uint8)
    bare = [replace(m, pixels=nothing, truth=nothing, warped=nothing, labels=nothing) for m in result.matches]
    return replace(result, matches=tuple(bare), pixels=nothing, labels=nothing)


def scores_of(table: pd.DataFrame, organ: str, count: int) -> Vector:
    """Dice on each of the most similar atlas images, (N, count)."""
    return np.array([[m.values[f"dice/{organ}"] for m in r.matches[:count]] for r in table["result"]])


def shortened(result: QualityResult, count: int) -> QualityResult:
    """The result with fewer atlas images."""
    assert result.judging is not None
    return replace(result, matches=result.matches[:count], judging=replace(result.judging, count=count))


def divisions(patients: Sequence[str], repeats: int = REPEATS) -> Iterator[list[set[str]]]:
    """Sets of patients to measure on, which together are all patients."""
    known = np.array(sorted(set(patients)))
    for seed in range(repeats):
        shuffled = np.random.default_rng(seed).permutation(known)
        yield [set(fold.tolist()) for fold in np.array_split(shuffled, FOLDS)]


def ours(train: pd.DataFrame, test: pd.DataFrame, organ: str) -> Ends:
    """The intervals of the package."""
    found = DiceIntervals.fit(
        [shortened(r, COUNT) for r in train["result"]], {organ: train[f"true/{organ}"]}, list(train["image"])
    )
    each = [found.organs[organ].interval(scores) for scores in scores_of(test, organ, COUNT)]
    return np.array([i.dice_low for i in each]), np.array([i.dice_high for i in each])


def band(train: pd.DataFrame, test: pd.DataFrame, organ: str) -> Ends:
    """Conformal RCA as it was published: percentiles of the scores, widened."""
    low, high = np.percentile(scores_of(train, organ, COUNT), PERCENTILES, axis=1)
    true = train[f"true/{organ}"].to_numpy()
    margin = conformal_quantile(np.maximum(low - true, true - high), list(train["image"]), ALPHA)
    low, high = np.percentile(scores_of(test, organ, COUNT), PERCENTILES, axis=1)
    return (low - margin).clip(0, 1), (high + margin).clip(0, 1)


def plain(train: pd.DataFrame, test: pd.DataFrame, organ: str) -> Ends:
    """The mean of the upper scores, and a margin on both sides."""
    true, estimate = train[f"true/{organ}"].to_numpy(), upper_mean(scores_of(train, organ, COUNT))
    margin = conformal_quantile(np.abs(estimate - true), list(train["image"]), ALPHA)
    estimate = upper_mean(scores_of(test, organ, COUNT))
    return (estimate - margin).clip(0, 1), (estimate + margin).clip(0, 1)


METHODS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, str], Ends]] = {
    OURS: ours,
    BAND: band,
    PLAIN: plain,
}


def held_out(
    source: pd.DataFrame, target: pd.DataFrame, organ: str, method: str, repeats: int
) -> dict[str, Any]:
    """Coverage and width on masks of patients who calibrated nothing."""
    true, images = target[f"true/{organ}"].to_numpy(), target["image"]
    shares, widths, bad, first = [], [], [], None
    for folds in divisions(list(source["image"]), repeats):
        inside, width = np.zeros(len(target), bool), np.zeros(len(target))
        for patients in folds:
            here = images.isin(patients).to_numpy()
            train = source[~source["image"].isin(patients)]
            low, high = METHODS[method](train, target[here], organ)
            inside[here] = (low <= true[here]) & (true[here] <= high)
            width[here] = high - low
        first = inside if first is None else first
        shares.append(inside.mean())
        widths.append(width.mean())
        bad.append(inside[true < BAD[organ]].mean() if (true < BAD[organ]).any() else np.nan)
    assert first is not None
    return coverage(first, shares, widths, int(images.nunique())) | {
        "bad": int((true < BAD[organ]).sum()),
        "coverage_bad": None if np.isnan(bad).all() else float(np.mean(bad)),
    }


def coverage(
    first: Vector, shares: Sequence[float], widths: Sequence[float], patients: int
) -> dict[str, Any]:
    """Which masks the intervals of the first divisions hold, and the shares and widths of all repetitions."""
    ends = binomtest(int(first.sum()), len(first)).proportion_ci(method="exact")
    return {
        "n": len(first),
        "patients": patients,
        "covered": int(first.sum()),
        "coverage": float(first.mean()),
        "coverage_low": float(ends.low),
        "coverage_high": float(ends.high),
        "coverage_mean": float(np.mean(shares)),
        "coverage_least": float(np.min(shares)),
        "coverage_most": float(np.max(shares)),
        "width": float(np.mean(widths)),
    }


def estimates(table: pd.DataFrame, organ: str, count: int, repeats: int) -> dict[str, dict[str, float]]:
    """Mean absolute error of raw and calibrated estimates, on patients who calibrated nothing."""
    true, images = table[f"true/{organ}"].to_numpy(), table["image"]
    scores = scores_of(table, organ, count)
    signals = {
        "best": scores.max(1),
        "mean": scores.mean(1),
        "median": np.median(scores, 1),
        UPPER: upper_mean(scores),
    }
    known = sorted(set(images))
    rounds = {"three quarters": list(divisions(list(images), repeats)), "all others": [[{p} for p in known]]}
    found = {}
    for name, signal in signals.items():
        found[name] = {"raw": float(np.abs(signal - true).mean())}
        for how, plan in rounds.items():
            errors = []
            for folds in plan:
                for patients in folds:
                    here = images.isin(patients).to_numpy()
                    fitted = Calibration.fit({"signal": signal[~here]}, true[~here], "isotonic")
                    errors.append(np.abs(fitted.predict({"signal": signal[here]}) - true[here]))
            found[name][how] = float(np.concatenate(errors).mean())
    return found


def published(path: Path, ubd: Path, repeats: int) -> dict[str, Any]:
    """Bands of absolute error around the published estimates, with and without a curve."""
    table = pd.read_csv(path)
    patients = published_patients(table, ubd)
    found: dict[str, Any] = {}
    for organ, start in {"lungs and heart": "", "lungs": "L_", "heart": "H_"}.items():
        true = table[f"{start}Dice_Real"].to_numpy()
        for kind in ("Max", "Mean"):
            signal = table[f"{start}Dice_RCA_{kind}"].to_numpy()
            for curved in (False, True):
                shares, widths, errors, first = [], [], [], None
                for folds in divisions(list(patients), repeats):
                    inside, width = np.zeros(len(true), bool), np.zeros(len(true))
                    for fold in folds:
                        here = np.isin(patients, list(fold))
                        low, high, estimate = _published_band(
                            signal, true, patients, here, np.random.default_rng(0) if curved else None
                        )
                        inside[here] = (low <= true[here]) & (true[here] <= high)
                        width[here] = high - low
                        errors.append(np.abs(estimate - true[here]))
                    first = inside if first is None else first
                    shares.append(inside.mean())
                    widths.append(width.mean())
                assert first is not None
                name = f"{kind.lower()}, {'calibrated' if curved else 'as published'}"
                found.setdefault(organ, {})[name] = coverage(first, shares, widths, len(set(patients))) | {
                    "mae": float(np.concatenate(errors).mean())
                }
    return found


def published_patients(table: pd.DataFrame, ubd: Path) -> Vector:
    """Images of the published rows, which name none: found by their true Dice, which the study states too."""
    truth = read_truth(ubd)
    keys = list(truth)
    known = np.array([[truth[key][organ] for organ in ORGANS] for key in keys])
    rows = table[["L_Dice_Real", "H_Dice_Real"]].to_numpy()
    distance = np.abs(rows[:, None] - known[None]).max(2)
    # Both round differently, by at most 1e-4.
    nearest = distance.argmin(1)
    if distance.min(1).max() > 2e-4 or len(set(nearest)) < len(rows):
        raise SystemExit("the published rows do not belong to the masks of this study.")
    return np.array([keys[i][1] for i in nearest])


def _published_band(
    signal: Vector, true: Vector, patients: Vector, here: Vector, draw: np.random.Generator | None
) -> tuple[Vector, Vector, Vector]:
    """Ends and estimate for the masks `here`, from all others; with a curve if there is a generator."""
    rest = ~here
    if draw is not None:
        known = np.array(sorted(set(patients[rest])))
        fitting = rest & np.isin(patients, draw.permutation(known)[: len(known) // 3])
        curve = Calibration.fit({"signal": signal[fitting]}, true[fitting], "isotonic")
        signal, rest = curve.predict({"signal": signal}), rest & ~fitting
    margin = conformal_quantile(np.abs(signal - true)[rest], list(patients[rest]), ALPHA)
    return (signal[here] - margin).clip(0, 1), (signal[here] + margin).clip(0, 1), signal[here]


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    head = ["organ", "interval", "masks", "inside", "binomial 95 %", "other divisions", "width", "bad masks"]
    lines = ["# Intervals of Dice without ground truth", "", record["about"]]
    for name, title in (
        ("same", "Masks of the same U-Nets, other patients"),
        ("other", "Masks of U-Nets that nothing was calibrated on, other patients"),
    ):
        rows = [
            [organ, method, str(a["n"]), *_coverage(a), _bad(a)]
            for organ, methods in record[name].items()
            for method, a in methods.items()
        ]
        lines += ["", f"## {title}", "", record[f"about_{name}"], "", *markdown_table(head, rows)]
    rows = [
        [organ, count, name, *(f"{value:.4f}" for value in errors.values())]
        for organ, counts in record["estimates"].items()
        for count, found in counts.items()
        for name, errors in found.items()
    ]
    head = ["organ", "atlas images", "estimate", "raw", "by three quarters", "by all others"]
    lines += ["", "## Mean absolute error of the estimates", "", record["about_estimates"], ""]
    lines += markdown_table(head, rows)
    head = ["organ", "patients", "masks", "margin"]
    rows = [
        [o, str(a["patients"]), str(a["masks"]), f"{a['margin']:+.4f}"] for o, a in record["final"].items()
    ]
    lines += [
        "",
        "## Calibration on all patients",
        "",
        record["about_final"],
        "",
        *markdown_table(head, rows),
    ]
    if "published" in record:
        head = ["organ", "estimate", "masks", "inside", "binomial 95 %", "other divisions", "width", "MAE"]
        rows = [
            [organ, name, str(a["n"]), *_coverage(a), f"{a['mae']:.4f}"]
            for organ, found in record["published"].items()
            for name, a in found.items()
        ]
        lines += ["", "## The published estimates", "", record["about_published"], ""]
        lines += markdown_table(head, rows)
    return "\n".join(lines) + "\n"


def _coverage(a: Mapping[str, Any]) -> list[str]:
    ends = f"{a['coverage_low']:.3f} … {a['coverage_high']:.3f}"
    others = f"{a['coverage_mean']:.3f} ({a['coverage_least']:.3f} … {a['coverage_most']:.3f})"
    return [f"{a['covered']} ({a['coverage']:.3f})", ends, others, f"{a['width']:.3f}"]


def _bad(a: Mapping[str, Any]) -> str:
    return "–" if a["coverage_bad"] is None else f"{a['coverage_bad']:.3f} of {a['bad']}"


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements and texts."""
    names = test_images(options.ubd, options.jsrt)[: options.limit]
    train = (options.jsrt / "splits" / "train.txt").read_text(encoding="utf-8").split()
    excluded = [name for name in test_images(options.ubd, options.jsrt) if name in train]
    atlas = build_atlas(options.jsrt, ORGANS, name="jsrt", layout="jsrt", exclude=excluded)
    truth = read_truth(options.ubd) | final_truth(options.ubd)
    table = judged(options, atlas, names, truth)
    epochs, final = table[table["epochs"]], table[~table["epochs"]]
    repeats = options.repeats
    same = {o: {m: held_out(epochs, epochs, o, m, repeats) for m in METHODS} for o in ORGANS}
    other = {o: {m: held_out(epochs, final, o, m, repeats) for m in METHODS} for o in ORGANS}
    errors = {o: {str(c): estimates(epochs, o, c, repeats) for c in (COUNT, *MORE)} for o in ORGANS}
    intervals = DiceIntervals.fit(
        [shortened(r, COUNT) for r in epochs["result"]],
        {organ: epochs[f"true/{organ}"] for organ in ORGANS},
        list(epochs["image"]),
        about=ABOUT,
    )
    if options.atlas is not None:
        atlas.with_intervals(intervals).save(options.atlas)
    more = ["--authors FILE"] * bool(options.authors)
    command = " ".join(
        ["python experiments/rca_intervals.py --ubd DIR --jsrt DIR", *more, "--out docs/evidence"]
    )
    record: dict[str, Any] = {
        "command": command,
        "about": (
            f"Intervals of {100 * (1 - ALPHA):g} % by `{ENGINE}` and {COUNT} atlas images of the "
            f"{len(atlas)} images of JSRT's train split that are not judged. Three quarters of the patients "
            f"calibrate, and the masks of the others are measured: `inside` counts the masks of {FOLDS} such "
            "divisions, in which each mask is measured once; its interval takes masks as independent. `Other "
            f"divisions` are the mean, least and most of {repeats} repetitions. "
            "`Width` is the mean width, `bad masks` "
            f"the share inside of those with a true Dice below {BAD['lungs']} (lungs) or {BAD['heart']} "
            "(heart). The form of the band was chosen on these masks among some ten, and that of the "
            f"estimate, so that their widths and errors are somewhat optimistic. `{command}`"
        ),
        "about_same": (
            f"{EPOCHS} U-Nets after 1 to {EPOCHS} epochs, {epochs['image'].nunique()} images, one for each "
            f"patient. `{OURS}`: the 40th and 95th percentile of the scores, mapped to Dice by an isotonic "
            f"curve that a third of the patients fit, and widened by what the others need. `{BAND}`: "
            f"conformal RCA as it was published, without a curve. `{PLAIN}`: the {UPPER}, and the margin on "
            "both sides."
        ),
        "about_other": (
            "Ten U-Nets that were trained to the end, on men or on women alone. Calibrated as above, on the "
            "masks after 1 to 12 epochs: nothing promises a coverage here."
        ),
        "about_estimates": (
            f"On the masks after 1 to {EPOCHS} epochs. `raw` is the estimate itself; the others map it by an "
            f"isotonic curve of three quarters of the patients ({repeats} repetitions), or of all other "
            "patients, one left out after another."
        ),
        "about_final": (
            "What is stored in the atlas when the masks of all patients after 1 to 12 epochs calibrate: by "
            "how much the band is widened on both sides."
        ),
        "same": same,
        "other": other,
        "estimates": errors,
        "final": {
            organ: {"patients": b.patients, "masks": b.masks, "margin": b.margin}
            for organ, b in intervals.organs.items()
        },
    }
    if options.authors:
        record["about_published"] = (
            "The authors' estimates for 760 masks of 76 patients, ten U-Nets on each image, affine and "
            "deformable networks; only the best and the mean of their atlas images are published. The "
            "interval is the estimate and a margin on both sides, `calibrated` after an isotonic curve of a "
            "third of the patients, who then decide nothing about the margin. Patients are found by the true "
            "Dice."
        )
        record["published"] = published(options.authors, options.ubd, repeats)
    return record


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ubd", type=Path, required=True)
    parser.add_argument("--jsrt", type=Path, required=True)
    parser.add_argument("--authors", type=Path, help=f"the authors' {AUTHORS}")
    parser.add_argument("--atlas", type=Path, help="write the calibrated atlas to this file")
    parser.add_argument("--limit", type=int, help="measure the first images only")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = measured(options)
    print(markdown(record))
    if options.out is not None:
        write(options.out, "rca-intervals_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
