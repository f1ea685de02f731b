"""What the order in which a stack is stored does to its segmentation.

    python experiments/orientation.py --root DIR --models acnn-dynunet-acdc acnn-acdc --out docs/evidence

Every model predicts each stack of the validation split of ACDC in all 16 orders in which slices, rows and
columns may be stored, as arrays, of which nothing tells the order. Labels are brought back and compared with
the truth. Then each stack is given

- with a header as that of this copy of ACDC, along the patient's axes, stored in other orders of its axes,
  the header saying so: labels must be the same in every voxel;
- with a header as scanners write it, oblique, which tells base from apex.

Arrays are predicted with their slices in both orders and turned by half a turn, so that orders that differ by
these alone give the same labels: ``--orders 0 1 8 9`` measures as much in a quarter of the time.

Rows are appended to ``--rows`` as they are measured, and what stands there already is not measured again: the
same command goes on where it stopped.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import acnn_evidence
import numpy as np
import pandas as pd
import torch
from comparing import options_of, validation_cases, write

from anatozoo.data.case import Case
from anatozoo.data.layouts.acdc import HEART
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.orientation import Orientation
from anatozoo.metrics.overlap import dice
from anatozoo.metrics.tables import markdown_table
from anatozoo.tasks.volumes import VolumeTask

NAME = "acnn-orders"
ORDERS = tuple(range(16))
HEADER, OBLIQUE = "header", "oblique"
REPRESENTATIVE = (0, 1, 8, 9)
"""One of each four orders that give the same labels."""
OTHERS = (
    "; the other twelve give the same labels, because they differ only by the order of slices and half a turn"
)
FLAG = "slice_order_uncertain"
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SHORT_AXIS = (0.76, -0.02, 0.65, 0.45, 0.74, -0.5, 0.47, -0.68, -0.57)
"""Directions of slices across a heart: columns to the left, rows to the back and feet, slices to the apex."""
COUNT = 1
"""Orders of the axes that a stack with a header is stored in, beside its own; others for each stack."""
Array = np.ndarray


def order_of(number: int) -> Orientation:
    """One of the 16 orders: bits mirror columns (1), rows (2), slices (4); 8 exchanges rows and columns."""
    axes = (1, 0, 2) if number & 8 else (0, 1, 2)
    return Orientation(axes, tuple(bool(number & 1 << axis) for axis in range(3)))


def some_orders(name: str, count: int) -> list[Orientation]:
    """Orders of the axes among all 48, the same at every call for a stack."""
    draw = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    found = []
    for _ in range(count):
        axes, flips = draw.permutation(3).tolist(), draw.integers(0, 2, 3).astype(bool).tolist()
        found.append(Orientation(tuple(axes), tuple(flips)))
    return found


def trials(
    image: GridImage, orders: Sequence[int], *, headers: bool = True
) -> Iterator[tuple[str, GridImage, Orientation]]:
    """What a stack is given as: a name, the stack, and the order that it is stored in."""
    for number in orders:
        turn = order_of(number)
        pixels = turn.apply(image.pixels)
        yield str(number), GridImage(pixels, Grid(pixels.shape[::-1]), image.name), turn
    if not headers:
        return
    size, spacing = image.grid.size, (1.5, 1.5, 9.0)
    as_it_is = Orientation.unchanged(3)
    for number, turn in enumerate([as_it_is, *some_orders(image.name, COUNT)]):
        grid = turn.grid(Grid(size, spacing, None, IDENTITY))
        yield f"{HEADER}{number}", GridImage(turn.apply(image.pixels), grid, image.name), turn
    yield OBLIQUE, GridImage(image.pixels, Grid(size, spacing, None, SHORT_AXIS), image.name), as_it_is


def dice_of(labels: Array, truth: Array) -> dict[str, float]:
    """Dice of each structure and on average."""
    values = [dice(labels == value, truth == value) for value, _ in enumerate(HEART, start=1)]
    return {"dice": float(np.nanmean(values))} | dict(zip(HEART, values, strict=True))


def digest(model: VolumeTask) -> str:
    """Which weights these are."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.detach().float().numpy().tobytes())
    return found.hexdigest()[:12]


def measure(
    models: Sequence[VolumeTask], cases: Sequence[Case], orders: Sequence[int], path: Path, headers: int
) -> pd.DataFrame:
    """One row for each model, stack and trial; those that the file has are taken from it.

    Args:
        models: the models.
        cases: stacks with their label maps.
        orders: numbers of the orders in which arrays are stored.
        path: file of the rows that are measured already.
        headers: how many of the stacks are given with headers, too.

    Raises:
        DataError: a stack has no label map.
    """
    done: dict[tuple[str, str, str], dict[str, Any]] = {}
    if path.is_file():
        stored = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        done = {(row["weights"], row["case"], row["trial"]): row for row in stored}
    rows, begin = [], time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for model in models:
            weights = digest(model)
            for number, case in enumerate(cases, start=1):
                image, truth = case.read(HEART, 3)
                if truth is None:
                    raise DataError(f"case {case.id} has no label map.")
                for trial, given, turn in trials(image, orders, headers=number <= headers):
                    row = done.get((weights, case.id, trial))
                    if row is None:
                        result = model.predict(given)
                        labels = turn.undo(result.label_map)
                        row = {
                            "weights": weights,
                            "case": case.id,
                            "trial": trial,
                            "uncertain": FLAG in result.flags,
                            "labels": hashlib.sha256(labels.tobytes()).hexdigest()[:16],
                            **dice_of(labels, truth),
                        }
                        file.write(json.dumps(row) + "\n")
                        file.flush()
                    rows.append(row | {"model": model.checkpoint_name})
                passed = time.monotonic() - begin
                print(f"{model.checkpoint_name} {number}/{len(cases)} {case.id} {passed:.0f} s", flush=True)
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Of one model: Dice by order, its spread, flags, and what headers do."""
    columns = ["dice", *HEART]
    arrays = table[table["trial"].str.isdigit()]
    by_order = arrays.groupby("trial", sort=False)[columns].mean()
    header = table[table["trial"].str.startswith(HEADER)]
    flagged = arrays.groupby("case")["uncertain"].any()
    means = {column: float(by_order[column].mean()) for column in columns}
    return {
        "orders": {str(k): {c: float(row[c]) for c in columns} for k, row in by_order.iterrows()},
        "means": means,
        "spread": {c: float(by_order[c].max() - by_order[c].min()) for c in columns},
        "largest_change": float(arrays.groupby("case")["dice"].agg(lambda d: d.max() - d.min()).max()),
        "oblique": {c: float(table[table["trial"] == OBLIQUE][c].mean()) for c in columns},
        "stacks": int(arrays["case"].nunique()),
        "stacks_flagged": int(flagged.sum()),
        "dice_flagged": _mean(arrays[arrays["uncertain"]]["dice"]),
        "dice_not_flagged": _mean(arrays[~arrays["uncertain"]]["dice"]),
        "header_changes_labels": int((header.groupby("case")["labels"].nunique() > 1).sum()),
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    lines = ["# Orders of slices, rows and columns", "", record["about"], ""]
    head = ["model", "Dice", "RV", "Myo", "LV", "spread", "RV", "Myo", "LV", "largest change of a stack",
            "with oblique header", "stacks flagged", "Dice where flagged", "else",
            "stacks whose labels a header's order changes"]  # fmt: skip
    rows = []
    for name, s in record["models"].items():
        shown = [*s["means"].values(), *s["spread"].values(), s["largest_change"], s["oblique"]["dice"]]
        last = ["–" if v is None else f"{v:.3f}" for v in (s["dice_flagged"], s["dice_not_flagged"])]
        flagged = f"{s['stacks_flagged']} of {s['stacks']}"
        cells = [name, *(f"{v:.3f}" for v in shown), flagged, *last, str(s["header_changes_labels"])]
        rows.append(cells)
    lines += [*markdown_table(head, rows), "", "Mean Dice by order:", ""]
    orders = list(next(iter(record["models"].values()))["orders"])
    by_order = [
        [name, *(f"{s['orders'][order]['dice']:.3f}" for order in orders)]
        for name, s in record["models"].items()
    ]
    return "\n".join([*lines, *markdown_table(["model", *orders], by_order)]) + "\n"


def main() -> None:
    """Parse the options, predict, write tables."""
    parser = options_of(__doc__, threads=2)
    parser.add_argument("--models", nargs="+", required=True, help="names or folders")
    parser.add_argument("--orders", nargs="*", type=int, choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--stacks", type=int, help="the first so many stacks; all unless told otherwise")
    parser.add_argument("--headers", type=int, help="the first so many stacks with headers; all by default")
    parser.add_argument("--rows", type=Path, default=Path(f"{NAME}_rows.jsonl"), help="what is measured")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = [acnn_evidence.load(source) for source in options.models]
    names = [model.checkpoint_name for model in models]
    if len(set(names)) < len(names) or 0 not in options.orders:
        raise ConfigError(f"models {', '.join(names)} must differ, and the orders hold 0.")
    cases = validation_cases(options.root, "acdc", HEART, 3, options.allow_dealt_split)[: options.stacks]
    headers = len(cases) if options.headers is None else options.headers
    table = measure(models, cases, options.orders, options.rows, headers)
    words = ["python experiments/orientation.py --root DIR --models", *names]
    if len(options.orders) < len(ORDERS):
        words += ["--orders", *map(str, options.orders)]
    if options.stacks is not None:
        words += ["--stacks", str(options.stacks)]
    if headers < len(cases):
        words += ["--headers", str(headers)]
    command = " ".join([*words, "--out docs/evidence"])
    others = OTHERS if set(options.orders) == set(REPRESENTATIVE) else ""
    record = {
        "command": command,
        "about": (
            f"{len(cases)} stacks of {len({case.subject for case in cases})} validation patients of ACDC, "
            f"each stored in {len(options.orders)} orders{others}. Dice: mean over stacks and orders. "
            "Spread: the best order's mean Dice over stacks minus the worst one's. Largest change of a "
            f"stack: its best Dice minus its worst one. Flagged: `{FLAG}` in any order. Orders are numbers "
            f"whose bits mirror columns (1), rows (2), slices (4) and exchange rows and columns (8). With "
            f"headers: the first {min(headers, len(cases))} stacks. `{command}`"
        ),
        "models": {name: summary(table[table["model"] == name]) for name in names},
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"{NAME}_experiment", record, text)


if __name__ == "__main__":
    main()
