"""AUC and calibration of findings over the rows of an evaluation."""

import numpy as np
import pytest

from anatozoo.metrics.calibration import ece
from anatozoo.metrics.classification import auc, finding_numbers
from anatozoo.metrics.tables import markdown, summarise

COLUMNS = {"Mass": ("Mass", "score/Mass"), "Edema": ("Edema", "score/Edema")}


def rows(n: int = 40) -> list[dict[str, object]]:
    draw = np.random.default_rng(0)
    found = []
    for number in range(n):
        there = float(number % 2)
        score = float(1 / (1 + np.exp(-draw.normal(2 * there - 1))))
        found.append({"id": str(number), "patient": f"p{number // 2}", "Mass": there, "score/Mass": score})
        found[-1] |= {"Edema": 0.0, "score/Edema": 0.1}
    found[0]["Mass"] = float("nan")  # not known
    return found


def test_numbers_are_those_of_the_rows_that_are_known() -> None:
    found = finding_numbers(rows(), COLUMNS)
    known = rows()[1:]
    y, p = (np.array([row[name] for row in known], float) for name in COLUMNS["Mass"])
    mass = found["Mass"]
    assert (mass["images"], mass["with"], mass["patients"]) == (39, 20, 20)
    assert mass["auc"] == pytest.approx(auc(y, p))
    assert mass["ece"] == pytest.approx(ece(p, y.astype(int)))
    assert mass["ci_low"] < mass["auc"] < mass["ci_high"]


def test_a_finding_that_no_image_has_is_named_without_an_auc() -> None:
    found = finding_numbers(rows(), COLUMNS)
    assert found["Edema"]["auc"] is None
    assert found["Edema"]["images"] == 40
    about = {"command": "c", "versions": {}, "checkpoint": "x", "version": "1", "data": "d", "split": "val"}
    lines = markdown(summarise(rows()) | about | {"findings": found}).splitlines()
    assert any(line.startswith("| Edema") and "not defined" in line for line in lines)
