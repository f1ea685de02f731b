r"""How Dice and Hausdorff distance fall as more of a radiograph is hidden: squares, and drawn devices.

    python experiments/occlusion_curves.py --root DIR --work WORK --out docs/evidence

Black squares of 0 to 256 pixels of 1024 at seven seeded places, the same for every image (Gaggion et al.,
IEEE TMI 2022), and 0 to 16 bright tubes, wires and boxes, drawn at seven seeds. Every value is the mean
over lungs and heart of an image; organs of prediction and reference are cut by one another in the same way
for all models, so that label maps and contours meet on equal terms. Curves are means over images and
places, bands the mean of the places' standard deviations over images, as in the paper. WORK keeps the rows
of each model: a second run measures what is missing.

The two models that the zoo does not have were fitted by

    python experiments/occlusion_curves.py --root DIR --work WORK --start
    anatozoo fit --config hybridgnet/jsrt.yaml --data.root DATA --data.layout '[jsrt,jsrt,folder]' \
        --model.init_weights WORK/start --model.skips '[]' --model.refine '[]' --model.dense_weight 0 \
        --model.encoder_weights null --model.frozen_layers '[body]' --model.optim.warmup_steps 50 \
        --trainer.max_epochs 8 --trainer.precision bf16-mixed
    anatozoo fit --config unet/jsrt.yaml --data.root DATA --data.batch_size 4 --model.frame.size 256 \
        --model.encoder dynunet --model.decoder_widths '[16,32,64,128,256,256]' \
        --model.encoder_weights null --model.frozen_layers '[]' --model.optim.encoder_lr_scale 1 \
        --model.optim.warmup_steps 50 --trainer.max_epochs 28 --trainer.precision bf16-mixed

with DATA as the head of hybridgnet/chexmask.yaml says, and its `data.augment` in the first of them.
"""

import argparse
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from comparing import options_of, table_lines, validation_cases, write

import anatozoo
from anatozoo.data.case import Case as DataCase
from anatozoo.io.grid import Grid
from anatozoo.io.images import Image
from anatozoo.metrics.cases import Measures, case_row
from anatozoo.metrics.occlusion import FRAME, occlude, occlusion_centres
from anatozoo.tasks.chest_cases import compared
from anatozoo.tasks.trials import Conditions
from anatozoo.zoo.checkpoint import write_checkpoint_folder

ORGANS = ("lungs", "heart")
SIDES = (0, 32, 64, 96, 128, 160, 192, 224, 256)
DEVICES = (0, 2, 4, 8, 16)
PLACES = 7
SPACING_MM = 0.35
METRICS = ("dice", "hd_mm")
MODELS = ("hybridgnet-jsrt", "unet-jsrt")
KINDS = {"square": (SIDES, "side of the square, pixels of 1024"), "devices": (DEVICES, "drawn devices")}


def with_devices(image: Image, count: int, seed: int) -> Image:
    """A radiograph with bright tubes, wires and boxes in front of the chest.

    Args:
        image: radiograph of any size.
        count: how many are drawn; a smaller number draws the first of them.
        seed: chooses places, widths and kinds.
    """
    draws = np.random.default_rng((seed, 11))
    height, width = image.pixels.shape
    scale = max(image.size) / FRAME
    low, high = (float(np.percentile(image.pixels, q)) for q in (1, 99))
    pixels = image.pixels.astype(np.float32)
    for _ in range(count):
        mask = np.zeros((height, width), np.uint8)
        ends = draws.uniform(0.15, 0.85, (3, 2)) * (width, height)
        thick = max(1, round(draws.uniform(3, 12) * scale))
        box, strength = draws.random() < 0.2, draws.uniform(0.5, 1.0)
        if box:
            corner = ends[0] + draws.uniform(40, 110, 2) * scale
            cv2.rectangle(mask, ends[0].astype(int).tolist(), corner.astype(int).tolist(), 255, -1)
        else:
            t = np.linspace(0, 1, 60)[:, None]
            curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
            cv2.polylines(mask, [np.rint(curve).astype(np.int32)], False, 255, thick, cv2.LINE_AA)
        share = strength * mask.astype(np.float32) / 255
        pixels += share * np.clip(low + 0.95 * (high - low) - pixels, 0, None)
    kind = image.pixels.dtype
    return replace(image, pixels=pixels.round().astype(kind) if kind.kind in "ui" else pixels.astype(kind))


def hidden(image: Image, kind: str, amount: int, place: int) -> Image:
    """The image under one condition."""
    if kind == "square":
        return occlude(image, amount, occlusion_centres(PLACES)[place])
    return with_devices(image, amount, place)


def without_skips(name: str, folder: Path) -> None:
    """Store a HybridGNet without skips and refinement, else with the weights of another, to start from."""
    import torch

    full: Any = anatozoo.load(name)
    torch.manual_seed(0)
    bare = type(full)(**full.settings() | {"skips": [], "refine": []})
    given, own = full.state_dict(), bare.state_dict()
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    bare.load_state_dict(own | fitting)
    write_checkpoint_folder(bare, folder, name="hybridgnet-start", version="1.0.0")


def conditions(kind: str) -> Iterator[tuple[int, int]]:
    """Amounts and places; nothing hidden is asked once."""
    for amount in KINDS[kind][0]:
        for place in range(PLACES if amount else 1):
            yield amount, place


def measure(
    model: Any, cases: Sequence[DataCase], kind: str, amount: int, place: int
) -> list[dict[str, float]]:
    """Mean over lungs and heart of each metric, a row for each case."""
    how = Conditions(Measures(plausibility=False), (SPACING_MM,), exclusive=True)
    rows = []
    for case in cases:
        image = case.read_flat()
        drawn = case.read_drawn(tuple(model.organs), Grid(image.size, image.spacing_mm))
        result = model.predict(hidden(image, kind, amount, place))
        row = case_row(compared(drawn, result, how), how.measures)
        rows.append({m: float(np.mean([row[f"{m}/{organ}"] for organ in ORGANS])) for m in METRICS})
    return rows


def curve(rows: Mapping[tuple[int, int], Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Mean and band of each metric by amount, and the mean fall against nothing hidden."""
    points = []
    for amount in sorted({amount for amount, _ in rows}):
        places = [rows[key] for key in rows if key[0] == amount]
        point: dict[str, Any] = {"amount": amount, "places": len(places), "images": len(places[0])}
        for metric in METRICS:
            values = np.array([[row[metric] for row in place] for place in places])
            point[metric] = {
                "mean": round(float(values.mean()), 5),
                "band": round(float(values.std(1, ddof=1).mean()) if values.shape[1] > 1 else 0.0, 5),
                "worst": round(float(values.min() if metric == "dice" else values.max()), 5),
            }
        points.append(point)
    return points


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Curves with bands: a row for each kind, a column for each metric."""
    from matplotlib.figure import Figure

    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(len(KINDS), len(METRICS), squeeze=False)
    for row, (kind, (_, words)) in zip(axes, KINDS.items(), strict=True):
        for ax, metric in zip(row, METRICS, strict=True):
            for colour, (name, curves) in zip(colours, record["models"].items(), strict=False):
                x = [point["amount"] for point in curves[kind]]
                mean = np.array([point[metric]["mean"] for point in curves[kind]])
                band = np.array([point[metric]["band"] for point in curves[kind]])
                ax.plot(x, mean, color=colour, marker="o", ms=3, label=name)
                ax.fill_between(x, mean - band, mean + band, color=colour, alpha=0.15, lw=0)
            ax.set_xlabel(words)
            ax.set_title({"dice": "Dice", "hd_mm": "Hausdorff distance, mm"}[metric], loc="left", fontsize=10)
            ax.grid(color="0.9")
            ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def markdown(record: Mapping[str, Any]) -> str:
    """The curves as tables."""
    lines = ["# Hidden parts of radiographs", "", record["about"]]
    for kind, (amounts, words) in KINDS.items():
        for metric in METRICS:
            rows = [
                [name, *(f"{p[metric]['mean']:.3f} ({p[metric]['worst']:.3f})" for p in curves[kind])]
                for name, curves in record["models"].items()
            ]
            lines += ["", f"**{metric}** by {words}: mean (worst image)", ""]
            lines += table_lines(["model", *map(str, amounts)], rows)
    return "\n".join(lines) + "\n"


def rows_of(
    store: Path, todo: Sequence[tuple[int, int]], run: Callable[[int, int], list[dict[str, float]]]
) -> dict[tuple[int, int], list[dict[str, float]]]:
    """The rows of a model and kind, as far as they are stored, then measured and stored."""
    done: dict[tuple[int, int], list[dict[str, float]]] = {}
    if store.is_file():
        lines = [line for line in store.read_text().splitlines(keepends=True) if line.endswith("\n")]
        store.write_text("".join(lines))  # without a line that a kill cut short
        for entry in map(json.loads, lines):
            done[entry["amount"], entry["place"]] = entry["rows"]
    for amount, place in todo:
        if (amount, place) in done:
            continue
        done[amount, place] = run(amount, place)
        with store.open("a") as file:
            file.write(json.dumps({"rows": done[amount, place], "amount": amount, "place": place}) + "\n")
    return {key: done[key] for key in todo}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, measure, write tables and figure."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="names, folders or .ckpt files")
    parser.add_argument("--names", nargs="+", help="what they are called in the tables")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    parser.add_argument("--work", type=Path, required=True, help="folder for the rows of each model")
    parser.add_argument(
        "--start", action="store_true", help="store weights without skips to fit from, and end"
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    if options.start:
        return without_skips(MODELS[0], options.work / "start")
    names = options.names or [Path(model).name for model in options.models]
    if len(set(names)) < len(options.models):
        raise SystemExit("--names: one name for each model, all different.")
    import torch

    torch.set_num_threads(options.threads)
    organs = ("lung_right", "lung_left", "heart")
    cases = validation_cases(options.root, "jsrt", organs, 2, options.allow_dealt_split)
    options.work.mkdir(parents=True, exist_ok=True)
    models: dict[str, Any] = {}
    for name, where in zip(names, options.models, strict=True):
        model = anatozoo.load(where, trainable=False)
        models[name] = {"version": getattr(model, "checkpoint_version", "")}
        for kind in KINDS:
            store = options.work / f"{name}_{kind}.jsonl"
            rows = rows_of(
                store,
                list(conditions(kind)),
                lambda amount, place, model=model, kind=kind: measure(model, cases, kind, amount, place),
            )
            models[name][kind] = curve(rows)
            print(name, kind, [(p["amount"], p["dice"]["mean"]) for p in models[name][kind]], flush=True)
    about = (
        f"{len(cases)} images of JSRT's validation split, {PLACES} places or seeds for each amount. Means "
        "over lungs and heart, which cut one another alike in predictions and references. The worst image at "
        "the worst place is in brackets. `python experiments/occlusion_curves.py --root DIR --work WORK "
        f"--models {' '.join(map(str, options.models))} --names {shlex.join(names)} --out docs/evidence`"
    )
    record = {"about": about, "models": models}
    print(markdown(record))
    if options.out:
        write(options.out, "occlusion-curves_experiment", record, markdown(record))
        draw(record, options.images / "occlusion-curves.png")


if __name__ == "__main__":
    main()
