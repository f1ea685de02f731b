"""How well are roots measured? Real root systems, drawn as annotators traced them, grown in silico.

    python experiments/roots_growth.py --root DIR [--split val] --out docs/evidence

`--root` holds ``rsml/`` and ``splits.json``; each plant of each file is one case, at half the size of the
photograph. Its roots are drawn 3 pixels wide, hour by hour: all grow with the same speed, which swings by a
half with the day, and are full after five days. The zoo's steps then see the masks alone. Reported are the
errors of the full plant and of its growth: lengths, number of roots besides the main one, and the period of
the main root's speed.

Barley has no main root: five to seven roots leave the seed side by side, and cross. Each plant is therefore
measured in two arrangements: ``as annotated``, and as a ``main root with laterals``, for which the steps are
made: the longest line is the main root, and the others, turned and made shorter, leave it on both sides.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from comparing import table_lines, write

from anatozoo.errors import DataError
from anatozoo.metrics.tables import provenance
from anatozoo.roots.growth import frame_table, growth_table, spectrum
from anatozoo.roots.rsml import read_rsml
from anatozoo.roots.simulate import drawn, grown
from anatozoo.roots.skeleton import trace
from anatozoo.roots.system import Root, RootSystem, along
from anatozoo.roots.tracking import follow

SCALE, WIDTH, HOURS, RHYTHM, BORDER = 0.5, 3.0, 120, 0.5, 12
LATERAL_DEG, LATERAL_SHARE = 60.0, 0.35
"""Of laterals: the angle to the main root at their base, and their longest length in lengths of it."""


def plants_of(root: Path, split: str) -> list[tuple[str, RootSystem]]:
    """The plants of a split, moved so that they begin near the corner of their own picture."""
    names = json.loads((root / "splits.json").read_text(encoding="utf-8"))[split]
    found = []
    for name in sorted(names):
        for number, plant in enumerate(read_rsml(root / "rsml" / f"{name}.rsml"), start=1):
            lines = [SCALE * each.points for each in plant.roots]
            corner = np.concatenate(lines).min(0) - BORDER
            lowest = max(range(len(lines)), key=lambda i: lines[i][-1, 1])
            order = [lowest, *(i for i in range(len(lines)) if i != lowest)]
            roots = tuple(Root(lines[i] - corner, None, str(i)) for i in order)
            found.append((f"{name}-{number}", RootSystem(roots, name=name)))
    return found


def arranged(plant: RootSystem) -> RootSystem:
    """The same lines as a main root and its laterals, from above to below on both sides by turns."""
    longest = max(plant.roots, key=lambda root: root.length_px)
    main = along(longest.points, np.arange(0.0, longest.length_px, 1.0))
    others = [root for root in plant.roots if root is not longest]
    lines = [main]
    for number, root in enumerate(others):
        at = round((0.1 + 0.6 * number / max(len(others) - 1, 1)) * (len(main) - 1))
        line = root.points - root.points[0]
        line = line * min(1.0, LATERAL_SHARE * longest.length_px / root.length_px)
        wanted = _angle(main[min(at + 10, len(main) - 1)] - main[at])
        wanted += np.radians(LATERAL_DEG) * (1 if number % 2 else -1)
        turn = wanted - _angle(along(line, [20.0])[0])
        cos, sin = np.cos(turn), np.sin(turn)
        lines.append(main[at] + line @ np.array([[cos, sin], [-sin, cos]]))
    corner = np.concatenate(lines).min(0) - BORDER
    roots = [Root(line - corner, 0 if number else None, str(number)) for number, line in enumerate(lines)]
    return RootSystem(tuple(roots), name=plant.name)


def _angle(way: np.ndarray) -> float:
    return float(np.arctan2(way[1], way[0]))


def row_of(name: str, plant: RootSystem) -> dict[str, Any]:
    """The errors of one plant."""
    size = tuple(int(np.ceil(max(r.points[:, axis].max() for r in plant.roots))) + BORDER for axis in (1, 0))
    seed, row = plant.main.points[0], {"plant": name, "roots": len(plant.roots)}
    try:
        full = trace(drawn(plant, size, width=WIDTH) > 0.5, seed)
    except DataError as error:
        return row | {"failed": str(error)}
    row |= {
        "main": full.main.length_px / plant.main.length_px - 1,
        "total": full.total_px / plant.total_px - 1,
        "laterals": len(full.laterals) - len(plant.laterals),
        "flags": ";".join(full.flags),
    }
    speed = max(root.length_px for root in plant.roots) / HOURS
    masks = (
        drawn(grown(plant, hour, speed=speed, rhythm=RHYTHM), size, width=WIDTH) > 0.5
        for hour in range(HOURS)
    )
    table = growth_table(frame_table(follow(masks, seed)), minutes=60)
    truth = [grown(plant, hour, speed=speed, rhythm=RHYTHM) for hour in range(1, HOURS)]
    lengths = np.array([0.0, *(each.main.length_px if each else 0.0 for each in truth)])
    growing = lengths < 0.98 * plant.main.length_px
    row["growth"] = float(np.abs(table["main"] - lengths).max() / lengths[-1])
    days = 24 * int(growing.sum() // 24)
    if days >= 48:
        frequencies, amplitudes = spectrum(table["speed"][:days])
        row["period_h"] = float(1 / frequencies[amplitudes.argmax()])
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians and shares of some plants."""
    done = [row for row in rows if "main" in row]
    periods = [row["period_h"] for row in done if "period_h" in row]
    return {
        "plants": len(rows),
        "failed": len(rows) - len(done),
        "main_median_error": float(np.median([abs(row["main"]) for row in done])),
        "main_below_2_percent": float(np.mean([abs(row["main"]) < 0.02 for row in done])),
        "total_median_error": float(np.median([abs(row["total"]) for row in done])),
        "total_below_2_percent": float(np.mean([abs(row["total"]) < 0.02 for row in done])),
        "laterals_exact": float(np.mean([row["laterals"] == 0 for row in done])),
        "growth_median_error": float(np.median([row["growth"] for row in done])),
        "periods": len(periods),
        "period_of_24_h": float(np.mean([abs(period - 24) < 1e-6 for period in periods])),
    }


def main() -> None:
    """Measure all plants of a split and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with rsml/ and splits.json")
    parser.add_argument("--split", default="val", choices=("train", "val"), help="(default: val)")
    parser.add_argument("--out", type=Path, help="folder for the report")
    options = parser.parse_args()
    found = plants_of(options.root, options.split)
    rows = {
        "as annotated": [row_of(name, plant) for name, plant in found],
        "main root with laterals": [row_of(name, arranged(plant)) for name, plant in found],
    }
    groups = {name: summary(own) for name, own in rows.items()}
    command = f"python experiments/roots_growth.py --root DIR --split {options.split} --out docs/evidence"
    record = {"command": command, **provenance(["scikit-image", "networkx"]), "groups": groups, "rows": rows}
    lines = [
        "# Roots grown in silico",
        "",
        f"`{command}`",
        "",
        *table_lines(
            [
                "plants",
                "n",
                "main: median error",
                "< 2 %",
                "total: median error",
                "< 2 %",
                "number exact",
                "24 h",
            ],
            [
                [
                    name,
                    str(each["plants"]),
                    f"{100 * each['main_median_error']:.1f} %",
                    f"{100 * each['main_below_2_percent']:.0f} %",
                    f"{100 * each['total_median_error']:.1f} %",
                    f"{100 * each['total_below_2_percent']:.0f} %",
                    f"{100 * each['laterals_exact']:.0f} %",
                    f"{100 * each['period_of_24_h']:.0f} % of {each['periods']}",
                ]
                for name, each in groups.items()
            ],
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        write(options.out, "roots-growth_experiment", record, text)


if __name__ == "__main__":
    main()
