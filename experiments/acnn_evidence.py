"""ACNN's segmenters on one table: clean stacks, corrupted stacks, and few labels.

    python experiments/acnn_evidence.py --root DIR --models acnn-acdc acnn-segmaug-acdc acnn-seg-acdc \
        [--prior acnn-prior-acdc] [--scarce 5 WITH WITHOUT ...] --out docs/evidence

Every model predicts each stack of the validation split of ACDC on its own grid, end to end. The first model
is compared with each of the others, stack by stack; those of ``--also`` see clean stacks alone. Distances are
in voxels: in the copy of ACDC that this was written for, every file says 1 x 1 x 1 mm, which is the size of
no slice of a heart.

What is counted as implausible: ``open_slices``, slices with a left ventricle that is not wholly surrounded by
myocardium (the ring is often open in the topmost slices of a true heart too: see the row of the truth), and
``extra_parts``, parts of the three structures beyond one each.

Corruptions, always the same for a stack, at --strength times what is written here: ``misaligned`` shifts each
slice by a whole number of pixels of standard deviation 4, and the truth with it; ``missing`` blackens a
quarter of the slices, never the outermost two; ``ghosting`` adds copies of a moving body along the columns;
``bias`` and ``noise`` are MONAI's RandBiasField and RandRicianNoise.

``--scarce N WITH WITHOUT`` names two models that were trained on N patients with and without the shape prior,
and draws how the prior's gain depends on N. ``--prior`` says how well true label maps come back from their
codes.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from comparing import averaged, check_names, options_of, validation_cases, write

import anatozoo
from anatozoo.data.case import Case as DataCase
from anatozoo.data.layouts.acdc import HEART
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import GridImage, itk_image
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.metrics.plausibility import components, enclosure
from anatozoo.metrics.statistics import paired_test
from anatozoo.metrics.tables import markdown_table
from anatozoo.tasks.trials import labels_beside
from anatozoo.tasks.volumes import VolumeTask

CLEAN, TRUTH, NAME = "clean", "truth", "acnn-acdc"
IMPLAUSIBLE = ("open_slices", "extra_parts")
SHIFT_PX, MISSING, GHOSTS, GHOST_STRENGTH, BIAS, NOISE = 4.0, 0.25, 4, 0.5, 0.4, 0.12
"""The corruptions at strength 1: standard deviation in pixels; share of the slices; most copies and the share
that the weak lines lose; largest coefficient of the field's exponent; standard deviation for intensities in
0..1."""
Array = np.ndarray
Corruption = Callable[[Array, Array, np.random.Generator, float], tuple[Array, Array]]


# --- corruptions: pixels in 0..1 (D, H, W), labels, random numbers and strength to both ---------------------


def misaligned(
    pixels: Array, labels: Array, draw: np.random.Generator, strength: float
) -> tuple[Array, Array]:
    """Slices that were taken in breath-holds of different depth."""
    moved = [np.zeros_like(pixels), np.zeros_like(labels)]
    for z, (dy, dx) in enumerate(draw.normal(0, SHIFT_PX * strength, (len(pixels), 2)).round().astype(int)):
        for target, source in zip(moved, (pixels, labels), strict=True):
            shifted = np.roll(source[z], (dy, dx), (0, 1))
            shifted[_beyond(dy)] = 0
            shifted[:, _beyond(dx)] = 0
            target[z] = shifted
    return moved[0], moved[1]


def _beyond(shift: int) -> slice:
    """What a roll has brought from the other end."""
    return slice(0, shift) if shift >= 0 else slice(shift, None)


def missing(pixels: Array, labels: Array, draw: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Slices that were not taken."""
    inner = np.arange(1, len(pixels) - 1)
    count = min(len(inner), max(1, round(MISSING * strength * len(pixels))))
    result = pixels.copy()
    result[draw.choice(inner, count, replace=False)] = 0
    return result, labels


def ghosting(pixels: Array, labels: Array, draw: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Copies along the columns, as of breathing: every n-th line of k-space is weaker."""
    lines = np.fft.fft(pixels, axis=1)
    weak = np.zeros(pixels.shape[1], bool)
    weak[:: int(draw.integers(2, GHOSTS + 1))] = True
    weak[0] = False  # the mean brightness stays
    lines[:, weak] *= 1 - min(1.0, GHOST_STRENGTH * strength)
    return np.abs(np.fft.ifft(lines, axis=1)).astype(np.float32), labels


def bias(pixels: Array, labels: Array, draw: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """The smooth field of a coil's sensitivity."""
    from monai.transforms.intensity.array import RandBiasField

    coefficients = (-BIAS * strength, BIAS * strength)
    return _by_monai(RandBiasField(coeff_range=coefficients, prob=1.0), pixels, draw), labels


def noise(pixels: Array, labels: Array, draw: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Rician noise, that of magnitude images."""
    from monai.transforms.intensity.array import RandRicianNoise

    transform = RandRicianNoise(prob=1.0, std=NOISE * strength, sample_std=False)
    return _by_monai(transform, pixels, draw), labels


def _by_monai(transform: Any, pixels: Array, draw: np.random.Generator) -> Array:
    transform.set_random_state(seed=int(draw.integers(2**31)))
    return np.asarray(transform(torch.from_numpy(pixels)[None]))[0].astype(np.float32)


CORRUPTIONS: dict[str, Corruption] = {
    "misaligned": misaligned,
    "missing": missing,
    "ghosting": ghosting,
    "bias": bias,
    "noise": noise,
}


def corrupted(image: GridImage, labels: Array, kind: str, strength: float) -> tuple[GridImage, Array]:
    """A stack and its truth under a corruption, the same at every call."""
    if kind == CLEAN:
        return image, labels
    low, high = float(image.pixels.min()), float(image.pixels.max())
    draw = np.random.default_rng(zlib.crc32(f"{image.name} {kind}".encode()))
    unit = ((image.pixels - low) / (high - low)).astype(np.float32)
    pixels, moved = CORRUPTIONS[kind](unit, labels, draw, strength)
    return GridImage(pixels, image.grid, image.name), moved


# --- measuring ---------------------------------------------------------------------------------------------


def implausible(labels: Array) -> dict[str, float]:
    """How many slices have an open ring, and how many parts there are beyond one for each structure."""
    masks = {organ: labels == value for value, organ in enumerate(HEART, start=1)}
    inner, ring = masks["left_ventricle"], masks["myocardium"]
    is_open = [enclosure(a, b) < 1 for a, b in zip(inner, ring, strict=True) if a.any()]
    parts = [components(mask) for mask in masks.values() if mask.any()]
    return {"open_slices": float(sum(is_open)), "extra_parts": float(sum(parts) - len(parts))}


def row_of(labels: Array, truth: Array) -> dict[str, float]:
    """The numbers of one stack: Dice, distances and what is implausible, of each structure and on average."""
    case = labels_beside(labels, truth, HEART, None)
    return averaged(case, HEART, ("dice", "hd_px", "assd_px")) | implausible(labels)


def measure(
    models: Sequence[VolumeTask], cases: Sequence[DataCase], kinds: Sequence[str], strength: float
) -> pd.DataFrame:
    """One row for each model, kind of corruption and stack, and one of the truth for each kind and stack."""
    rows: list[dict[str, Any]] = []
    for case in cases:
        image, truth = case.read(HEART, 3)
        if truth is None:
            raise DataError(f"case {case.id} has no label map.")
        for kind in kinds:
            given, wanted = corrupted(image, truth, kind, strength)
            base: dict[str, Any] = {"kind": kind, "case": case.id, "subject": case.subject}
            rows.append({"model": TRUTH, **base, **implausible(wanted)})
            for model in models:
                found = model.predict(given).label_map
                rows.append({"model": model.checkpoint_name, **base} | row_of(found, wanted))
    return pd.DataFrame(rows)


def reconstructed(source: str, cases: Sequence[DataCase]) -> dict[str, Any]:
    """Means over the stacks of how true label maps come back from their codes.

    Raises:
        ConfigError: it is no shape prior of hearts.
    """
    model = anatozoo.load(source)
    if not isinstance(model, AcnnPriorModule) or list(model.organs) != HEART:
        raise ConfigError(f"{source} is a {type(model).__name__}, no shape prior of {', '.join(HEART)}.")
    rows = []
    for case in cases:
        image, truth = case.read(HEART, 3)
        if truth is None:
            raise DataError(f"case {case.id} has no label map.")
        rows.append(row_of(model.reconstruct(itk_image(truth, image.grid)), truth))
    values = {str(k): float(v) for k, v in pd.DataFrame(rows).mean().items()}
    return {"name": model.checkpoint_name, "n": len(rows)} | values


def means(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Kind -> model -> mean of each column."""
    numbers = [column for column in map(str, table) if column not in ("model", "kind", "case", "subject")]
    return {
        str(kind): {
            str(model): {str(k): float(v) for k, v in rows[numbers].mean().dropna().items()}
            for model, rows in part.groupby("model", sort=False)
        }
        for kind, part in table.groupby("kind", sort=False)
    }


def tests(table: pd.DataFrame, first: str, columns: Sequence[str]) -> dict[str, Any]:
    """The first model minus each other one: kind -> model -> column -> test over the stacks."""
    result: dict[str, Any] = {}
    for kind, part in table.groupby("kind", sort=False):
        by_model = {str(name): rows.set_index("case") for name, rows in part.groupby("model", sort=False)}
        ours = by_model.pop(first)
        by_model.pop(TRUTH)
        result[str(kind)] = {
            name: {
                column: vars(paired_test((ours[column] - theirs[column]).to_numpy(), list(ours["subject"])))
                for column in columns
            }
            for name, theirs in by_model.items()
        }
    return result


# --- tables and pictures -----------------------------------------------------------------------------------


def columns_of(table: pd.DataFrame) -> list[str]:
    """Dice and distances of each structure, then what is implausible."""
    return [column for column in map(str, table) if "/" in column] + list(IMPLAUSIBLE)


def _digits(column: str) -> int:
    return 3 if column.startswith("dice") else 2


def _short(column: str) -> str:
    """A column's head with the usual abbreviations."""
    for organ, short in zip(HEART, ("RV", "Myo", "LV"), strict=True):
        column = column.replace(f"/{organ}", f" {short}")
    return column.replace("dice", "Dice").replace("hd_", "HD ").replace("assd_", "ASSD ").replace("_", " ")


def means_table(by_model: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> list[str]:
    """Lines of a table with one row for each model."""
    rows = [
        [name, *(f"{values[c]:.{_digits(c)}f}" if c in values else "–" for c in columns)]
        for name, values in by_model.items()
    ]
    return markdown_table(["model", *map(_short, columns)], rows)


def tests_table(by_model: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Lines of a table with one row for each model that the first is compared with."""
    rows = []
    for name, by_column in by_model.items():
        cells = [f"{by_column[c]['difference']:+.{_digits(c)}f} (p {by_column[c]['p']:.1g})" for c in columns]
        rows.append([name, *cells])
    return markdown_table(["against", *map(_short, columns)], rows)


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    first, columns = record["first"], record["columns"]
    short = [c for c in record["means"][CLEAN][first] if "/" not in c]
    lines = ["# ACNN on ACDC, validation split", "", record["about"]]
    for kind, by_model in record["means"].items():
        shown = columns if kind == CLEAN else short
        lines += ["", f"## {kind.capitalize()}", "", *means_table(by_model, shown)]
        if record["tests"][kind]:
            lines += ["", f"{first} minus the others, p of the paired Wilcoxon signed-rank test:", ""]
            lines += tests_table(record["tests"][kind], shown)
    if record["prior"]:
        lines += ["", "## Label maps and what their codes stand for", ""]
        lines += means_table({record["prior"]["name"]: record["prior"]}, columns)
    if record["scarce"]:
        head = ["patients", *(f"{_short(c)}, {how}" for c in short for how in ("with", "without", "p"))]
        rows = [
            [n, *(f"{s[c][how]:.{_digits(c)}f}" if how != "p" else f"{s[c][how]:.1g}"
                  for c in short for how in ("with", "without", "p"))]
            for n, s in record["scarce"].items()
        ]  # fmt: skip
        lines += [
            "",
            "## Few labels",
            "",
            "With and without the shape prior.",
            "",
            *markdown_table(head, rows),
        ]
        lines += ["", "![Gain of the shape prior](../images/acnn-scarce-labels.png)"]
    return "\n".join(lines) + "\n"


def scarce_summary(with_prior: pd.DataFrame, without: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Means with and without the prior and the test of their difference, over all structures."""
    pair = [table[table["model"] != TRUTH].set_index("case") for table in (with_prior, without)]
    columns = [c for c in map(str, pair[0]) if "/" not in c and c not in ("model", "kind", "subject")]
    result = {}
    for column in columns:
        a, b = (table[column] for table in pair)
        test = paired_test((a - b).to_numpy(), list(pair[0]["subject"]))
        result[column] = {
            "with": float(a.mean()),
            "without": float(b.mean()),
            "ci_low": test.ci_low,
            "ci_high": test.ci_high,
            "p": test.p,
        }
    return result


def draw_scarce(scarce: Mapping[str, Any], path: Path) -> None:
    """The prior's gain against the number of patients, with 95 % intervals."""
    from matplotlib.figure import Figure

    numbers = [int(n) for n in scarce]
    columns = [c for c in next(iter(scarce.values())) if c.startswith(("dice", "hd"))]
    figure = Figure(figsize=(4.2 * len(columns), 3.2), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns)), columns, strict=True):
        gains = [s[column]["with"] - s[column]["without"] for s in scarce.values()]
        low = [g - s[column]["ci_low"] for g, s in zip(gains, scarce.values(), strict=True)]
        high = [s[column]["ci_high"] - g for g, s in zip(gains, scarce.values(), strict=True)]
        axes.axhline(0, color="0.6", linewidth=1)
        axes.errorbar(numbers, gains, [low, high], marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(n) for n in numbers])
        axes.minorticks_off()
        axes.set_xlabel("patients in training")
        axes.set_ylabel(f"{_short(column)}: with − without prior")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


# --- command -----------------------------------------------------------------------------------------------


def load(source: str) -> VolumeTask:
    """A segmenter of hearts.

    Raises:
        ConfigError: it is none.
    """
    model = anatozoo.load(source)
    if not isinstance(model, VolumeTask) or list(model.organs) != HEART:
        raise ConfigError(f"{source} is a {type(model).__name__}, no segmenter of {', '.join(HEART)}.")
    return model


def about(cases: Sequence[DataCase], strength: float, command: str) -> str:
    """Where the numbers come from, in words."""
    return (
        f"{len(cases)} stacks of {len({case.subject for case in cases})} patients, predicted end to end and "
        "compared on their own grids; means over stacks, columns without a structure also over the three "
        "structures. px: voxels, because the files do not state the true spacing. Open slices: slices of a "
        "stack in which the left ventricle is not wholly surrounded by myocardium; extra parts: parts beyond "
        f"one for each structure. Corruptions at strength {strength:g}, see the command's help. `{command}`"
    )


def main() -> None:
    """Parse the options, run the experiments, write tables and picture."""
    parser = options_of(__doc__, threads=2)
    parser.add_argument("--models", nargs="+", required=True, help="names or folders; the first is compared")
    parser.add_argument("--also", nargs="*", default=[], help="further models, on clean stacks alone")
    parser.add_argument("--prior", help="the shape prior: a name or a folder")
    parser.add_argument("--scarce", nargs=3, action="append", default=[], metavar=("N", "WITH", "WITHOUT"))
    parser.add_argument("--kinds", nargs="*", choices=list(CORRUPTIONS), default=list(CORRUPTIONS))
    parser.add_argument("--strength", type=float, default=1.0, help="of the corruptions")
    parser.add_argument("--name", default=NAME, help="of the files")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    cases = validation_cases(options.root, "acdc", HEART, 3, options.allow_dealt_split)
    models, also = ([load(source) for source in sources] for sources in (options.models, options.also))
    names = [model.checkpoint_name for model in (*models, *also)]
    check_names(names)
    table = measure([*models, *also], cases, [CLEAN], options.strength)
    if options.kinds:
        table = pd.concat([table, measure(models, cases, options.kinds, options.strength)], ignore_index=True)
    scarce = {}
    for number, *pair in options.scarce:
        scarce[number] = scarce_summary(*(measure([load(source)], cases, [CLEAN], 1.0) for source in pair))
    columns = columns_of(table)
    words = ["python experiments/acnn_evidence.py --root DIR --models", *names[: len(models)]]
    if also:
        words += ["--also", *names[len(models) :]]
    prior = None if options.prior is None else reconstructed(options.prior, cases)
    if prior is not None:
        words.append(f"--prior {prior['name']}")
    words += [f"--scarce {n} {Path(a).name} {Path(b).name}" for n, a, b in options.scarce]
    if options.kinds != list(CORRUPTIONS):
        words += ["--kinds", *options.kinds]
    if options.strength != 1:
        words.append(f"--strength {options.strength:g}")
    if options.name != NAME:
        words.append(f"--name {options.name}")
    words += ["--allow-dealt-split"] if options.allow_dealt_split else []
    command = " ".join([*words, "--out docs/evidence"])
    short = [column for column in map(str, table) if column.startswith(("dice", "hd", "assd"))] + list(
        IMPLAUSIBLE
    )
    record = {
        "command": command,
        "about": about(cases, options.strength, command),
        "first": names[0],
        "columns": columns,
        "means": means(table),
        "tests": tests(table, names[0], short),
        "prior": prior,
        "scarce": scarce,
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"{options.name}_experiment", record, text)
        if scarce:
            draw_scarce(scarce, options.images / "acnn-scarce-labels.png")


if __name__ == "__main__":
    main()
