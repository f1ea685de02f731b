"""Post-DAE behind real segmenters, good and bad, on JSRT's validation images: the experiment of the paper.

    python experiments/postdae_evidence.py --root DIR --unet RUN/every [--out docs/evidence]

`--root` holds the data sets as users download them, `--unet` the weights of a U-Net after each epoch, as
``anatozoo fit --config unet/jsrt.yaml --model.frame.size 256`` keeps them; `unet-jsrt` is measured too. A
random forest on intensity, gradient and position is trained here, on the images of the train split. Every
mask is measured as it is, after Post-DAE with and without its last step (an organ is in one part), and after
what one would do without it: keeping the largest part of each organ and filling its holes; and a random
walker, which smooths the segmentation along the image's edges. Needs scikit-learn and scikit-image.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from comparing import write
from scipy.stats import wilcoxon

import anatozoo
from anatozoo.io.annotation import Annotation
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.intensity import normalize_intensity
from anatozoo.io.landmarks import draw_label_map
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.cases import Case, case_row

ORGANS = ("lung_right", "lung_left", "heart", "clavicle_right", "clavicle_left")
MAIN = ("lungs", "heart", "clavicles")
SIDE = 1024
FOREST_SIDE = 256
SPACING_MM = (0.35, 0.35)
METRICS = ("dice", "hd_mm", "hd95_mm", "assd_mm", "components", "holes")
Labels = np.ndarray


def reference_of(case: ChestCase) -> Labels:
    """The label map (1024, 1024) of a case: masks, painted in the organs' order."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for value, organ in enumerate(ORGANS, start=1):
        labels[case.read_mask(organ)] = value
    return labels


# --- segmenters --------------------------------------------------------------------------------------------


def features(image: np.ndarray) -> np.ndarray:
    """Intensity, smoothed intensity, gradients and position of each pixel of an image (S, S): (S*S, 9)."""
    x = image.astype(np.float32)
    rows, columns = np.mgrid[0 : x.shape[0], 0 : x.shape[1]].astype(np.float32) / x.shape[0]
    planes = [x, cv2.GaussianBlur(x, (0, 0), 2), cv2.GaussianBlur(x, (0, 0), 6), rows, columns]
    for sigma in (1, 3):
        smooth = cv2.GaussianBlur(x, (0, 0), sigma)
        planes += [cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)]
    return np.stack([plane.ravel() for plane in planes], 1)


def small(case: ChestCase) -> np.ndarray:
    """The image at the forest's size, in [0, 1]."""
    pixels = normalize_intensity(case.read_image().pixels)
    return cv2.resize(pixels, (FOREST_SIDE, FOREST_SIDE), interpolation=cv2.INTER_AREA)


def train_forest(cases: Sequence[ChestCase], trees: int = 30, per_image: int = 1500) -> Any:
    """A random forest on pixels drawn at random from the train split."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    xs, ys = [], []
    for case in cases:
        labels = cv2.resize(
            reference_of(case), (FOREST_SIDE, FOREST_SIDE), interpolation=cv2.INTER_NEAREST
        ).ravel()
        chosen = rng.choice(len(labels), per_image, replace=False)
        xs.append(features(small(case))[chosen])
        ys.append(labels[chosen])
    forest = RandomForestClassifier(trees, min_samples_leaf=5, n_jobs=-1, random_state=0)
    return forest.fit(np.concatenate(xs), np.concatenate(ys))


def forest_labels(forest: Any, case: ChestCase) -> Labels:
    """What the forest finds, brought to the source grid."""
    labels = forest.predict(features(small(case))).reshape(FOREST_SIDE, FOREST_SIDE).astype(np.uint8)
    return cv2.resize(labels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def unets(folder: Path, epochs: Sequence[int] | None) -> Iterator[tuple[str, UNetModule]]:
    """The U-Net after chosen epochs, worst first."""
    found = {int(re.findall(r"\d+", path.stem)[-1]): path for path in folder.glob("*.ckpt")}
    chosen = sorted(found) if epochs is None else epochs
    for epoch in chosen:
        yield f"U-Net, epoch {epoch + 1}", UNetModule.load_from_checkpoint(found[epoch]).eval()


# --- what one would do without Post-DAE ---------------------------------------------------------------------


def largest_parts(labels: Labels) -> Labels:
    """Keep the largest part of each organ and fill its holes."""
    result = np.zeros_like(labels)
    for value in range(1, len(ORGANS) + 1):
        count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8))
        if count < 2:
            continue
        part = (parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(part, contours, -1, 1, cv2.FILLED)
        result[(part > 0) & (result == 0)] = value
    return result


def walker(labels: Labels, image: np.ndarray) -> Labels:
    """A random walker from the inner pixels of each label along the image, at the forest's size."""
    from skimage.segmentation import random_walker

    tiny = cv2.resize(labels, (FOREST_SIDE, FOREST_SIDE), interpolation=cv2.INTER_NEAREST)
    present = [value for value in range(len(ORGANS) + 1) if (tiny == value).any()]
    if len(present) < 2:
        return labels
    seeds = np.zeros(tiny.shape, np.int32)
    for number, value in enumerate(present, start=1):
        mask = (tiny == value).astype(np.uint8)
        inner = cv2.erode(mask, np.ones((5, 5), np.uint8))
        seeds[(inner if inner.any() else mask) > 0] = number
    walked = random_walker(image, seeds, beta=130, mode="cg_j", tol=1e-4)
    smooth = np.array([present[0], *present])[np.maximum(walked, 0)].astype(np.uint8)
    return cv2.resize(smooth, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


# --- damage ------------------------------------------------------------------------------------------------


def without_organ(labels: Labels, value: int) -> Labels:
    """The label map without one organ."""
    return np.where(labels == value, 0, labels).astype(np.uint8)


def without_third(labels: Labels, third: int) -> Labels:
    """The label map with the upper, middle or lower third of its anatomy blank."""
    rows = np.flatnonzero(labels.any(1))
    edges = np.linspace(rows[0], rows[-1] + 1, 4).astype(int)
    result = labels.copy()
    result[edges[third] : edges[third + 1]] = 0
    return result


def scribbled(labels: Labels, rng: np.random.Generator) -> Labels:
    """The label map with discs of wrong labels in it."""
    result = labels.copy()
    for _ in range(25):
        x, y = (int(v) for v in rng.integers(SIDE // 8, SIDE * 7 // 8, 2))
        cv2.circle(result, (x, y), int(rng.integers(15, 60)), int(rng.integers(0, 4)), cv2.FILLED)
    return result


# --- measuring ---------------------------------------------------------------------------------------------


def row_of(prediction: Labels, reference: Labels, organs: Sequence[str] = ORGANS) -> dict[str, float]:
    """The numbers of one mask, and the mean Dice over the organs."""
    sides = []
    for labels in (prediction, reference):
        annotation = Annotation.from_labels(labels, ORGANS, SPACING_MM)
        masks = {organ: mask for organ, mask in annotation.masks.items() if organ in organs}
        sides.append(Annotation(annotation.size, masks=masks, spacing_mm=SPACING_MM))
    row = case_row(Case(*sides))
    for metric in METRICS:
        # Parts and holes of an organ that was not found are NaN.
        values = np.array([row[f"{metric}/{organ}"] for organ in organs])
        row[metric] = float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else np.nan
    row["one_part"] = float(np.mean([_parts(prediction, organ) == 1 for organ in organs]))
    return row


def _parts(labels: Labels, organ: str) -> int:
    """Connected parts of an organ; a lung with the clavicles that cover, and may cut off, its top."""
    values = [1 + ORGANS.index(organ)]
    values += [4, 5] if organ.startswith("lung") else []
    here = np.isin(labels, values).astype(np.uint8)
    _, parts = cv2.connectedComponents(here)
    return len(np.unique(parts[labels == values[0]]))


def summary(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means before and after, and the paired Wilcoxon signed-rank test of each metric."""
    result: dict[str, Any] = {"n": len(before)}
    for metric in (*METRICS, "one_part", *(f"{m}/{o}" for o in MAIN for m in ("dice", "hd_mm"))):
        if metric not in before[0]:
            continue
        a, b = (np.array([row[metric] for row in rows], float) for rows in (before, after))
        kept = ~(np.isnan(a) | np.isnan(b))
        changed = bool(kept.any() and (a[kept] != b[kept]).any())
        result[metric] = {
            "before": float(a[kept].mean()),
            "after": float(b[kept].mean()),
            "p": float(wilcoxon(b[kept], a[kept]).pvalue) if changed else 1.0,
        }
    return result


Repair = Callable[[Labels, ChestCase], Labels]


def main() -> None:
    """Parse the options, run the experiment, write tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--unet", type=Path, required=True, help="folder with the weights of each epoch")
    parser.add_argument("--epochs", type=int, nargs="+", help="epochs of the U-Net, from 0 (default: all)")
    parser.add_argument("--model", default="postdae-jsrt", help="Post-DAE: a name or a folder")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    options = parser.parse_args()

    model = anatozoo.load(options.model)
    cases = [case for case in index_chest(options.root, "jsrt", "val") if case.image and case.masks]
    truth = [reference_of(case) for case in cases]
    images = [small(case) for case in cases]
    by_id = {case.id: image for case, image in zip(cases, images, strict=True)}

    def post_dae(labels: Labels, case: ChestCase) -> Labels:
        return model.predict(labels).after

    def network_alone(labels: Labels, case: ChestCase) -> Labels:
        behind, model.behind = model.behind, ()
        try:
            return model.predict(labels).after
        finally:
            model.behind = behind

    repairs: dict[str, Repair] = {
        "Post-DAE": post_dae,
        "Post-DAE, parts left as they are": network_alone,
        "largest part, holes filled": lambda labels, case: largest_parts(labels),
        "random walker": lambda labels, case: walker(labels, by_id[case.id]),
    }
    results: dict[str, dict[str, Any]] = {}

    def measure(name: str, inputs: Sequence[Labels], chosen: Mapping[str, Repair]) -> None:
        before = [row_of(labels, reference) for labels, reference in zip(inputs, truth, strict=True)]
        for repair, function in chosen.items():
            start = time.perf_counter()
            repaired = [function(labels, case) for labels, case in zip(inputs, cases, strict=True)]
            seconds = (time.perf_counter() - start) / len(cases)
            after = [row_of(labels, reference) for labels, reference in zip(repaired, truth, strict=True)]
            results.setdefault(name, {})[repair] = summary(before, after) | {"seconds": seconds}
            s = results[name][repair]
            print(
                f"{name:28} {repair:28} dice {s['dice']['before']:.4f} -> {s['dice']['after']:.4f}  "
                f"hd {s['hd_mm']['before']:6.2f} -> {s['hd_mm']['after']:6.2f} mm  "
                f"one part {s['one_part']['before']:.2f} -> {s['one_part']['after']:.2f}",
                flush=True,
            )

    train = [case for case in index_chest(options.root, "jsrt", "train") if case.image and case.masks]
    forest = train_forest(train)
    measure("random forest", [forest_labels(forest, case) for case in cases], repairs)
    for name, unet in unets(options.unet, options.epochs):
        measure(name, [unet.predict(case.image).mask for case in cases], repairs)
    unet = anatozoo.load("unet-jsrt")
    measure("unet-jsrt", [unet.predict(case.image).mask for case in cases], repairs)
    own = {"Post-DAE": post_dae}
    measure("the reference itself", truth, own)
    restored = {}
    for value, organ in enumerate(ORGANS, start=1):
        damaged = [without_organ(labels, value) for labels in truth]
        rows = [
            row_of(post_dae(labels, case), t) for labels, case, t in zip(damaged, cases, truth, strict=True)
        ]
        restored[f"without {organ}"] = {organ: float(np.mean([row[f"dice/{organ}"] for row in rows]))}
    for third, name in enumerate(("upper", "middle", "lower")):
        damaged = [without_third(labels, third) for labels in truth]
        before = [row_of(labels, t) for labels, t in zip(damaged, truth, strict=True)]
        rows = [
            row_of(post_dae(labels, case), t) for labels, case, t in zip(damaged, cases, truth, strict=True)
        ]
        restored[f"{name} third blank"] = {
            organ: float(np.mean([row[f"dice/{organ}"] for row in rows])) for organ in ORGANS
        } | {"dice before": float(np.mean([row["dice"] for row in before]))}
    elsewhere = other_hospitals(model, options.root)
    for name, values in restored.items():
        print(f"{name}: " + ", ".join(f"{organ} {value:.3f}" for organ, value in values.items()))
    print(f"other hospitals: {json.dumps(elsewhere)}")
    if options.out is not None:
        write_tables(options.out, results, restored, elsewhere, options)


def other_hospitals(model: Any, root: Path, count: int = 60) -> dict[str, Any]:
    """Shapes of lungs and heart of Padchest, drawn from landmarks, damaged by discs, before and after."""
    cases = [
        case
        for case in index_chest(root, "landmarks")
        if "heart" in case.landmarks and not case.id.startswith("JPC")
    ][:count]
    rng = np.random.default_rng(0)
    core = ORGANS[:3]
    before, after = [], []
    for case in cases:
        reference = draw_label_map({organ: case.landmarks[organ] for organ in core}, (SIDE, SIDE))
        damaged = scribbled(reference, rng)
        repaired = model.predict(damaged).after
        # These shapes have no clavicles: what the model puts there counts as what was there before.
        repaired = np.where(repaired > len(core), damaged, repaired)
        before.append(row_of(damaged, reference, core))
        after.append(row_of(repaired, reference, core))
    return summary(before, after)


def write_tables(
    folder: Path,
    results: Mapping[str, Mapping[str, Any]],
    restored: Mapping[str, Mapping[str, float]],
    elsewhere: Mapping[str, Any],
    options: argparse.Namespace,
) -> None:
    """Write ``postdae-jsrt_experiment.json`` and ``.md``."""
    epochs = f" --epochs {' '.join(map(str, options.epochs))}" if options.epochs else ""
    command = (
        f"python experiments/postdae_evidence.py --root DIR --unet RUN/every{epochs} --out docs/evidence"
    )
    record = {"command": command, "segmenters": results, "restored": restored, "other hospitals": elsewhere}
    rows = []
    for segmenter, by_repair in results.items():
        for repair, s in by_repair.items():
            cells = [segmenter, repair]
            for metric in METRICS:
                digits = 3 if metric == "dice" else 1
                value = s[metric]
                cells.append(
                    f"{value['before']:.{digits}f} → {value['after']:.{digits}f} (p {value['p']:.1g})"
                )
            cells.append(f"{s['one_part']['before']:.0%} → {s['one_part']['after']:.0%}")
            rows.append(cells)
    head = ["segmenter", "repair", *METRICS, "organs in one part"]
    table = pd.DataFrame(rows, columns=head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in table.to_numpy().tolist()]
    lines += ["", "| damage | Dice after Post-DAE |", "|---|---|"]
    lines += [
        f"| {name} | " + ", ".join(f"{organ} {value:.3f}" for organ, value in values.items()) + " |"
        for name, values in restored.items()
    ]
    s = elsewhere
    lines += [
        "",
        f"Shapes of {s['n']} Padchest images with discs of wrong labels: Dice {s['dice']['before']:.3f} → "
        f"{s['dice']['after']:.3f} (p {s['dice']['p']:.1g}), HD {s['hd_mm']['before']:.1f} → "
        f"{s['hd_mm']['after']:.1f} (p {s['hd_mm']['p']:.1g}).",
    ]
    title = "# Post-DAE behind segmenters of JSRT, validation split"
    note = (
        "Means over 21 images and five organs (at 1024 × 1024, 0.35 mm per pixel), before → after, p of the "
        f"paired Wilcoxon signed-rank test. `{command}`"
    )
    write(folder, "postdae-jsrt_experiment", record, "\n".join([title, "", note, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
