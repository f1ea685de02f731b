"""AC-RegNet, its ablations, classical registration and no registration on one table of pairs.

    python experiments/registration_evidence.py --root DIR --data jsrt --models acregnet-jsrt regnet-jsrt \
        --autoencoder aenet-jsrt --cache FILE.csv --out docs/evidence

All ordered pairs of the validation split, or `--pairs` of them that are always the same. `--root` holds the
data set as for ``data.root``; radiographs are brought to `--side` pixels first (256 are 1.4 mm each, as in
the paper), volumes stay as they are. Every method gets the same images on the same grid and answers a
displacement, by which the moving label map is warped, nearest neighbour, and compared with the fixed one on
that grid. "Before" is the row of the identity: centre on centre, where all methods start.

The first model is compared with every other method on the pairs that both have done. The classical methods
take seconds for a pair: `--classical-pairs` gives them fewer, and with `--cache` their rows are kept in a
table as they come, so that an interrupted run goes on.

`--autoencoder` names the shape model of the first stage: its table says how well a label map comes back from
its code.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.io.grid import GridImage, itk_image
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.metrics.registration import inverse_consistency_error_px
from anatozoo.results.field import RegistrationResult
from anatozoo.tasks.classical import BSPLINE, DEMONS, NAMES, bspline, centred_result, demons
from anatozoo.tasks.field import FieldTask
from anatozoo.tasks.pairs import Pair, Subject, choose_pairs, ordered_pairs, pair_case, read_subject
from anatozoo.tasks.trials import Conditions, labels_beside
from anatozoo.zoo.files import write_text

IDENTITY = "identity (before)"
METRICS = ("dice", "hd_mm", "assd_mm")
TESTED = ("dice", "hd_mm")
KEY = ["data", "side", "settings", "method", "moving", "fixed"]
"""Columns of the cache that say what a row is of; a change of settings makes rows of its own."""


@dataclass(frozen=True)
class DataSet:
    """One of the two experiments.

    Attributes:
        title: for the head of the table.
        layout: of `find_cases`.
        organs: names of the labels 1, 2.
        dims: 2 or 3.
        pairs: how many to take unless told otherwise; None is all.
    """

    title: str
    layout: str
    organs: tuple[str, ...]
    dims: int
    pairs: int | None


DATA = {
    "jsrt": DataSet("JSRT", "jsrt", ("lungs", "heart"), 2, None),
    "hippocampus": DataSet("hippocampi (MSD task 4)", "folder", ("anterior", "posterior"), 3, 200),
}


@dataclass(frozen=True)
class Method:
    """A way to register two images: gives a result and further columns of its row."""

    name: str
    register: Callable[[GridImage, GridImage], RegistrationResult]
    extra: Callable[[GridImage, GridImage], Row] = lambda moving, fixed: {}
    settings: str | None = None
    """What the rows depend on beside the pair; None where they are not to be cached."""


# --- data --------------------------------------------------------------------------------------------------


def read_subjects(root: Path, data: DataSet, side: int, allow_dealt: bool = False) -> list[Subject]:
    """The validation split, radiographs at `side` pixels.

    Raises:
        DataError: it has less than two cases, or no list says which they are.
    """
    cases = validation_cases(root, data.layout, data.organs, data.dims, allow_dealt, 2)
    how = Conditions(side=side if data.dims == 2 else None)
    return [read_subject(case, data.organs, data.dims, how) for case in cases]


# --- methods -----------------------------------------------------------------------------------------------


def learned(source: str) -> Method:
    """A checkpoint of the zoo or of a folder."""
    model = anatozoo.load(source)
    if not isinstance(model, FieldTask):
        raise ConfigError(f"{source} is a {type(model).__name__}, which registers no images.")
    return Method(model.checkpoint_name, model.predict, partial(inverse_error, model))


@torch.inference_mode()
def inverse_error(model: FieldTask, moving: GridImage, fixed: GridImage) -> Row:
    """How far the field of a velocity and its inverse miss each other, in pixels of the network's frame."""
    tensors = []
    for image in (moving, fixed):
        frame = Frame.fit(image.grid, model.frame)
        tensors.append(torch.from_numpy(frame.image(image.pixels))[None, None])
    answer = model(*tensors)
    if answer.inverse is None:
        return {}
    return {"inverse_error_px": float(inverse_consistency_error_px(answer.field, answer.inverse))}


def classical(dims: int) -> list[Method]:
    """SimpleITK's methods."""
    one, other = BSPLINE[dims], DEMONS[dims]
    return [
        Method(NAMES["bspline"], partial(bspline, settings=one), settings=repr(one)),
        Method(NAMES["demons"], partial(demons, settings=other), settings=repr(other)),
    ]


# --- measuring ---------------------------------------------------------------------------------------------


def measure(
    method: Method,
    pairs: Sequence[Pair],
    subjects: Sequence[Subject],
    organs: Sequence[str],
    known: Mapping[tuple[str, str], Row],
    keep: Callable[[Row], None],
) -> list[Row]:
    """The rows of all pairs; those that are known are not computed again, new ones are handed to `keep`."""
    rows = []
    if any((subjects[m].id, subjects[f].id) not in known for m, f in pairs):
        method.register(*(subjects[index].image for index in pairs[0]))  # what happens once is not timed
    for m, f in pairs:
        moving, fixed = subjects[m], subjects[f]
        row = known.get((moving.id, fixed.id))
        if row is None:
            start = time.perf_counter()
            try:
                result = method.register(moving.image, fixed.image)
            except RuntimeError as error:  # ITK does not say of what
                raise RuntimeError(f"{method.name}, {moving.id} to {fixed.id}: {error}") from error
            seconds = time.perf_counter() - start
            row = {"method": method.name, "moving": moving.id, "fixed": fixed.id, "seconds": seconds}
            case = pair_case(result, moving, fixed, organs)
            row["folding_percent"] = case.numbers["folding_percent"]
            row |= averaged(case, organs, METRICS) | method.extra(moving.image, fixed.image)
            keep(row)
        rows.append(row)
    return rows


class Cache:
    """Rows of slow methods in a CSV file, written anew after each; without a file nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        exists = path is not None and path.is_file()
        self.table = pd.read_csv(path) if path is not None and exists else pd.DataFrame(columns=KEY)
        if missing := [name for name in KEY if name not in self.table]:
            raise DataError(f"{path} is no cache of this experiment: it has no column {missing[0]}.")

    def known(self, of: Mapping[str, Any], method: str) -> dict[tuple[str, str], Row]:
        """(moving, fixed) -> row of a method under these settings."""
        table = self.table[self.table["method"] == method]
        for name, value in of.items():
            table = table[table[name] == value]
        rows = table.drop(columns=list(of)).dropna(axis=1, how="all").to_dict("records")
        return {(str(row["moving"]), str(row["fixed"])): {str(k): v for k, v in row.items()} for row in rows}

    def add(self, of: Mapping[str, Any], row: Row) -> None:
        """Keep a row."""
        if self.path is None:
            return
        new = pd.DataFrame([{**of, **row}])
        self.table = new if self.table.empty else pd.concat([self.table, new], ignore_index=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, self.table.to_csv(index=False))


def reconstructed(model: AeNetModule, subjects: Sequence[Subject], organs: Sequence[str]) -> Row:
    """Means over the subjects of the agreement of label maps with what their codes stand for."""
    rows = []
    for subject in subjects:
        grid, labels = subject.image.grid, subject.labels
        assert labels is not None
        found = model.reconstruct(itk_image(labels, grid))
        rows.append(averaged(labels_beside(found, labels, organs, grid.spacing_mm), organs, METRICS))
    return {"n": len(rows)} | {str(k): float(v) for k, v in pd.DataFrame(rows).mean().items()}


# --- tables ------------------------------------------------------------------------------------------------


def means(table: pd.DataFrame, organs: Sequence[str]) -> dict[str, dict[str, float]]:
    """Method -> number of pairs and mean of each column, methods in their order."""
    wanted = [*columns_of(organs, METRICS), "folding_percent", "seconds", "inverse_error_px"]
    result = {}
    for name, rows in table.groupby("method", sort=False):
        there = [column for column in wanted if column in rows and rows[column].notna().all()]
        result[str(name)] = {"n": len(rows)} | {c: float(rows[c].mean()) for c in there}
    return result


def tests(table: pd.DataFrame, first: str, organs: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The first method minus each other one: method -> column -> the paired Wilcoxon signed-rank test.

    ``p`` takes all pairs as independent, as is usual, though each image is in many of them. ``p_images`` is
    that of the means over the pairs of each fixed image, and the interval draws fixed images.
    """
    ours = table[table["method"] == first].set_index(["moving", "fixed"])
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in table.groupby("method", sort=False):
        if name == first:
            continue
        theirs = rows.set_index(["moving", "fixed"])
        shared = theirs.index[theirs.index.isin(ours.index)]
        result[str(name)] = {}
        for column in columns_of(organs, TESTED):
            difference = ours.loc[shared, column] - theirs.loc[shared, column]
            fixed = shared.get_level_values("fixed")
            by_image = paired(difference.groupby(fixed).mean())
            result[str(name)][column] = paired(difference, list(fixed)) | {"p_images": by_image["p"]}
    return result


def markdown(record: Mapping[str, Any], title: str, organs: Sequence[str]) -> str:
    """The record as tables."""
    lines = [f"# Registration of {title}, validation split", "", record["about"]]
    for heading, by_method in record["means"].items():
        lines += ["", f"## {heading}", "", *means_table(by_method, organs)]
    if "autoencoders" in record:
        lines += ["", "## Label maps and what their codes stand for", ""]
        lines += autoencoders_table(record["autoencoders"], organs)
    lines += [
        "",
        f"## {record['first']} minus the others",
        "",
        "Mean difference on the pairs that both did (95 % bootstrap interval over fixed images); p of the "
        "paired Wilcoxon signed-rank test over pairs, and over the means of each fixed image.",
        "",
        *tests_table(record["tests"], organs),
    ]
    return "\n".join(lines) + "\n"


def means_table(by_method: Mapping[str, Mapping[str, float]], organs: Sequence[str]) -> list[str]:
    """Lines of a table with one row for each method."""
    digits = {"dice": 3, "hd_mm": 2, "assd_mm": 2, "folding_percent": 3, "seconds": 3, "inverse_error_px": 4}
    columns = [*columns_of(organs, METRICS), "folding_percent", "seconds", "inverse_error_px"]
    rows = []
    for name, values in by_method.items():
        cells = [
            f"{values[column]:.{digits[column.partition('/')[0]]}f}" if column in values else "–"
            for column in columns
        ]
        rows.append([name, str(values["n"]), *cells])
    return table_lines(["method", "pairs", *columns], rows)


def autoencoders_table(by_name: Mapping[str, Mapping[str, float]], organs: Sequence[str]) -> list[str]:
    """Lines of a table with one row for each autoencoder."""
    columns = columns_of(organs, METRICS)
    rows = [
        [name, str(values["n"]), *(f"{values[c]:.{3 if c.startswith('dice') else 2}f}" for c in columns)]
        for name, values in by_name.items()
    ]
    return table_lines(["autoencoder", "images", *columns], rows)


def tests_table(
    by_method: Mapping[str, Mapping[str, Mapping[str, float]]], organs: Sequence[str]
) -> list[str]:
    """Lines of a table with one row for each method."""
    columns = columns_of(organs, TESTED)
    rows = []
    for name, by_column in by_method.items():
        cells = []
        for column in columns:
            t, digits = by_column[column], 3 if column.startswith("dice") else 2
            interval = f"{t['ci_low']:+.{digits}f} … {t['ci_high']:+.{digits}f}"
            cells.append(
                f"{t['difference']:+.{digits}f} ({interval}), p {t['p']:.1g}, images {t['p_images']:.1g}"
            )
        rows.append([name, str(by_column[columns[0]]["n"]), *cells])
    return table_lines(["against", "pairs", *columns], rows)


def command_of(options: argparse.Namespace, names: Sequence[str], autoencoder: str | None) -> str:
    """The command line that makes the table again, without the folders of this machine."""
    words = ["python experiments/registration_evidence.py --root DIR --data", options.data]
    words += ["--models", *names]
    if autoencoder:
        words.append(f"--autoencoder {autoencoder}")
    for option in ("pairs", "classical_pairs"):
        if getattr(options, option) is not None:
            words.append(f"--{option.replace('_', '-')} {getattr(options, option)}")
    if options.data == "jsrt":
        words.append(f"--side {options.side}")
    words += ["--allow-dealt-split"] if getattr(options, "allow_dealt_split", False) else []
    return " ".join([*words, f"--threads {options.threads} --out docs/evidence"])


def about(
    data: DataSet, subjects: Sequence[Subject], pairs: int, options: argparse.Namespace, command: str
) -> str:
    """Where the numbers come from, in words."""
    everything = len(subjects) * (len(subjects) - 1)
    which = "All" if pairs == everything else f"{pairs}, drawn once, of the"
    grid = subjects[0].image.grid
    assert grid.spacing_mm is not None
    where = (
        f"{options.side} × {options.side} pixels of {grid.spacing_mm[0]:.3g} mm"
        if data.dims == 2
        else f"the images' own voxels of {grid.spacing_mm[0]:.3g} mm"
    )
    return (
        f"{which} {everything} ordered pairs of {len(subjects)} images. All methods register, and labels are "
        f"compared, on {where}; means over pairs, columns without an organ also over organs. "
        "folding_percent: pixels with a Jacobian determinant of 0 or less. seconds: one pair from arrays to "
        f"the displacement on the fixed grid, {options.threads} threads, each method at another moment and "
        "beside other work: benchmarks/registration.py compares times in one run. inverse_error_px: mean "
        "distance by which a velocity's field and its inverse miss each other, in pixels of the network's "
        f"frame. `{command}`"
    )


def main() -> None:
    """Parse the options, run the experiment, write tables."""
    parser = options_of(__doc__, threads=2)
    parser.add_argument("--data", choices=list(DATA), required=True)
    parser.add_argument("--models", nargs="+", required=True, help="names or folders; the first is compared")
    parser.add_argument("--autoencoder", help="name or folder of the first stage's checkpoint")
    parser.add_argument("--pairs", type=int, help="default: all for jsrt, 200 for hippocampus")
    parser.add_argument(
        "--classical-pairs", type=int, help="of the pairs, for SimpleITK (default: all; 0: none)"
    )
    parser.add_argument("--side", type=int, default=256, help="of the radiographs, in pixels")
    parser.add_argument("--cache", type=Path, help="CSV file with the rows of the classical methods")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)

    data = DATA[options.data]
    models = [learned(source) for source in options.models]
    names = [model.name for model in models]
    check_names(names)
    autoencoder = anatozoo.load(options.autoencoder) if options.autoencoder else None
    if autoencoder is not None and not isinstance(autoencoder, AeNetModule):
        raise ConfigError(
            f"{options.autoencoder} is a {type(autoencoder).__name__}, no autoencoder of labels."
        )
    subjects = read_subjects(options.root, data, options.side, options.allow_dealt_split)
    pairs = choose_pairs(ordered_pairs(len(subjects)), data.pairs if options.pairs is None else options.pairs)
    fewer = choose_pairs(pairs, options.classical_pairs)
    cache = Cache(options.cache)

    rows: list[Row] = []
    identity = Method(IDENTITY, lambda a, b: centred_result(IDENTITY, a, b, None))
    jobs = [(method, pairs) for method in (identity, *models)]
    jobs += [(method, fewer) for method in (classical(data.dims) if fewer else [])]
    for method, chosen in jobs:
        of = {
            "data": options.data,
            "side": options.side if data.dims == 2 else 0,
            "settings": method.settings,
        }
        is_slow = method.settings is not None
        known = cache.known(of, method.name) if is_slow else {}
        keep = partial(cache.add, of) if is_slow else lambda row: None
        rows += measure(method, chosen, subjects, data.organs, known, keep)
        found = means(pd.DataFrame(rows), data.organs)[method.name]
        print(
            f"{method.name:45} dice {found['dice']:.4f}  hd {found['hd_mm']:6.2f} mm  folding "
            f"{found['folding_percent']:.3f} %  {found['seconds']:.3f} s",
            flush=True,
        )
    if options.out is not None:
        record = make_record(pd.DataFrame(rows), data, subjects, fewer, options, names, autoencoder)
        text = markdown(record, data.title, data.organs)
        write(options.out, f"registration-{options.data}_experiment", record, text)


def make_record(
    table: pd.DataFrame,
    data: DataSet,
    subjects: Sequence[Subject],
    fewer: Sequence[Pair],
    options: argparse.Namespace,
    names: Sequence[str],
    autoencoder: AeNetModule | None,
) -> dict[str, Any]:
    """All that is written: means of all pairs, of those of the classical methods, and the tests."""
    table = table.copy()
    table.loc[table["method"] == IDENTITY, "seconds"] = np.nan  # nothing is done there
    pairs = int((table["method"] == IDENTITY).sum())
    sections = {f"{pairs} pairs": means(table, data.organs)}
    if 0 < len(fewer) < pairs:
        index = pd.MultiIndex.from_tuples([(subjects[m].id, subjects[f].id) for m, f in fewer])
        here = pd.MultiIndex.from_frame(table[["moving", "fixed"]]).isin(index)
        sections = {
            f"{pairs} pairs": means(table[~table["method"].isin(NAMES.values())], data.organs),
            f"The {len(fewer)} pairs of the classical methods": means(table[here], data.organs),
        }
    command = command_of(options, names, None if autoencoder is None else autoencoder.checkpoint_name)
    record = {
        "command": command,
        "about": about(data, subjects, pairs, options, command),
        "data": data.title,
        "first": names[0],
        "means": sections,
        "tests": tests(table, names[0], data.organs),
        "classical_settings": {method.name: method.settings for method in classical(data.dims)},
    }
    if autoencoder is not None:
        name = autoencoder.checkpoint_name
        record["autoencoders"] = {name: reconstructed(autoencoder, subjects, data.organs)}
    return record


if __name__ == "__main__":
    main()
