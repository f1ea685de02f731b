"""How well cheap signs of quality agree with the true Dice, beside Reverse Classification Accuracy.

    python experiments/signals_evidence.py --ubd DIR --jsrt DIR --out docs/evidence

The masks, the images and their true Dice are those of ``rca_evidence.py``: U-Nets after 1 to 12 epochs on
JSRT images. For each signal: its correlation with the true Dice, and after calibration its correlation, mean
absolute error and bias. Calibrations leave out one image after another: they are fitted on the masks of all
other images and predict those of the one.

The networks behind the signals were trained on JSRT's train split, which has most of these images; each table
is therefore also given for the masks of the images that no network has seen. HybridGNet's spread is about its
own contours, so a second table holds it against their true Dice, on JSRT's validation split alone.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from comparing import write
from rca_evidence import ORGANS, Row, mask_path, measure, test_images

import anatozoo
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.io.images import Image, read_image
from anatozoo.metrics.tables import markdown_table
from anatozoo.quality import (
    Atlas,
    Calibration,
    LatentDistance,
    build_atlas,
    engine_of,
    estimate_agreement,
    mask_agreement,
    predictive_spread,
    read_organs,
    reconstruction_agreement,
    shape_faults,
)

RCA = "acregnet-jsrt-rca"
NETWORKS = {
    "postdae": "postdae-jsrt",
    "aenet": "aenet-jsrt",
    "hybridgnet": "hybridgnet-jsrt",
}
MASK_SIGNALS = {
    "postdae": "agreement with postdae-jsrt",
    "aenet": "agreement with aenet-jsrt",
    "aenet_distance": "distance of aenet-jsrt's code",
    "faults": "faults of shape, counted",
    "second": "agreement with hybridgnet-jsrt's mask",
}
IMAGE_SIGNALS = {
    "image_distance": "distance of hybridgnet-jsrt's code",
    "spread": "spread of hybridgnet-jsrt's landmarks",
}
OWN_SIGNALS = IMAGE_SIGNALS | {"decoder_spread": "the same before the refinement"}
MASK_ALONE = ["postdae", "aenet", "aenet_distance", "faults"]
RCA_SIGNALS = {
    "dice_rca_max": f"RCA, best of the atlas images ({RCA})",
    "dice_rca_mean": f"RCA, mean of the atlas images ({RCA})",
}
COMBINED = {
    "the four of the mask alone": MASK_ALONE,
    "these and hybridgnet-jsrt's mask": [*MASK_ALONE, "second"],
    "RCA (mean) and the four of the mask alone": ["dice_rca_mean", *MASK_ALONE],
    "RCA (mean) and all five": ["dice_rca_mean", *MASK_ALONE, "second"],
}
Clock = dict[str, list[float]]


def timed(clock: Clock, key: str, run: Callable[[], Any]) -> Any:
    """Call, and note the CPU seconds that it took."""
    start = time.process_time()
    found = run()
    clock.setdefault(key, []).append(time.process_time() - start)
    return found


def image_columns(image: Image, models: Mapping[str, Any], distance: LatentDistance, clock: Clock) -> Row:
    """What HybridGNet says of an image, in columns ``SIGNAL/ORGAN``."""
    far = timed(clock, "image_distance", lambda: distance(image))
    spread = timed(clock, "spread", lambda: predictive_spread(image, models["hybridgnet"]))
    return {f"image_distance/{organ}": far for organ in ORGANS} | {
        f"spread/{organ}": spread.of(organ) for organ in ORGANS
    }


def mask_columns(
    labels: np.ndarray, second: Any, models: Mapping[str, Any], distance: LatentDistance, clock: Clock
) -> Row:
    """The signals of a mask, in columns ``SIGNAL/ORGAN``."""
    mask = read_organs(labels, ORGANS)
    found = {
        key: timed(clock, key, lambda key=key: reconstruction_agreement(mask, models[key]))
        for key in ("postdae", "aenet")
    }
    found["aenet_distance"] = dict.fromkeys(ORGANS, timed(clock, "aenet_distance", lambda: distance(mask)))
    faults = timed(clock, "faults", lambda: shape_faults(mask))
    found["faults"] = {organ: faults.count(organ) for organ in ORGANS}
    found["second"] = timed(clock, "second", lambda: mask_agreement(mask, second))
    return {f"{key}/{organ}": values[organ] for key, values in found.items() for organ in ORGANS}


def add_signals(
    rows: Sequence[Row],
    options: argparse.Namespace,
    models: Mapping[str, Any],
    distances: Mapping[str, LatentDistance],
    clock: Clock,
) -> None:
    """Put the signals into the rows of `rca_evidence.measure`."""
    for name, group in pd.DataFrame(rows).groupby("image").groups.items():
        image = read_image(options.jsrt / "images" / f"{name}.png")
        of_image = image_columns(image, models, distances["hybridgnet"], clock)
        second = read_organs(models["hybridgnet"].predict(image))
        for row in (rows[index] for index in group):
            with PIL.Image.open(mask_path(options.ubd, row["model"], str(name))) as picture:
                labels = np.array(picture)
            row |= of_image | mask_columns(labels, second, models, distances["aenet"], clock)


def own_rows(jsrt: Path, models: Mapping[str, Any], distance: LatentDistance, limit: int | None) -> list[Row]:
    """HybridGNet's own contours on images that it was not trained on: true Dice and signals."""
    rows = []
    cases = find_cases(jsrt, "jsrt", ORGANS).complete(ORGANS, "val")
    for case in cases[:limit]:
        _, labels = case.read(ORGANS, 2)
        image = read_image(jsrt / "images" / f"{case.id}.png")
        truth = {organ: labels == value for value, organ in enumerate(ORGANS, start=1)}
        dice = mask_agreement(models["hybridgnet"].predict(image), truth)
        coarse = predictive_spread(image, models["hybridgnet"], refined=False)
        row = {"image": case.id} | image_columns(image, models, distance, {})
        row |= {f"true/{organ}": dice[organ] for organ in ORGANS}
        rows.append(row | {f"decoder_spread/{organ}": coarse.of(organ) for organ in ORGANS})
    return rows


def left_out_estimates(table: pd.DataFrame, keys: Sequence[str], organ: str) -> np.ndarray:
    """Calibrated Dice of each row, from a calibration on the rows of the other images."""
    signals = {key: table[f"{key}/{organ}"].to_numpy(float) for key in keys}
    truth, images = table[f"true/{organ}"].to_numpy(float), table["image"].to_numpy()
    estimates = np.full(len(table), np.nan)
    for image in np.unique(images):
        here = images == image
        fitted = Calibration.fit({key: values[~here] for key, values in signals.items()}, truth[~here])
        estimates[here] = fitted.predict({key: values[here] for key, values in signals.items()})
    return estimates


def summary(table: pd.DataFrame, signals: Mapping[str, Sequence[str]], unseen: set[str]) -> dict[str, Any]:
    """Agreement before and after calibration for each signal and organ, on all images and on unseen ones."""
    found: dict[str, Any] = {}
    for organ in ORGANS:
        truth = table[f"true/{organ}"].to_numpy(float)
        for name, keys in signals.items():
            try:
                estimates = left_out_estimates(table, keys, organ)
            except DataError as error:
                found.setdefault(organ, {})[name] = {"not calibrated": str(error)}
                continue
            subsets = {"all": np.ones(len(table), bool)}
            few = table["image"].isin(unseen).to_numpy()
            if few.any() and not few.all():
                subsets["unseen"] = few
            entry: dict[str, Any] = {}
            for kind, part in subsets.items():
                images = list(table["image"][part])
                agreement = asdict(estimate_agreement(estimates[part], truth[part], images))
                entry[kind] = {"calibrated": {name: _finite(value) for name, value in agreement.items()}}
                if len(keys) == 1:
                    raw = table[f"{keys[0]}/{organ}"].to_numpy(float)[part]
                    entry[kind]["r"] = _finite(estimate_agreement(raw, truth[part], images).r)
            found.setdefault(organ, {})[name] = entry
    return found


def _finite(value: float) -> float | None:
    """JSON has no NaN, which the correlation of a constant is."""
    return value if math.isfinite(value) else None


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def lines_of(found: Mapping[str, Any], subset: str, seconds: Mapping[str, float]) -> list[str]:
    """A table of one subset of the rows."""
    head = ["signal", "organ", "n", "r", "calibrated: r (95 % interval)", "MAE", "bias", "CPU ms"]
    rows = []
    for organ, signals in found.items():
        for name, entry in signals.items():
            if subset not in entry:
                rows.append([name, organ, "–", "–", entry.get("not calibrated", "–"), "–", "–", "–"])
                continue
            a = entry[subset]["calibrated"]
            r, low, high = (_cell(a[key], ".3f") for key in ("r", "r_low", "r_high"))
            raw = _cell(entry[subset].get("r"), "+.3f")
            cost = f"{1000 * seconds[name]:.0f}" if name in seconds else "–"
            numbers = [f"{r} ({low} … {high})", f"{a['mae']:.4f}", f"{a['bias']:+.4f}", cost]
            rows.append([name, organ, str(a["n"]), raw, *numbers])
    return markdown_table(head, rows)


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    lines = ["# Cheap signs of quality against true Dice", "", record["about"], "", "## All masks", ""]
    lines += lines_of(record["masks"], "all", record["seconds"])
    lines += ["", "## Masks of images that no network has seen", "", record["about_unseen"], ""]
    lines += lines_of(record["masks"], "unseen", record["seconds"])
    lines += ["", "## HybridGNet's own contours", "", record["about_own"], ""]
    lines += lines_of(record["own"], "all", record["seconds"])
    return "\n".join(lines) + "\n"


def references(
    options: argparse.Namespace, atlas: Atlas, models: Mapping[str, Any]
) -> dict[str, LatentDistance]:
    """Codes of the atlas: of its label maps by AENet, of its images' files by HybridGNet."""
    masks = [read_organs(each.labels, ORGANS) for each in atlas.images]
    files = [options.jsrt / "images" / f"{each.id}.png" for each in atlas.images]
    return {
        "aenet": LatentDistance.fit(models["aenet"], masks),
        "hybridgnet": LatentDistance.fit(models["hybridgnet"], files),
    }


@dataclass(frozen=True)
class Measured:
    """All rows, and what they were measured with.

    Attributes:
        masks: one row for each U-Net's mask.
        own: one row for each image whose contours HybridGNet itself drew.
        seconds: signal -> mean CPU seconds.
        seen: images that the networks were trained on.
        references: number of images of the atlas and of reference codes.
        versions: the checkpoints with their versions.
    """

    masks: pd.DataFrame
    own: pd.DataFrame
    seconds: dict[str, float]
    seen: set[str]
    references: int
    versions: list[str]


def measured(options: argparse.Namespace) -> Measured:
    """Measure RCA and all signals."""
    names = test_images(options.ubd, options.jsrt)
    train = set((options.jsrt / "splits" / "train.txt").read_text(encoding="utf-8").split())
    excluded = train & set(names)
    if options.limit is not None:
        excluded |= set(sorted(train - excluded)[4 * options.limit :])
        names = names[: options.limit]
    atlas = build_atlas(options.jsrt, ORGANS, name="jsrt", layout="jsrt", exclude=sorted(excluded))
    models = {key: anatozoo.load(name) for key, name in NETWORKS.items()}
    distances, engine, clock = references(options, atlas, models), engine_of(RCA), Clock()
    rows = timed(clock, "rca", lambda: measure(engine, None, atlas, names, options.ubd, options.jsrt, 5))
    add_signals(rows, options, models, distances, clock)
    own = own_rows(options.jsrt, models, distances["hybridgnet"], options.limit)
    seconds = {key: float(np.mean(x)) for key, x in clock.items()}
    seconds |= dict.fromkeys(RCA_SIGNALS, seconds.pop("rca") / len(rows))
    versions = [f"{model.checkpoint_name} {model.checkpoint_version}" for model in models.values()]
    return Measured(pd.DataFrame(rows), pd.DataFrame(own), seconds, set(names) & train, len(atlas), versions)


def record_of(found: Measured) -> dict[str, Any]:
    """What is reported: texts, costs and agreements."""
    named = RCA_SIGNALS | MASK_SIGNALS | OWN_SIGNALS
    single = {label: [key] for key, label in (RCA_SIGNALS | MASK_SIGNALS | IMAGE_SIGNALS).items()}
    images = set(found.masks["image"])
    unseen = images - found.seen
    mean_spread = float(np.mean([found.own[f"spread/{organ}"].mean() for organ in ORGANS]))
    command = "python experiments/signals_evidence.py --ubd DIR --jsrt DIR --out docs/evidence"
    return {
        "command": command,
        "about": (
            f"Twelve U-Nets after 1 to 12 epochs on {len(images)} JSRT images, {len(found.masks)} masks; "
            "true Dice as the study's authors computed it. `r` is the signal's own correlation with it; "
            "calibrated are estimates of Dice by isotonic regression, or by linear regression of several "
            "signals, fitted on the masks of all other images; intervals draw images. HybridGNet's distance "
            "and spread look at the image alone and are the same for all of its masks. Codes are "
            f"compared with those of the {found.references} images of JSRT's train split that are not among "
            "these; RCA has the same ones as its atlas, and its network was trained on them alone. CPU time "
            "is for one mask on one core, RCA's with a twelfth of the image's registrations and its reading, "
            f"HybridGNet's for one image that is read already. Checkpoints: {', '.join(found.versions)}. "
            f"`{command}`"
        ),
        "about_unseen": (
            f"{', '.join(NETWORKS.values())} were trained on JSRT's train split, which has {len(found.seen)} "
            f"of the {len(images)} images. Here are the masks of the other {len(unseen)}, "
            f"{', '.join(sorted(unseen))}; the calibrations are the same as above."
        ),
        "about_own": (
            f"True Dice of {NETWORKS['hybridgnet']}'s own contours against the masks of SCR on the "
            f"{len(found.own)} images of JSRT's validation split, which it was not trained on. The mean "
            f"spread is {mean_spread:.1e} pixels of the image."
        ),
        "seconds": {named[key]: value for key, value in found.seconds.items()},
        "masks": summary(found.masks, single | COMBINED, unseen),
        "own": summary(found.own, {label: [key] for key, label in OWN_SIGNALS.items()}, set()),
    }


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ubd", type=Path, required=True)
    parser.add_argument("--jsrt", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="images of each kind, to try it; nothing is then written")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = record_of(measured(options))
    print(markdown(record), flush=True)
    if options.out is not None and options.limit is None:
        write(options.out, "signals_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
