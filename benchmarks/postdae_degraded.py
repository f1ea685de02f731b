"""Post-DAE on damaged masks of a validation split, kind by kind: what it restores and what it loses.

    python benchmarks/postdae_degraded.py postdae-hippocampus --root DIR --layout folder --out docs/evidence

Every mask is measured as it is and under each kind of damage of the training recipe, always the same, before
and after the repair, at the network's resolution: Dice and Hausdorff distance as means over the organs, in
millimetres where the spacing is known, and the number of parts that an organ is in.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.stats import wilcoxon

import anatozoo
from anatozoo.frames.planes import in_one_part, largest_plane
from anatozoo.io.annotation import Annotation
from anatozoo.io.splits import refuse_dealt
from anatozoo.methods.postdae.corruptions import largest
from anatozoo.methods.postdae.data import PostDAEDataModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.metrics.cases import Case, case_row

CONFIGS = Path(anatozoo.__file__).parent / "methods" / "postdae" / "configs"


def data_of(
    model: PostDAEModule, config: str, root: Path, layout: str, allow_dealt: bool = False
) -> PostDAEDataModule:
    """Every validation mask under every kind of damage, at the strengths of a configuration.

    Raises:
        DataError: no list says which masks these are.
    """
    recipe = yaml.safe_load((CONFIGS / config).read_text())["data"]
    data = PostDAEDataModule(
        root=str(root),
        layout=layout,
        organs=model.organs,
        degrade=recipe.get("degrade", {}),
        frame=model.frame,
    )
    data.setup("validate")
    refuse_dealt(data.sets["val"].masks.cases, allow_dealt)
    return data


def row_of(labels: np.ndarray, truth: np.ndarray, organs: Sequence[str], spacing: Any) -> dict[str, float]:
    """Dice, Hausdorff distance and parts of one mask, means over the organs that the truth has."""
    present = [organ for value, organ in enumerate(organs, start=1) if (truth == value).any()]
    sides = []
    for array in (labels, truth):
        annotation = Annotation.from_labels(array, organs, spacing)
        masks = {organ: annotation.masks[organ] for organ in present}
        sides.append(Annotation(annotation.size, masks=masks, spacing_mm=spacing))
    row = case_row(Case(*sides))
    unit = "px" if spacing is None else "mm"
    result = {f"dice/{organ}": row[f"dice/{organ}"] for organ in present}
    result["dice"] = float(np.mean(list(result.values())))
    result[f"hd_{unit}"] = float(np.mean([row[f"hd_{unit}/{organ}"] for organ in present]))
    parts = [row[f"components/{organ}"] for organ in present]
    result["components"] = float(np.nanmean(parts)) if not np.isnan(parts).all() else np.nan
    return result


@torch.inference_mode()
def rows(model: PostDAEModule, items: Iterable[tuple[str, Mapping[str, torch.Tensor]]]) -> pd.DataFrame:
    """Before and after of every item, two columns a metric, with its ``kind``."""
    found = []
    for kind, item in items:
        noisy, spacing = item["noisy"], item["spacing_mm"]
        in_mm = None if spacing.isnan().any() else tuple(spacing.tolist())
        probability = model(noisy[None]).softmax(1)[0].numpy()
        after = largest_plane(list(in_one_part(probability, model.behind)))
        truth = largest(item["clean"][None])[0].numpy()
        before = largest(noisy[None])[0].numpy()
        row = {"kind": kind}
        for when, labels in (("before", before), ("after", after)):
            values = row_of(labels, truth, model.organs, in_mm)
            row |= {f"{metric} {when}": value for metric, value in values.items()}
        found.append(row)
    return pd.DataFrame(found)


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="Post-DAE: a name or a folder")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--layout", choices=("jsrt", "landmarks", "folder", "acdc"), required=True)
    parser.add_argument("--config", help="with the strengths of damage (default: that of the name)")
    parser.add_argument("--out", type=Path, help="folder for the report")
    parser.add_argument("--allow-dealt-split", action="store_true", help="also if no list names it")
    options = parser.parse_args()

    model = anatozoo.load(options.model)
    name = model.checkpoint_name
    config = options.config or f"{name.partition('-')[2]}.yaml"
    items = data_of(model, config, options.root, options.layout, options.allow_dealt_split).sets["val"]
    table = rows(model, ((items.kind(index), items[index]) for index in range(len(items))))
    results = {"all damaged": summary(table[table["kind"] != "clean"])}
    results |= {str(kind): summary(part) for kind, part in table.groupby("kind", sort=False)}
    command = f"python benchmarks/postdae_degraded.py {name} --root DIR --layout {options.layout}"
    command += " --allow-dealt-split" if options.allow_dealt_split else ""
    text = markdown(name, results, command + " --out docs/evidence")
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        record = {"command": f"{command} --out docs/evidence", "split": "val", "kinds": results}
        path = options.out / f"{name}_degraded.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        path.with_suffix(".md").write_text(text)


def markdown(name: str, results: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """The report as a page."""
    metrics = [metric for metric in next(iter(results.values())) if metric != "n"]
    lines = [f"# {name} on damaged masks, validation split", ""]
    lines += [f"Before → after, p of the paired Wilcoxon signed-rank test. `{command}`", ""]
    lines += ["| " + " | ".join(["damage", "n", *metrics]) + " |", "|" + "---|" * (2 + len(metrics))]
    for kind, s in results.items():
        cells = [kind, str(s["n"])]
        for metric in metrics:
            a, b, p = (s[metric][key] for key in ("before", "after", "p"))
            digits = 3 if metric.startswith("dice") else 1
            cells.append(f"{a:.{digits}f} → {b:.{digits}f} (p {p:.1g})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
