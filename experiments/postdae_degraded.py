"""Post-DAE on damaged masks of a validation split, kind by kind: what it restores and what it loses.

    python experiments/postdae_degraded.py postdae-hippocampus --root DIR --layout folder --out docs/evidence

Every mask is measured as it is and under each kind of damage of the training recipe, always the same, before
and after the repair, at the network's resolution: Dice and Hausdorff distance as means over the organs, in
millimetres where the spacing is known, and the number of parts that an organ is in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from comparing import Row, options_of, table_lines, write
from scipy.stats import wilcoxon

import anatozoo
from anatozoo.data.layouts.base import shown
from anatozoo.errors import DataError
from anatozoo.io.splits import refuse_dealt
from anatozoo.tasks.trials import Conditions, choose_cases, measured

CONFIGS = Path(anatozoo.__file__).parent / "methods" / "postdae" / "configs"


def side_of(row: Mapping[str, Any], organs: Sequence[str], when: str) -> Row:
    """Dice, Hausdorff distance and parts before or after, means over the organs that the truth has."""
    end = "_before" if when == "before" else ""
    # Where the truth has none, an organ is in neither mask, or invented.
    present = [o for o in organs if not (np.isnan(row[f"dice{end}/{o}"]) or row[f"invented{end}/{o}"])]
    unit = "mm" if f"hd_mm/{organs[0]}" in row else "px"
    result = {f"dice/{organ}": row[f"dice{end}/{organ}"] for organ in present}
    result["dice"] = float(np.mean(list(result.values())))
    result[f"hd_{unit}"] = float(np.mean([row[f"hd_{unit}{end}/{organ}"] for organ in present]))
    parts = [row[f"components{end}/{organ}"] for organ in present]
    result["components"] = float(np.nanmean(parts)) if not np.isnan(parts).all() else np.nan
    return {f"{metric} {when}": value for metric, value in result.items()}


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Means of the pairs, and the paired Wilcoxon signed-rank test of each metric."""
    metrics = [column.removesuffix(" before") for column in table if column.endswith(" before")]
    result: dict[str, Any] = {"n": len(table)}
    for metric in metrics:
        pair = table[[f"{metric} before", f"{metric} after"]].dropna()
        before, after = pair.to_numpy().T
        changed = bool((before != after).any())
        result[metric] = {
            "before": float(before.mean()),
            "after": float(after.mean()),
            "p": float(wilcoxon(after, before).pvalue) if changed else 1.0,
        }
    return result


def main() -> None:
    """Parse the options, measure, print and write."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("model", help="Post-DAE: a name or a folder")
    parser.add_argument("--layout", choices=("jsrt", "landmarks", "folder", "acdc"), required=True)
    parser.add_argument("--config", help="with the strengths of damage (default: that of the name)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = anatozoo.load(options.model)
    name = model.checkpoint_name
    recipe = yaml.safe_load((CONFIGS / (options.config or f"{name.partition('-')[2]}.yaml")).read_text())
    cases, lacking = choose_cases(model, options.root, options.layout, "val")
    if lacking:
        print(f"{lacking} of {len(cases) + lacking} cases lack an annotation of all organs.")
    refuse_dealt(cases, options.allow_dealt_split)
    trials = model.trials(cases, Conditions(degrade=recipe["data"].get("degrade", {})))
    measurements = list(measured(model, trials))
    failed = [f"{row['id']} ({row['error']})" for row in measurements if "error" in row]
    if failed:
        raise DataError(f"{len(failed)} of {len(trials)} masks cannot be measured: {shown(failed)}.")
    rows = [
        {"kind": row["degradation"]}
        | side_of(row, model.organs, "before")
        | side_of(row, model.organs, "after")
        for row in measurements
    ]
    table = pd.DataFrame(rows)
    results = {"all damaged": summary(table[table["kind"] != "clean"])}
    results |= {str(kind): summary(part) for kind, part in table.groupby("kind", sort=False)}
    command = f"python experiments/postdae_degraded.py {name} --root DIR --layout {options.layout}"
    command += " --allow-dealt-split" if options.allow_dealt_split else ""
    text = markdown(name, results, command + " --out docs/evidence")
    print(text)
    if options.out is not None:
        record = {"command": f"{command} --out docs/evidence", "split": "val", "kinds": results}
        write(options.out, f"{name}_degraded", record, text)


def markdown(name: str, results: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """The report as a page."""
    metrics = [metric for metric in next(iter(results.values())) if metric != "n"]
    lines = [f"# {name} on damaged masks, validation split", ""]
    lines += [f"Before → after, p of the paired Wilcoxon signed-rank test. `{command}`", ""]
    rows = []
    for kind, s in results.items():
        cells = [kind, str(s["n"])]
        for metric in metrics:
            a, b, p = (s[metric][key] for key in ("before", "after", "p"))
            digits = 3 if metric.startswith("dice") else 1
            cells.append(f"{a:.{digits}f} → {b:.{digits}f} (p {p:.1g})")
        rows.append(cells)
    return "\n".join([*lines, *table_lines(["damage", "n", *metrics], rows)]) + "\n"


if __name__ == "__main__":
    main()
