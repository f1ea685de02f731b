"""What the scripts of this folder share: the cases of a split, means over organs, paired tests, tables."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.data.case import Case as DataCase
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.splits import refuse_dealt
from anatozoo.metrics.cases import Case, Measures, case_row
from anatozoo.metrics.statistics import paired_test
from anatozoo.zoo.files import write_text

Row = dict[str, Any]
Labels = npt.NDArray[np.uint8]


def options_of(
    description: str | None, *, threads: int, on_split: bool = True, reports: bool = False
) -> argparse.ArgumentParser:
    """A parser of the options that scripts share.

    Args:
        description: of the script.
        threads: of torch.
        on_split: it measures a split, and may be allowed to measure a dealt one.
        reports: it may report what there is, without data.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=not reports, help="folder of the data")
    parser.add_argument("--threads", type=int, default=threads, help=f"of torch (default: {threads})")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    if on_split:
        parser.add_argument("--allow-dealt-split", action="store_true", help="also if no list names it")
    return parser


def validation_cases(
    root: Path, layout: str, organs: Sequence[str], dims: int, allow_dealt: bool, fewest: int = 1
) -> list[DataCase]:
    """The validation split.

    Raises:
        DataError: it has too few cases, or no list says which they are.
    """
    cases = find_cases(root, layout, organs, dims=dims).complete(organs, "val")
    if len(cases) < fewest:
        raise DataError(f"{root}: the validation split has {len(cases)} cases; {fewest} are needed.")
    refuse_dealt(cases, allow_dealt)
    return cases


def largest_parts(labels: Labels, count: int) -> Labels:
    """Each organ of a label map without what hangs apart from its largest part, and without holes.

    What needs no prior. Parts touch by corners too; holes of volumes are filled slice by slice.

    Args:
        labels: (H, W) or (D, H, W), 0 for background.
        count: of the organs.
    """
    from scipy.ndimage import binary_fill_holes, label

    kept, filled = {}, {}
    for value in range(1, count + 1):
        parts, number = label(labels == value, np.ones((3,) * labels.ndim))
        if number:
            kept[value] = parts == np.bincount(parts[parts > 0]).argmax()
            planes = kept[value] if labels.ndim == 3 else kept[value][None]
            filled[value] = np.stack([binary_fill_holes(plane) for plane in planes]).reshape(labels.shape)
    found = np.zeros_like(labels)
    # A hole in the ventricle is also within the ring around it: the innermost organ has it.
    for value in sorted(filled, key=lambda each: -np.count_nonzero(filled[each])):
        found[filled[value] & (labels == 0)] = value
    for value, mask in kept.items():
        found[mask] = value
    return found


def check_names(names: Sequence[str]) -> None:
    """Refuse two models of one name, whose rows could not be told apart.

    Raises:
        ConfigError: so it is.
    """
    if len(set(names)) < len(names):
        raise ConfigError(f"two of the models have the same name: {', '.join(names)}.")


def averaged(case: Case, organs: Sequence[str], metrics: Sequence[str]) -> Row:
    """Metrics of a case, each on average over the organs and of each organ; no parts are counted."""
    measured = case_row(case, Measures(plausibility=False))
    row: Row = {}
    for metric in metrics:
        values = {f"{metric}/{organ}": float(measured[f"{metric}/{organ}"]) for organ in organs}
        row |= {metric: float(np.mean(list(values.values())))} | values
    return row


def columns_of(organs: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Metrics, each over all organs and of each organ."""
    return [f"{metric}{part}" for metric in metrics for part in ("", *(f"/{organ}" for organ in organs))]


def paired(difference: Any, clusters: Sequence[object] | None = None) -> dict[str, float]:
    """The paired Wilcoxon signed-rank test of differences, and their mean with its interval."""
    test = paired_test(np.asarray(difference), clusters)
    return {key: getattr(test, key) for key in ("n", "difference", "ci_low", "ci_high", "p")}


def p_over_runs(differences: Sequence[float] | Any) -> float | None:
    """P of the paired t-test over runs, from their differences; None of fewer than two, or of equal ones.

    Label maps that are the same differ by rounding alone, which would make a tiny p of nothing.
    """
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or np.ptp(differences) < 1e-9:
        return None
    return float(ttest_1samp(differences, 0).pvalue)


def p_cell(p: float | None) -> str:
    """A cell of a table, such as ``0.012``, from what `p_over_runs` gives."""
    return "–" if p is None else f"{p:.2g}"


def spread_of(values: Sequence[float] | Any) -> float | None:
    """Standard deviation over runs; None of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def summary_of(values: Sequence[float] | Any) -> dict[str, Any]:
    """Mean, standard deviation and values of runs."""
    found = np.asarray(values, float)
    return {"mean": float(found.mean()), "sd": spread_of(found), "values": found.tolist()}


def mean_and_spread(summary: Mapping[str, Any], digits: int) -> str:
    """A cell of a table, such as ``0.812 ± 0.004``, from a summary of runs."""
    spread = "" if summary["sd"] is None else f" ± {summary['sd']:.{digits}f}"
    return f"{summary['mean']:.{digits}f}{spread}"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def write(folder: Path, name: str, record: Mapping[str, Any], text: str) -> None:
    """Write ``NAME.json`` and ``NAME.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
    write_text(folder / f"{name}.md", text)
