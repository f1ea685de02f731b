"""Do surfaces of hearts hold what their label maps hold? Every stack as a mesh, and back.

    python experiments/heart_meshes.py --root DIR --layout acdc --out docs/evidence

Each stack of the data set, of all splits as nothing is learned or chosen, becomes closed surfaces by
`anatozoo.meshes.heart`, with sheets of each size. The pixels inside each surface are compared with the
label map on its own grid, and its volume with that of the voxels. Stacks that give no mesh are listed with
the reason. The floors are those of the table: below them a mesh is worse than what it was made of.
"""

from collections import Counter
from statistics import mean
from typing import Any

import numpy as np
from comparing import options_of, table_lines, write

from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.meshes.heart import SHEETS, heart_mesh
from anatozoo.meshes.quality import crossings
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.surface import open_edges
from anatozoo.metrics.functional import dice
from anatozoo.metrics.tables import provenance

SIZES = (SheetSize(16, 32), SheetSize(24, 64))
FLOORS = dict(zip(SHEETS, (0.97, 0.93, 0.95), strict=True))


def measure(cases: list[Any], size: SheetSize) -> dict[str, Any]:
    """Meshes of one size of all stacks: Dice, volume over that of the voxels, flags and failures."""
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for case in cases:
        labels, grid = case.read_labels(SHEETS)
        masks = {organ: labels == value for value, organ in enumerate(SHEETS, start=1)}
        try:
            heart = heart_mesh(masks, grid, size)
        except DataError as error:
            failed[case.id] = str(error)
            continue
        surfaces = heart.surfaces
        found, volumes = surfaces.to_masks(), surfaces.volume_ml()
        voxel = None if grid.spacing_mm is None else float(np.prod(grid.spacing_mm)) / 1000
        rows.append(
            {
                "id": case.id,
                "flags": list(heart.flags),
                "open_edges": sum(open_edges(faces) for faces in surfaces.faces.values()),
                "crossings": {
                    organ: crossings(surfaces.vertices * grid.proportions, faces)
                    for organ, faces in surfaces.faces.items()
                },
                "dice": {organ: dice(found[organ], masks[organ]) for organ in SHEETS},
                "volume_ratio": None
                if volumes is None or voxel is None
                else {organ: volumes[organ] / (masks[organ].sum() * voxel) for organ in SHEETS},
            }
        )
    return {"vertices": len(SHEETS) * size.vertices, "failed": failed, "rows": rows}


def markdown(record: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# Hearts as surfaces", "", record["about"], ""]
    cells = []
    for size, found in record["sizes"].items():
        for organ in SHEETS:
            values = [row["dice"][organ] for row in found["rows"]]
            ratios = [row["volume_ratio"][organ] for row in found["rows"] if row["volume_ratio"]]
            below = sum(value < FLOORS[organ] for value in values)
            cells.append(
                [
                    *(size, organ, str(len(values)), f"{mean(values):.4f}", f"{min(values):.4f}"),
                    *(f"{FLOORS[organ]}", str(below), f"{mean(ratios):.3f}" if ratios else ""),
                ]
            )
    head = ("rings x points", "organ", "stacks", "Dice", "lowest", "floor", "below it", "volume, of voxels'")
    lines += table_lines(head, cells)
    for size, found in record["sizes"].items():
        flags = Counter(flag for row in found["rows"] for flag in row["flags"])
        said = ", ".join(f"{flag} {count}" for flag, count in sorted(flags.items())) or "none"
        edges = sum(row["open_edges"] for row in found["rows"])
        cut = {organ: sum(row["crossings"][organ] > 0 for row in found["rows"]) for organ in SHEETS}
        lines += ["", f"{size}: {found['vertices']} vertices, {edges} open edges; flags: {said}; "]
        lines[-1] += f"stacks whose surface cuts itself: {', '.join(f'{o} {n}' for o, n in cut.items())}; "
        lines[-1] += f"stacks without a mesh: {len(found['failed'])}."
        lines += [f"- {case}: {reason}" for case, reason in found["failed"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, build, measure, write the tables."""
    parser = options_of(__doc__, threads=1, on_split=False)
    parser.add_argument("--layout", default="acdc", help="of the data (default: acdc)")
    options = parser.parse_args()
    cases = [case for case in find_cases(options.root, options.layout, SHEETS, dims=3).cases if case.labelled]
    if not cases:
        raise DataError(f"{options.root} has no stack with labels.")
    command = f"python experiments/heart_meshes.py --root DIR --layout {options.layout} --out docs/evidence"
    record = {
        "command": command,
        "about": f"Dice of the pixels inside each surface against the label map; all splits. `{command}`",
        "sizes": {f"{size.rings} x {size.angles}": measure(cases, size) for size in SIZES},
        **provenance(("numpy", "scipy", "contourpy")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"heart-meshes-{options.layout}_experiment", record, text)


if __name__ == "__main__":
    main()
