"""Findings of images, yes or no, as the facts of cases state them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from anatozoo.data.case import METADATA, Case
from anatozoo.errors import ConfigError, DataError
from anatozoo.text import alike

LISTED = "findings"
"""The fact that lists what an image shows, such as ``Mass|Nodule``; what it does not list is not there."""
SCORE = "score/"
"""What stands before a finding in the name of the column of its probability."""
TAKEN = (
    *("id", "patient", "subject", "split", "dataset", "domain", "image", "file", "error", "epoch", "step"),
    *("nll", "brier", "ece", LISTED, *METADATA),
)
"""Names of columns beside those of findings."""
_YES = frozenset(("1", "1.0", "true", "yes", "y", "positive"))
_NO = frozenset(("0", "0.0", "false", "no", "n", "negative"))
_UNKNOWN = frozenset(("", "-1", "-1.0", "nan", "na", "n/a", "none", "?", "unknown", "uncertain"))


def check_findings(findings: Sequence[str]) -> list[str]:
    """The names of findings, if they can name columns.

    Raises:
        ConfigError: there is none, one is there twice, or it is the name of another column.
    """
    names = [findings] if isinstance(findings, str) else list(findings)
    keys = [column_key(name) for name in names]
    if not names or not all(keys):
        raise ConfigError(f"findings={names} must name at least one finding, such as [nodule].")
    if double := [name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1]:
        raise ConfigError(f"findings={names}: {double[0]} is there twice.")
    if wrong := [name for name, key in zip(names, keys, strict=True) if key in TAKEN or "/" in name]:
        raise ConfigError(
            f"a finding cannot be called {wrong[0]!r}, which names another column of tables or holds a slash."
        )
    return names


def finding_of(case: Case, finding: str) -> float:
    """Whether a case shows a finding: 1 or 0, NaN where nobody says so, or not surely.

    A column of the finding's name holds 1 or 0, yes or no, or nothing; -1, which CheXpert writes for what is
    uncertain, counts as unknown. Without such a column the list `LISTED` decides. Capitals and underscores
    do not matter in names.

    Raises:
        DataError: the cell says something else.
    """
    key = column_key(finding)
    facts = {column_key(name): value for name, value in case.facts.items()}
    if key in facts:
        text = str(facts[key]).strip().lower()
        if text in _YES or text in _NO:
            return float(text in _YES)
        if text in _UNKNOWN:
            return math.nan
        raise DataError(f"{case.id}: {finding} is {facts[key]!r}; write 1 or 0, or nothing where unknown.")
    if LISTED in facts:
        return float(key in {column_key(name) for name in str(facts[LISTED]).split("|")})
    return math.nan


def check_known(cases: Sequence[Case], findings: Sequence[str], where: Any) -> None:
    """Make sure that some case says something about each finding.

    Args:
        cases: the cases.
        findings: names.
        where: of the data, for the message.

    Raises:
        DataError: none does; the message has the name that may be meant.
    """
    columns = list(dict.fromkeys(name for case in cases for name in case.facts))
    listed = dict.fromkeys(n.strip() for case in cases for n in str(case.facts.get(LISTED, "")).split("|"))
    for finding in findings:
        if any(not math.isnan(finding_of(case, finding)) for case in cases):
            continue
        near = alike(finding, [*columns, *listed])
        hint = f"did you mean {near}?" if near else f"there are {', '.join(columns) or 'no further columns'}."
        raise DataError(f"{where}: no image has 0 or 1 for {finding}; {hint}")


def truths_of(cases: Sequence[Case], findings: Sequence[str]) -> list[list[float]]:
    """`finding_of` for each case and finding.

    Raises:
        DataError: a cell cannot be read.
    """
    return [[finding_of(case, finding) for finding in findings] for case in cases]


def column_key(name: str) -> str:
    """The name of a column or a finding without capitals and underscores, which do not matter."""
    return " ".join(str(name).replace("_", " ").lower().split())


def as_numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Probabilities by finding as columns, ``score/FINDING``."""
    return {f"{SCORE}{finding}": value for finding, value in values.items()}
