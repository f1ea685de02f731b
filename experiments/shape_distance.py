"""What a distance of shapes sees: known damage to true label maps, and what each costs.

    python experiments/shape_distance.py --root DIR --layout acdc --source acnn-prior-acdc postdae-acdc \
        --out docs/evidence
    python experiments/shape_distance.py --root DIR --layout jsrt --source aenet-jsrt postdae-jsrt \
        --out docs/evidence

True label maps of the validation split are damaged in known ways, in the frame of each source, an autoencoder
of label maps: a checkpoint or the folder of one. The squared distance to the undamaged map is taken in layers
of the source, see `anatozoo.objectives.shape_layers`: the code (ACNN's distance), maps of the encoder, the
residual (what the source would change), and ``input``, plain voxels, for comparison. It is given over the
mean distance between two patients, and per 1,000 voxels that the damage changes.

A plausible change, a shift by one pixel, should cost less per voxel than an opened ring or an organ cut in
two, a hole and a stray blob. ``worth`` is the smallest of their costs over that of the shift: above 1 if so.
Nothing is trained, and the table judges the sources on label maps that they did not see in training; those
of the validation split may have chosen their weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import options_of, write
from shape_damage import DEMANDED, IMPLAUSIBLE, PLAUSIBLE, Labels

import anatozoo
from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.splits import refuse_dealt
from anatozoo.metrics.tables import markdown_table, provenance
from anatozoo.nn.labels import one_hot
from anatozoo.objectives.shape_layers import check_layers, features, layer_weights
from anatozoo.tasks.cases import label_dices

INPUT, SHIFT = "input", "shift by 1 px"
Vectors = dict[str, torch.Tensor]


def true_maps(model: Any, root: Path, layout: str, count: int, dealt: bool) -> tuple[list[Labels], list[str]]:
    """Label maps of the validation split in a model's frame, and their subjects.

    Raises:
        DataError: there are fewer than two subjects.
    """
    found = find_cases(root, layout, tuple(model.organs), dims=len(model.shape)).cases
    cases = [case for case in found if case.split == "val" and all(map(case.has, model.organs))]
    refuse_dealt(cases, dealt)
    order = np.random.default_rng(0).permutation(len(cases))[:count]
    chosen: list[Case] = [cases[number] for number in sorted(order)]
    if len({case.subject for case in chosen}) < 2:
        raise DataError(f"{root}: the validation split has label maps of fewer than two subjects.")
    maps = []
    for case in chosen:
        labels, grid = case.read_labels(model.organs)
        frame = fit_frame(grid, model.frame)
        maps.append(np.asarray(frame.labels(labels), np.uint8))
    return maps, [case.subject for case in chosen]


@torch.no_grad()
def vectors(model: Any, labels: Labels, layers: Sequence[str]) -> Vectors:
    """The values of a label map in layers of a model, flat."""
    maps = one_hot(torch.from_numpy(labels)[None], len(model.organs) + 1)
    found = features(model, maps, [layer for layer in layers if layer != INPUT])
    return {layer: (found | {INPUT: maps})[layer].flatten() for layer in layers}


def between(values: Sequence[torch.Tensor], subjects: Sequence[str]) -> float:
    """Mean squared distance between label maps of two subjects."""
    table = torch.stack(list(values)).double()
    squares = table.square().sum(1)
    distance = squares[:, None] + squares - 2 * table @ table.T
    apart = torch.tensor([[a != b for b in subjects] for a in subjects])
    return float(distance[apart].mean())


def layers_of(model: Any) -> list[str]:
    """Every layer of a model: voxels, the maps of the encoder, the code, the residual."""
    weight = next(model.parameters())
    empty = weight.new_zeros(1, 1 + len(model.organs), *model.shape)
    with torch.no_grad():
        count = len(model.levels(empty))
    return [INPUT, *(f"level{number}" for number in range(1, count + 1)), "code", "residual"]


def measure(
    model: Any, maps: Sequence[Labels], subjects: Sequence[str], layers: Sequence[str]
) -> dict[str, Any]:
    """Costs of every kind of damage in every layer, and how well label maps come back."""
    true = [vectors(model, labels, layers) for labels in maps]
    apart = {layer: between([each[layer] for each in true], subjects) for layer in layers}
    rows: dict[str, dict[str, Any]] = {}
    for name, damage in (PLAUSIBLE | IMPLAUSIBLE).items():
        damaged = [(number, damage(labels, model.organs)) for number, labels in enumerate(maps)]
        there = [(number, after) for number, after in damaged if after is not None]
        changed = [float(np.count_nonzero(after != maps[number])) for number, after in there]
        if not there or not any(changed):
            continue
        row: dict[str, Any] = {"maps": len(there), "voxels": float(np.mean(changed))}
        row["dice"] = float(np.mean([_dice(after, maps[number], model) for number, after in there]))
        costs = [vectors(model, after, layers) for _, after in there]
        for layer in layers:
            squares = [
                float((cost[layer] - true[number][layer]).square().sum())
                for cost, (number, _) in zip(costs, there, strict=True)
            ]
            share = float(np.mean(squares)) / apart[layer]
            row[layer] = {"distance": share, "per_1000": 1000 * share / row["voxels"]}
        rows[name] = row
    demanded = [name for name in DEMANDED if name in rows]
    worth = {
        layer: min(rows[name][layer]["per_1000"] for name in demanded) / rows[SHIFT][layer]["per_1000"]
        for layer in layers
    }
    back = [_dice(rebuilt(model, labels), labels, model) for labels in maps]
    return {"maps": len(maps), "reconstruction": float(np.mean(back)), "damage": rows, "worth": worth}


@torch.no_grad()
def rebuilt(model: Any, labels: Labels) -> Labels:
    """What comes back of a label map."""
    maps = one_hot(torch.from_numpy(labels)[None], len(model.organs) + 1)
    found: Labels = model.rebuilt(maps)[0].argmax(0).numpy().astype(np.uint8)
    return found


def _dice(found: Labels, truth: Labels, model: Any) -> float:
    a, b = (torch.from_numpy(labels)[None] for labels in (found, truth))
    return label_dices(a, b, len(model.organs))[0]


def markdown(record: Mapping[str, Any]) -> str:
    """The record as tables."""
    lines = ["# What a distance of shapes sees", "", record["about"]]
    for source, found in record["sources"].items():
        layers = list(found["worth"])
        lines += [
            "",
            f"## {source}",
            "",
            f"Dice of what comes back of true label maps: {found['reconstruction']:.3f}.",
        ]
        for key, words in (
            ("distance", "Squared distance, over that between two patients:"),
            ("per_1000", "The same per 1,000 changed voxels:"),
        ):
            rows = [
                [
                    name,
                    f"{row['voxels']:.0f}",
                    f"{row['dice']:.3f}",
                    *(f"{row[layer][key]:.3g}" for layer in layers),
                ]
                for name, row in found["damage"].items()
            ]
            if key == "per_1000":
                rows.append(["**worth**", "", "", *(f"**{found['worth'][layer]:.2f}**" for layer in layers)])
            lines += ["", words, "", *markdown_table(["damage", "voxels", "Dice", *layers], rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, damage, measure, write the tables."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--layout", default="auto", help="of the data (default: auto)")
    parser.add_argument("--source", nargs="+", required=True, help="autoencoders: names or folders")
    parser.add_argument("--layers", nargs="+", help="such as input code level1 residual (default: all)")
    parser.add_argument(
        "--cases", type=int, default=24, help="label maps, or slices of 2-D sources (default: 24)"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources: dict[str, Any] = {}
    for source in options.source:
        model = anatozoo.load(source, trainable=False).eval()
        layers = layers_of(model) if options.layers is None else list(dict.fromkeys(options.layers))
        chosen = [layer for layer in layers if layer != INPUT]
        if chosen:
            check_layers(layer_weights(chosen), model)
        # A folder of a fit may have any name within.
        own = Path(source)
        name = f"{own.name if own.is_dir() else model.checkpoint_name} {model.checkpoint_version}"
        if name in sources:
            raise ConfigError(f"two sources are called {name}, whose rows could not be told apart.")
        given = (options.root, options.layout, options.cases, options.allow_dealt_split)
        sources[name] = measure(model, *true_maps(model, *given), layers)
        print(name, {layer: round(value, 2) for layer, value in sources[name]["worth"].items()}, flush=True)
    names = " ".join(name.split()[0] for name in sources)
    command = (
        f"python experiments/shape_distance.py --root DIR --layout {options.layout} --source {names} "
        f"--cases {options.cases} --out docs/evidence"
    )
    about = (
        "True label maps of the validation split, damaged in known ways in the frame of each source. Sizes "
        "are those of a frame of 128 pixels and in proportion in others: a gap and a hole of 4 pixels, a "
        "blob of 8 x 8 (x 3). Worth: the lowest cost per voxel of an opened ring or a cut, a hole and a blob "
        f"over that of a shift by one pixel; above 1, implausible damage costs more. `{command}`"
    )
    record = {"command": command, "about": about, "sources": sources, **provenance(("torch", "numpy"))}
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"shape-distance-{options.layout}_experiment", record, text)


if __name__ == "__main__":
    main()
