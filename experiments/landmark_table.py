"""Every row of the landmark table: what graphs, skips and masks each add, on the same data and budget.

    python experiments/landmark_table.py --root DIR --work WORK --out docs/evidence --images docs/images

`--root` holds JSRT with its landmarks; its 21 validation images are measured, by which the weights were
chosen. A row is measured once and kept in `--work`; run the command again, and it goes on with the rows that
are missing. Weights lie in `experiments/checkpoints`, or in folders of the rows' names in `--checkpoints`;
rows without weights are named and left out. A row is trained by
`anatozoo fit --config METHOD/rows/NAME.yaml --data.root DIR`.

Landmarks are compared at 1024 x 1024, 0.35 mm a pixel, as published: contours are drawn organ by organ with
truncated coordinates, so that the heart does not cut the lungs; the lungs of a label map are cut by it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from comparing import options_of, paired, validation_cases, write
from landmark_cost import minutes_of_training, parameters, seconds_of_prediction
from landmark_pictures import draw_figure, draw_radiographs, example_radiographs
from landmark_rows import METRICS, ROWS, TableRow, answers, parts_of_organ

import anatozoo
from anatozoo.cli.settings import configs_of
from anatozoo.data.case import Case as DataCase
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError, DownloadError, UnknownCheckpoint
from anatozoo.io.grid import Grid
from anatozoo.metrics.cases import Measures, case_row
from anatozoo.metrics.chest import FRAME
from anatozoo.metrics.tables import describe, markdown_table, provenance
from anatozoo.organs import LUNGS_HEART
from anatozoo.tasks.chest_cases import compared
from anatozoo.tasks.trials import Conditions
from anatozoo.zoo.checkpoint import CONFIG, WEIGHTS, read_config
from anatozoo.zoo.files import fingerprint, write_text
from anatozoo.zoo.hub import resolve

SPACING_MM = 0.35
HOW = Conditions(Measures(rounding="truncate"), (SPACING_MM,))
FAULTS = {"lost": "lost organs", "parts": "extra parts", "holes": "holes", "crossings": "crossing contours"}
BEST = "hybridgnet-jsrt-igsc65"
"""The row that the others are tested against."""
PUBLISHED = Path(__file__).resolve().parents[1] / "docs" / "published.yaml"
COMMAND = (
    "python experiments/landmark_table.py --root DIR --work WORK --out docs/evidence --images docs/images"
)


def find_weights(name: str, folder: Path | None) -> Path | None:
    """The folder of a row's checkpoint, None where there is none."""
    if folder is not None and (folder / name / WEIGHTS).is_file():
        return folder / name
    try:
        return resolve(name)
    except (UnknownCheckpoint, DownloadError):
        return None


def floor_of_components(model: Any, root: Path) -> float:
    """MSE, px², of the training shapes from the nearest that their components can give: PCA's lower bound."""
    cases = find_cases(root, "jsrt", LUNGS_HEART, dims=2).complete(LUNGS_HEART, "train")
    shapes = []
    for case in cases:
        image = case.read_flat()
        drawn = case.read_drawn(LUNGS_HEART, Grid(image.size, image.spacing_mm))
        shapes.append(np.concatenate([drawn.landmarks[organ] for organ in LUNGS_HEART]) / max(image.size))
    points = torch.from_numpy(np.stack(shapes)).float()
    return float((model.network.project(points) - points).square().mean()) * FRAME**2


def measure(row: TableRow, weights: Path, cases: Sequence[DataCase], root: Path) -> dict[str, Any]:
    """All numbers of a checkpoint: of each of its answers the cases, and what it costs."""
    model = anatozoo.load(str(weights), trainable=False)
    found: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        image = case.read_flat()
        drawn = case.read_drawn(LUNGS_HEART, Grid(image.size, image.spacing_mm))
        for name, result in answers(model.predict(image)):
            numbers = case_row(compared(drawn, result, HOW), HOW.measures)
            cut = "clavicle_right" in result.organs and not result.landmarks  # clavicles take from the lungs
            shown = [metric for metric in METRICS if not (cut and metric.endswith("lungs"))]
            kept = {metric: float(numbers[metric]) for metric in shown if metric in numbers}
            found.setdefault(name, []).append({"id": case.id} | kept | faults(numbers, result))
    record = {"name": row.name, "version": model.checkpoint_version, "answers": found}
    if getattr(model, "decoder", "") == "pca":
        record["floor"] = floor_of_components(model, root)
    return record


def costs_of(row: TableRow, weights: Path, cases: Sequence[DataCase]) -> dict[str, Any]:
    """What a row costs here and now."""
    model = anatozoo.load(str(weights), trainable=False)
    atlas = row.name == "multiatlas-jsrt"
    return {
        "parameters": parameters(model),
        "seconds": seconds_of_prediction(model, [case.read_flat() for case in cases[: 3 if atlas else 9]]),
        "minutes": None if atlas else minutes_of_training(row.config, anatozoo.load(str(weights))),
    }


def faults(numbers: Mapping[str, Any], result: Any) -> dict[str, int]:
    """Organs that are lost, parts and holes that should not be, and contours that cross themselves.

    A contour counts as crossing also where `predict` has untangled it.
    """
    there = [organ for organ in result.organs if numbers[f"components/{organ}"] >= 1]
    flags = result.flags if result.landmarks else ()
    crossing = [organ for organ in result.organs if numbers.get(f"self_intersections/{organ}", 0) > 0]
    return {
        "lost": len(result.organs) - len(there),
        "parts": sum(max(0, int(numbers[f"components/{o}"]) - parts_of_organ(o)) for o in there),
        "holes": sum(int(numbers[f"holes/{organ}"]) for organ in there),
        "crossings": len({*crossing, *(flag.partition("untangled_")[2] for flag in flags)} - {""}),
    }


def kept_record(path: Path) -> dict[str, Any]:
    """What an earlier run has measured; empty where it has not, or its file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_row(row: TableRow, weights: Path) -> None:
    """Refuse weights that another configuration has trained.

    Raises:
        DataError: method or settings of the network differ; the message names them.
    """
    config, wanted = read_config(weights), {}
    for file in configs_of([row.config]):
        wanted |= yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("model", {})
    shared = set(wanted) & set(config.settings) - {"frame", "organs"}
    differing = [
        f"{key} {config.settings[key]}" for key in sorted(shared) if config.settings[key] != wanted[key]
    ]
    if config.method != row.config.partition("/")[0] or differing:
        raise DataError(
            f"{weights} holds a {config.method} with {', '.join(differing) or 'other settings'}, which "
            f"{row.config} does not train: these are not the weights of {row.name}."
        )


def measured_rows(options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The record of each checkpoint, from `--work` where its weights are the same, and what is missing."""
    cases = validation_cases(options.root, "jsrt", LUNGS_HEART, 2, options.allow_dealt_split)
    if options.checkpoints is not None and not options.checkpoints.is_dir():
        raise DataError(f"--checkpoints {options.checkpoints}: no such folder.")
    if options.work.is_file():
        raise DataError(f"--work {options.work}: a file; name a folder.")
    options.work.mkdir(parents=True, exist_ok=True)
    records, missing = {}, []
    for row in ROWS:
        for name in row.checkpoints:
            weights = find_weights(name, options.checkpoints)
            if weights is None:
                missing.append(row.title if name == row.name else f"{row.title} (second run)")
                continue
            kept = options.work / f"{name}.json"
            digest = [fingerprint(weights / file).sha256 for file in (WEIGHTS, CONFIG)]
            record = kept_record(kept)
            if (record.get("sha256"), record.get("cases")) == (digest, len(cases)):
                records[name] = record
                continue
            check_row(row, weights)
            print(name, flush=True)
            records[name] = measure(row, weights, cases, options.root) | {
                "sha256": digest,
                "cases": len(cases),
            }
            write_text(kept, json.dumps(records[name]) + "\n")
    return records, missing


def published_rows() -> dict[str, dict[str, float]]:
    """Means of the published table, by row and metric."""
    tables = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    table = next(table for table in tables if any(row["model"] == "Multi-atlas" for row in table["rows"]))
    columns = [column.replace("mse_px2/lungs_heart", "mse_px2") for column in table["columns"]]
    return {
        row["model"]: {c: v[0] for c, v in zip(columns, row["values"], strict=True) if v is not None}
        for row in table["rows"]
    }


def lines_of(
    records: Mapping[str, Mapping[str, Any]], costs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The lines of the table: one for each answer of each row, with what the row costs."""
    best = records.get(BEST, {}).get("answers", {}).get("")
    published, lines = published_rows(), []
    for row in ROWS:
        for name, cases in records.get(row.name, {"answers": {}})["answers"].items():
            line = {
                "name": row.name,
                "title": f"{row.title}: {name}" if name else row.title,
                "metrics": describe([{k: v for k, v in case.items() if k in METRICS} for case in cases]),
                "faults": {fault: sum(case[fault] for case in cases) for fault in FAULTS},
                "published": published.get(row.published or "", {}) if not name else {},
                "runs": _runs(row, records, name),
            }
            if not name:
                line |= costs[row.name]
            if best is not None and not (row.name == BEST and not name):
                line["against_best"] = _against(cases, best)
            lines.append(line)
    return lines


def _runs(row: TableRow, records: Mapping[str, Mapping[str, Any]], answer: str) -> dict[str, list[float]]:
    """Means of each run, where a row has several."""
    runs = [records[name]["answers"][answer] for name in row.checkpoints if name in records]
    if len(runs) < 2:
        return {}
    return {
        metric: [sum(case[metric] for case in run) / len(run) for run in runs]
        for metric in METRICS
        if metric in runs[0][0]
    }


def _against(cases: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Paired Wilcoxon tests against the best row, image by image."""
    return {
        metric: paired([a[metric] - b[metric] for a, b in zip(cases, best, strict=True)])
        for metric in METRICS
        if metric in cases[0]
    }


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    lines = record["lines"]
    head = ["row", *METRICS.values(), *FAULTS.values()]
    numbers = [
        [line["title"], *(_shown(line, metric) for metric in METRICS), *map(str, line["faults"].values())]
        for line in lines
    ]
    tests = [
        [line["title"], *(_p(line["against_best"].get(metric)) for metric in METRICS)]
        for line in lines
        if "against_best" in line
    ]
    costs = [
        [line["title"], f"{line['parameters']:,}", f"{line['seconds']:.3g}", _minutes(line.get("minutes"))]
        for line in lines
        if "parameters" in line
    ]
    repeated = [
        [line["title"], *(_each(metric, line["runs"].get(metric)) for metric in METRICS)]
        for line in lines
        if line["runs"]
    ]
    beside = [
        [line["title"], *(_number(metric, line["published"].get(metric)) for metric in METRICS)]
        for line in lines
        if line["published"]
    ]
    parts = [
        "# Every row of the landmark table",
        record["about"],
        *markdown_table(head, numbers),
        "Mean, and 95 % interval of the mean by bootstrap. Faults are sums over images and organs.",
        "## Two trainings of a row",
        *markdown_table(["row", *METRICS.values()], repeated),
        "## p of the paired Wilcoxon test against 2 IGSC, 6-5, image by image",
        *markdown_table(["row", *METRICS.values()], tests),
        "Not corrected for the number of tests; of one training each, so they speak of these weights.",
        "## Cost",
        *markdown_table(["row", "parameters", "s of CPU a prediction", "min of CPU of training"], costs),
        record["cost"],
        "## As published, 51 test images",
        *markdown_table(["row", *METRICS.values()], beside),
    ]
    if record.get("floor") is not None:
        parts.append(
            f"The nearest shapes that PCA's components can give lie {record['floor']:.1f} px² (MSE) from the "
            "training shapes: no encoder could do better on these."
        )
    if record["missing"]:
        parts.append(f"Not measured, for want of weights: {'; '.join(record['missing'])}.")
    return "\n".join(_spaced(parts)) + "\n"


def _spaced(parts: Sequence[str]) -> list[str]:
    """Lines with an empty one between paragraphs and tables."""
    lines: list[str] = []
    for part in parts:
        if lines and not (part.startswith("|") and lines[-1].startswith("|")):
            lines.append("")
        lines.append(part)
    return lines


def _shown(line: Mapping[str, Any], metric: str) -> str:
    found = line["metrics"].get(metric)
    if found is None:
        return "–"
    mean, low, high = (_number(metric, found[name]) for name in ("mean", "ci_low", "ci_high"))
    return f"{mean} ({low} – {high})"


def _each(metric: str, means: Sequence[float] | None) -> str:
    return "–" if means is None else ", ".join(_number(metric, mean) for mean in means)


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if metric.startswith("dice") else f"{value:.1f}"


def _p(test: Mapping[str, float] | None) -> str:
    return "–" if test is None else f"{test['p']:.2g}"


def _minutes(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def main() -> None:
    """Parse the options, measure what is missing, write the tables, draw the pictures."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what is measured")
    parser.add_argument("--checkpoints", type=Path, help="folder with checkpoints of the rows' names")
    parser.add_argument("--images", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    records, missing = measured_rows(options)
    if not records:
        raise DataError("there are no weights of any row; train one, or give their folder by --checkpoints.")
    for name in missing:
        print(f"no weights of {name}", file=sys.stderr)
    # All in one run: times of a busy and of a quiet hour cannot be compared.
    cases = validation_cases(options.root, "jsrt", LUNGS_HEART, 2, options.allow_dealt_split)
    found = {row.name: find_weights(row.name, options.checkpoints) for row in ROWS if row.name in records}
    costs = {row.name: costs_of(row, found[row.name], cases) for row in ROWS if row.name in found}
    lines = lines_of(records, costs)
    record = {
        "command": COMMAND,
        "about": (
            "JSRT, 21 validation images, by which the weights of all rows were chosen, at 1024 x 1024 and "
            "0.35 mm a pixel. Rows learn from JSRT's 174 training images at 256 x 256, 6,000 steps of 4 "
            "images, from scratch, with the settings of their configurations. Two stand outside: multi-atlas "
            "learns nothing, and the zoo's own U-Net had ImageNet's weights, 512 x 512 and more steps; its "
            "clavicles cut the lungs, which are therefore not compared. "
            f"`{COMMAND}`"
        ),
        "cost": (
            "Parameters are what is learnt, without an atlas or principal components. A prediction goes from "
            "pixels in memory to contours on them, one thread, median of 9 images (multi-atlas 3). Minutes "
            "of training are 6,000 times the fastest of 12 steps on one thread, without augmentation and "
            "validation. Times are of the processor, all in one run. Rows that are stored without the "
            "variance of their code count without it."
        ),
        "lines": lines,
        "missing": missing,
        "floor": records.get("pca-jsrt", {}).get("floor"),
        **provenance(("torch", "numpy")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, "landmark-table_experiment", record, text)
    if options.images is not None:
        options.images.mkdir(parents=True, exist_ok=True)
        draw_figure(lines, options.images / "landmark-table.png")
        images = example_radiographs()
        drawn = {}
        for row in ROWS:
            if row.name in records and (weights := find_weights(row.name, options.checkpoints)) is not None:
                model = anatozoo.load(str(weights), trainable=False)
                drawn[row.title] = {name: model.predict(image) for name, image in images.items()}
        draw_radiographs(drawn, images, options.images / "landmark-rows.png")


if __name__ == "__main__":
    main()
