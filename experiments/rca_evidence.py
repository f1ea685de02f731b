"""How well estimates without ground truth agree with the truth, on twelve U-Nets of rising quality.

    python experiments/rca_evidence.py --ubd DIR --jsrt DIR --engines acregnet-jsrt-rca bspline \
        --authors df_rca_affine_deformable_lh.csv --out docs/evidence

`--ubd` holds the study of unsupervised bias discovery (Gaggion et al., FAIMI workshop at MICCAI 2023): masks
of U-Nets after 1 to 12 epochs (``DifferentQualities``) on test images, and their true Dice as the authors
computed it. Of the JSRT images among them, those in `--jsrt` are judged. The atlas is JSRT's train split
without these images. Engines must not have been trained on them either, which only their cards can tell.

An engine ``A,B`` is A and then B on what A left. Each is measured with each of ``--selectors``, which
choose the atlas images: ``thumbnail``, or a checkpoint that gives latents.

For each engine: correlation of estimated with true Dice over all masks (with a bootstrap interval over
images), mean absolute error and bias, for the best and for the mean of the atlas images; and the time for an
image.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from comparing import write
from PIL import Image

from anatozoo.errors import DataError
from anatozoo.metrics.tables import markdown_table
from anatozoo.quality import (
    Atlas,
    Engine,
    Selector,
    build_atlas,
    engine_of,
    estimate_agreement,
    register_to_atlas,
    selector_of,
)
from anatozoo.quality.selectors import THUMBNAIL

ORGANS = ("lungs", "heart")
KINDS = ("max", "mean")
EPOCHS = 12
AUTHORS = "df_rca_affine_deformable_lh.csv"
Row = dict[str, Any]


def test_images(ubd: Path, jsrt: Path) -> list[str]:
    """Names of the test images of the study that lie in the data set."""
    listed = (ubd / "splits" / "test_images_heart.txt").read_text(encoding="utf-8").split()
    names = {name.removesuffix(".png") for name in listed if re.match(r"JPC[LN]N\d+", name)}
    here = sorted(name for name in names if (jsrt / "images" / f"{name}.png").is_file())
    if not here:
        raise DataError(f"{jsrt} has none of the {len(names)} JSRT images that the study tested on.")
    return here


def read_truth(ubd: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(model, image) -> the authors' Dice of each organ, against the landmark data set's polygons."""
    table = pd.concat([pd.read_csv(ubd / "DifferentQualities" / sex / "heart.csv") for sex in "MF"])
    return {
        (str(row["Model"]), str(row["File"]).removesuffix(".png")): {
            organ: float(row[f"Dice {organ.capitalize()}"]) for organ in ORGANS
        }
        for row in table.to_dict("records")
    }


def mask_path(ubd: Path, model: str, name: str) -> Path:
    """The mask of an image by a model, in the folder of the patient's sex."""
    paths = [ubd / "DifferentQualities" / sex / model / f"{name}.png" for sex in "MF"]
    return next(path for path in paths if path.is_file())


def measure(
    engine: Engine,
    selector: Selector | None,
    atlas: Atlas,
    names: Sequence[str],
    ubd: Path,
    jsrt: Path,
    count: int,
) -> list[Row]:
    """One row for each mask: true Dice, estimates, and the seconds of its image's registrations."""
    truth, rows = read_truth(ubd), []
    how: dict[str, Any] = {"engine": engine, "selector": selector}
    register_to_atlas(jsrt / "images" / f"{names[0]}.png", atlas, count=1, **how)  # not timed
    for name in names:
        start = time.perf_counter()
        image = jsrt / "images" / f"{name}.png"
        registered = register_to_atlas(image, atlas, count=count, **how)
        seconds = time.perf_counter() - start
        for epoch in range(EPOCHS):
            model = f"epoch{epoch}"
            with Image.open(mask_path(ubd, model, name)) as picture:
                labels = np.array(picture)
            estimates = registered.judge(labels).row()
            true = {f"true/{organ}": value for organ, value in truth[model, name].items()}
            rows.append({"image": name, "model": model, "seconds": seconds} | true | estimates)
    return rows


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Agreement of each organ and kind of estimate, and the time for an image."""
    table = pd.DataFrame(rows)
    images = list(table["image"])
    return {
        "seconds": float(table.groupby("image")["seconds"].first().mean()),
        "organs": {
            organ: {
                kind: asdict(
                    estimate_agreement(table[f"dice_rca_{kind}/{organ}"], table[f"true/{organ}"], images)
                )
                for kind in KINDS
            }
            for organ in ORGANS
        },
    }


def authors(path: Path) -> dict[str, dict[str, Any]]:
    """Our summary of the authors' own 760 rows: ten U-Nets on 76 images, affine and deformable networks."""
    table = pd.read_csv(path)
    return {
        organ: {
            kind: asdict(
                estimate_agreement(table[f"{start}Dice_RCA_{kind.capitalize()}"], table[f"{start}Dice_Real"])
            )
            for kind in KINDS
        }
        for organ, start in {"lungs and heart": "", "lungs": "L_", "heart": "H_"}.items()
    }


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""
    lines = ["# Estimated against true Dice", "", record["about"], ""]
    head = ["engine", "organ", "estimate", "n", "r (95 % interval)", "MAE", "bias", "s per image"]
    rows = []
    for engine, found in record["engines"].items():
        for organ, kinds in found["organs"].items():
            for kind, a in kinds.items():
                rows.append([engine, organ, kind, *_cells(a), f"{found['seconds']:.2f}"])
    lines += markdown_table(head, rows)
    if "authors" in record:
        lines += ["", "## The authors' own rows, summarised by the same code", ""]
        rows = [
            [organ, kind, *_cells(a)]
            for organ, kinds in record["authors"].items()
            for kind, a in kinds.items()
        ]
        lines += markdown_table(["organ", "estimate", "n", "r (95 % interval)", "MAE", "bias"], rows)
    return "\n".join(lines) + "\n"


def _cells(a: dict[str, Any]) -> list[str]:
    r = f"{a['r']:.4f} ({a['r_low']:.3f} … {a['r_high']:.3f})"
    return [str(a["n"]), r, f"{a['mae']:.4f}", f"{a['bias']:+.4f}"]


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ubd", type=Path, required=True)
    parser.add_argument("--jsrt", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", required=True)
    parser.add_argument("--selectors", nargs="+", default=[THUMBNAIL])
    parser.add_argument("--count", type=int, default=5, help="atlas images for each image")
    parser.add_argument("--authors", type=Path, help=f"the authors' {AUTHORS}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="rca", help="start of the names of the tables (default: rca)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)
    names = test_images(options.ubd, options.jsrt)
    train = (options.jsrt / "splits" / "train.txt").read_text(encoding="utf-8").split()
    atlas = build_atlas(
        options.jsrt, ORGANS, name="jsrt", layout="jsrt", exclude=[name for name in names if name in train]
    )
    found = {}
    for chooser in options.selectors:
        selector = selector_of(chooser)
        searched = atlas if selector is None else atlas.with_latents(selector)
        for name in options.engines:
            engine = engine_of(name.split(","))
            rows = measure(engine, selector, searched, names, options.ubd, options.jsrt, options.count)
            key = engine.name if selector is None else f"{engine.name} by {selector.name}"
            found[key] = summary(rows)
            print(key, json.dumps(found[key]), flush=True)
    if options.out is None:
        return
    engines, selectors = " ".join(options.engines), " ".join(options.selectors)
    chosen = "" if options.selectors == [THUMBNAIL] else f"--selectors {selectors} "
    command = (
        f"python experiments/rca_evidence.py --ubd DIR --jsrt DIR --engines {engines} {chosen}--count "
        f"{options.count} --threads {options.threads}{' --authors FILE' if options.authors else ''} "
        f"{'' if options.name == 'rca' else f'--name {options.name} '}--out docs/evidence"
    )
    about = (
        f"Twelve U-Nets after 1 to 12 epochs on {len(names)} JSRT images, {len(names) * EPOCHS} masks; true "
        f"Dice as the study's authors computed it. The atlas has the {len(atlas)} images of JSRT's train "
        f"split that are not among these; each image is registered to {options.count} of them. `max` is "
        "the best and `mean` the mean over the atlas images; intervals draw images. Seconds: registration "
        f"of one image from its file, {options.threads} threads. `{command}`"
    )
    record: dict[str, Any] = {"command": command, "about": about, "engines": found}
    if options.authors:
        record["authors"] = authors(options.authors)
    write(options.out, f"{options.name}_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
