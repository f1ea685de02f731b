"""Words and digits for people who do not know our columns."""

from __future__ import annotations

import math

SEX_WORDS = {"M": "male patients", "F": "female patients", "O": "patients of another sex"}
_KINDS = {
    "dice": "Dice",
    "nsd": "Surface Dice",
    "hd": "Hausdorff distance",
    "hd95": "95 % Hausdorff distance",
    "assd": "Mean surface distance",
    "mse": "Mean squared landmark error",
    "error": "Mean landmark error",
    "error95": "95 % landmark error",
    "missed": "Share of missed organs",
    "invented": "Share of invented organs",
}
_SCORES = {
    "auc": "AUC",
    "ece": "Calibration error",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_UNITS = {"mm": "mm", "px": "px", "px2": "px²", "percent": "%"}
_ORGANS = {
    "lungs": "the lungs",
    "clavicles": "the clavicles",
    "heart": "the heart",
    "lung_right": "the right lung",
    "lung_left": "the left lung",
    "clavicle_right": "the right clavicle",
    "clavicle_left": "the left clavicle",
}


def metric_words(metric: str) -> str:
    """A column in words: ``hd_mm/heart`` is "Hausdorff distance of the heart (mm)"; else its own name."""
    kind, slash, organ = metric.partition("/")
    if slash and kind in _SCORES:
        return f"{_SCORES[kind]} of {organ}"
    name, _, unit = kind.rpartition("_")
    if unit not in _UNITS:
        name, unit = kind, ""
    # What follows the metric says where it comes from, such as "rca".
    name, _, source = name.partition("_")
    if name not in _KINDS:
        return metric
    where = f" of {_ORGANS.get(organ, organ.replace('_', ' '))}" if slash else ""
    remarks = [word for word in (source.replace("_", " "), _UNITS.get(unit, "")) if word]
    return f"{_KINDS[name]}{where}" + (f" ({', '.join(remarks)})" if remarks else "")


def group_words(grouping: str, group: str) -> str:
    """A group in words: "female patients", "patients aged 65+", "view PA"."""
    if "×" in grouping:
        return group
    if grouping.lower() in ("sex", "gender", "patientsex"):
        return SEX_WORDS.get(group, f"{grouping} {group}")
    if "age" in grouping.lower().split("_"):
        return f"patients aged {group}"
    return f"{grouping} {group}"


def digits_of(metric: str) -> int:
    """Decimals that a metric deserves: shares have three, distances two."""
    kind = metric.split("/")[0]
    return 2 if kind.endswith(tuple(f"_{unit}" for unit in _UNITS)) else 3


def number(value: float, metric: str, *, sign: bool = False) -> str:
    """A value of a metric, with its sign where that is meant; "–" for NaN."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    # A minus as wide as a plus; and no "−0.000".
    text = f"{value:+.{digits_of(metric)}f}" if sign else f"{value:.{digits_of(metric)}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def span(low: float, high: float, metric: str, *, sign: bool = False) -> str:
    """An interval, "a to b"; "–" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return "–"
    return f"{number(low, metric, sign=sign)} to {number(high, metric, sign=sign)}"


def p_value(p: float) -> str:
    """A p-value with the digits that it deserves; "–" for NaN."""
    if math.isnan(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def ratio(value: float) -> str:
    """A ratio with two decimals; "∞" where a group is without error."""
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def listing(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""  # noqa: D210
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
