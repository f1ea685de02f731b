"""Hippocampi with slices of 4 mm, restored to 1 mm by interpolation and by ACNN-SR: intensities and organs.

    python experiments/acnnsr_evidence.py --root DIR \
        --models acnn-sr-hippocampus acnn-sr-hippocampus-noprior \
        --segmenter acnn-hippocampus --predictor acnn-tl-hippocampus --out docs/evidence

Every volume of the validation split is degraded by the profile of the training (`--profile`): thick slices,
each in the place of `--factor` thin ones. All methods get the same thick slices with their place in space and
answer thin ones; nearest neighbour, linear and cubic B-spline interpolation are SimpleITK's. Of the answer,
PSNR and SSIM are measured over the whole volume as it was, intensities scaled by percentiles 0.5 and 99.5 of
the true volume.

`--segmenter` names a checkpoint of ACNN that was trained on volumes at 1 mm. What it finds in an answer is
compared with the label map; the row "original" is what it finds in the true volume, the most that restoring
can give. The first model is compared with every other row. `--predictor` names the T-L network of the shape
loss; the shapes that its codes stand for, seen in the true volumes, are compared with the label maps too.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk
import torch
from comparing import (
    Row,
    averaged,
    check_names,
    columns_of,
    options_of,
    paired,
    table_lines,
    validation_cases,
    write,
)

import anatozoo
from anatozoo.data.case import Case as DataCase
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.nn.thick_slices import PROFILES
from anatozoo.tasks.restore import RestoreTask, fine_grid
from anatozoo.tasks.thick import Thickened, Volume, similarity, thickened
from anatozoo.tasks.trials import labels_beside
from anatozoo.tasks.volumes import VolumeTask

ORGANS = ("anterior", "posterior")
SPACING_MM = 1.0
ORIGINAL = "original"
INTERPOLATORS = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic B-spline": sitk.sitkBSpline,
}
INTENSITIES = ("psnr", "ssim")
SURFACES = ("dice", "hd_mm", "assd_mm")
DIGITS = {"psnr": 2, "ssim": 4, "dice": 3, "hd_mm": 2, "assd_mm": 3}


@dataclass(frozen=True, eq=False)
class Subject:
    """A volume with thick slices of it, and its label map (D, H, W)."""

    id: str
    volume: Thickened
    labels: npt.NDArray[np.uint8]

    @property
    def image(self) -> GridImage:
        """The true volume."""
        return self.volume.image


@dataclass(frozen=True)
class Method:
    """A way to make thin slices (factor · D, H, W) of thick ones."""

    name: str
    restore: Callable[[GridImage], Volume]


# --- data --------------------------------------------------------------------------------------------------


def read_subjects(root: Path, factor: int, profile: str, allow_dealt: bool = False) -> list[Subject]:
    """The validation split.

    Raises:
        DataError: it has less than two cases, or no list says which they are.
    """
    cases = validation_cases(root, "folder", ORGANS, 3, allow_dealt, 2)
    return [read_subject(case, factor, profile) for case in cases]


def read_subject(case: DataCase, factor: int, profile: str) -> Subject:
    """A case and its thick slices."""
    image, labels = case.read(ORGANS, 3)
    spacing = image.grid.spacing_mm
    if labels is None or spacing is None or not np.allclose(spacing, SPACING_MM, rtol=0.01):
        raise DataError(f"case {case.id} has no labels or voxels of {spacing} mm; {SPACING_MM} are needed.")
    return Subject(case.id, thickened(image, factor, profile), labels)


# --- methods -----------------------------------------------------------------------------------------------


def interpolate(thick: GridImage, factor: int, interpolator: int) -> Volume:
    """Thin slices by one of SimpleITK's interpolators."""
    fine = fine_grid(thick.grid, factor)
    like = itk_image(np.zeros(fine.shape, np.uint8), fine)
    volume = itk_image(thick.pixels, thick.grid)
    result: Volume = sitk.GetArrayFromImage(
        sitk.Resample(volume, like, sitk.Transform(), interpolator, float("nan"), sitk.sitkFloat32)
    )
    return result


def learned(source: str, factor: int) -> Method:
    """A checkpoint of the zoo or of a folder."""
    model = anatozoo.load(source)
    if not isinstance(model, RestoreTask):
        raise ConfigError(f"{source} is a {type(model).__name__}, which restores no volumes.")
    if model.factor != factor:
        raise ConfigError(f"{source} makes {model.factor} slices of one, not {factor}; see --factor.")
    return Method(model.checkpoint_name, lambda thick: model.predict(thick).volume)


def methods(sources: Sequence[str], factor: int) -> list[Method]:
    """The models, then interpolation.

    Raises:
        ConfigError: a checkpoint does something else, or two have the same name.
    """
    models = [learned(source, factor) for source in sources]
    check_names([model.name for model in models])
    return models + [
        Method(name, partial(interpolate, factor=factor, interpolator=interpolator))
        for name, interpolator in INTERPOLATORS.items()
    ]


def load_segmenter(source: str) -> VolumeTask:
    """The checkpoint that finds the organs.

    Raises:
        ConfigError: it does something else, or finds other organs.
    """
    model = anatozoo.load(source)
    if not isinstance(model, VolumeTask) or tuple(model.organs) != ORGANS:
        raise ConfigError(f"{source} is no segmenter of {' and '.join(ORGANS)} in volumes.")
    return model


# --- measuring ---------------------------------------------------------------------------------------------


def agreement(labels: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], grid: Grid) -> Row:
    """Metrics of a label map, of each organ and on average; ``missed`` counts organs that were not found.

    The distance of an organ that was not found is the volume's diagonal.
    """
    missed = sum(not (labels == value).any() for value, _ in enumerate(ORGANS, start=1))
    case = labels_beside(labels, truth, ORGANS, grid.spacing_mm)
    return {"missed": missed} | averaged(case, ORGANS, SURFACES)


def segmented(pixels: Volume, subject: Subject, segmenter: VolumeTask | None) -> Row:
    """How the organs found in a volume agree with the subject's; nothing without a segmenter."""
    if segmenter is None:
        return {}
    image = GridImage(np.ascontiguousarray(pixels), subject.image.grid, subject.id)
    return agreement(segmenter.predict(image).label_map, subject.labels, image.grid)


def measure(
    every: Sequence[Method], subjects: Sequence[Subject], segmenter: VolumeTask | None
) -> pd.DataFrame:
    """One row for each method and subject; the true volumes are a method too where there is a segmenter."""
    rows: list[Row] = []
    for method in every:
        for subject in subjects:
            fine = subject.volume.own(method.restore(subject.volume.thick))
            row = {"method": method.name, "id": subject.id} | similarity(fine, subject.image.pixels)
            rows.append(row | segmented(fine, subject, segmenter))
    if segmenter is not None:
        rows += [
            {"method": ORIGINAL, "id": subject.id} | segmented(subject.image.pixels, subject, segmenter)
            for subject in subjects
        ]
    return pd.DataFrame(rows)


# --- tables ------------------------------------------------------------------------------------------------


def measured_columns(table: pd.DataFrame) -> list[str]:
    """Metrics that were measured, each over all organs and of each organ."""
    return [column for column in (*INTENSITIES, *columns_of(ORGANS, SURFACES)) if column in table]


def shapes(subjects: Sequence[Subject], predictor: VolumeTask) -> Row:
    """How the shapes that a T-L network sees in the true volumes agree with the label maps, on average."""
    rows = [segmented(subject.image.pixels, subject, predictor) for subject in subjects]
    return {"n": len(rows)} | pd.DataFrame(rows).mean().to_dict()


def means(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Method -> number of volumes, mean of each column that all of them have, and organs missed in all."""
    result: dict[str, dict[str, float]] = {}
    for name, rows in table.groupby("method", sort=False):
        there = [column for column in measured_columns(table) if rows[column].notna().all()]
        result[str(name)] = {"n": len(rows)} | {column: float(rows[column].mean()) for column in there}
        if "missed" in table:
            result[str(name)]["missed"] = int(rows["missed"].sum())
    return result


def tests(table: pd.DataFrame, first: str) -> dict[str, dict[str, dict[str, float]]]:
    """The first method minus each other one: method -> column -> the paired Wilcoxon signed-rank test."""
    ours = table[table["method"] == first].set_index("id")
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in table.groupby("method", sort=False):
        if name == first:
            continue
        theirs = rows.set_index("id")
        result[str(name)] = {}
        for column in measured_columns(table):
            difference = (ours[column] - theirs[column]).dropna()
            if difference.empty:  # the true volumes have no PSNR
                continue
            result[str(name)][column] = paired(difference)
    return result


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    columns = list(next(iter(record["means"].values())))[1:]
    rows = [
        [name, str(values["n"]), *(_cell(column, values.get(column)) for column in columns)]
        for name, values in record["means"].items()
    ]
    lines = ["# Super-resolution of hippocampi (MSD task 4), validation split", "", record["about"], ""]
    lines += table_lines(["method", "volumes", *columns], rows)
    if record["shapes"]:
        found = record["shapes"]
        there = [column for column in columns if column in found and column != "missed"]
        lines += ["", f"## Shapes that {record['predictor']} sees in the true volumes", ""]
        lines += table_lines(there, [[_cell(column, found[column]) for column in there]])
    if record["tests"]:
        lines += [
            "",
            f"## {record['first']} minus the others",
            "",
            "Mean difference (95 % bootstrap interval), p of the paired Wilcoxon signed-rank test.",
            "",
        ]
        tested = [column for column in columns if column != "missed"]
        lines += table_lines(
            ["against", *tested],
            [
                [name, *(_difference(column, by_column.get(column)) for column in tested)]
                for name, by_column in record["tests"].items()
            ],
        )
    return "\n".join(lines) + "\n"


def _cell(column: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.{DIGITS.get(column.partition('/')[0], 0)}f}"


def _difference(column: str, test: Mapping[str, float] | None) -> str:
    if test is None:
        return "–"
    digits = DIGITS[column.partition("/")[0]]
    mean, low, high = (f"{test[key]:+.{digits}f}" for key in ("difference", "ci_low", "ci_high"))
    return f"{mean} ({low} … {high}), p {test['p']:.1g}"


def command_of(
    options: argparse.Namespace, names: Sequence[str], segmenter: str | None, predictor: str | None
) -> str:
    """The command line that makes the table again, without the folders of this machine."""
    words = ["python experiments/acnnsr_evidence.py --root DIR"]
    words += ["--models", *names] if names else []
    words += [f"--segmenter {segmenter}"] if segmenter else []
    words += [f"--predictor {predictor}"] if predictor else []
    words += ["--allow-dealt-split"] if getattr(options, "allow_dealt_split", False) else []
    return " ".join([*words, f"--factor {options.factor} --profile {options.profile} --out docs/evidence"])


def make_record(
    table: pd.DataFrame,
    options: argparse.Namespace,
    names: Sequence[str],
    segmenter: str | None,
    predictor: str | None = None,
) -> dict[str, Any]:
    """All that is written but the predictor's shapes: means, and the tests of the first model."""
    command = command_of(options, names, segmenter, predictor)
    thick = SPACING_MM * options.factor
    about = (
        f"{table['id'].nunique()} volumes at {SPACING_MM:g} mm, slices of {thick:g} mm made of them by the "
        f"profile {options.profile} and restored. psnr (dB) and ssim within the volume, against the true one."
    )
    if segmenter is not None:
        about += (
            f" dice, hd_mm, assd_mm: organs that {segmenter} finds in the restored volume, against the label "
            "map; columns without an organ are means of both; missed: organs that were not found, whose "
            f'distance is taken for the volume\'s diagonal. "{ORIGINAL}": found in the true volume.'
        )
    return {
        "command": command,
        "about": f"{about} `{command}`",
        "split": "val",
        "first": names[0] if names else None,
        "segmenter": segmenter,
        "predictor": predictor,
        "shapes": {},
        "means": means(table),
        "tests": tests(table, names[0]) if names else {},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, run the experiment, write tables."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--models", nargs="*", default=[], help="names or folders; the first is compared")
    parser.add_argument("--segmenter", help="name or folder of an ACNN of hippocampi at 1 mm")
    parser.add_argument("--predictor", help="name or folder of the T-L network of the shape loss")
    parser.add_argument("--factor", type=int, default=4, help="thin slices for each thick one (default: 4)")
    parser.add_argument("--profile", choices=PROFILES, default="gaussian", help="of the thick slices")
    parser.add_argument("--name", default="acnnsr-hippocampus", help="start of the names of the tables")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)

    every = methods(options.models, options.factor)
    segmenter = load_segmenter(options.segmenter) if options.segmenter else None
    predictor = load_segmenter(options.predictor) if options.predictor else None
    subjects = read_subjects(options.root, options.factor, options.profile, options.allow_dealt_split)
    table = measure(every, subjects, segmenter)
    names = [method.name for method in every[: len(options.models)]]
    called = [model.checkpoint_name if model else None for model in (segmenter, predictor)]
    record = make_record(table, options, names, *called)
    if predictor is not None:
        record["shapes"] = shapes(subjects, predictor)
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"{options.name}_experiment", record, text)


if __name__ == "__main__":
    main()
