"""Scores as a result: files, words, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.results.scores import ScoreResult


def result(**changed: Any) -> ScoreResult:
    values: dict[str, Any] = {"scores": {"Mass": 0.25, "Pleural Effusion": 0.75}, "size": (8, 6)}
    values |= {"checkpoint": "classifier-x", "version": "1.0.0", "image": "in/a.png", "spacing_mm": None}
    return ScoreResult(**values | {"pixels": np.arange(48, dtype=np.float32).reshape(6, 8)} | changed)


def test_files_hold_the_scores(tmp_path: Path) -> None:
    paths = result(flags=("colour",)).save(tmp_path, ["json", "csv", "png"])
    assert [path.name for path in paths] == ["a.json", "a_scores.csv", "a_scores.png"]
    stored = json.loads(paths[0].read_text())
    assert stored["scores"] == {"Mass": 0.25, "Pleural Effusion": 0.75}
    assert stored["flags"] == ["colour"]
    with paths[1].open() as file:
        assert list(csv.reader(file))[1:] == [
            ["a.png", "Mass", "0.25"],
            ["a.png", "Pleural Effusion", "0.75"],
        ]


def test_it_tells_the_most_probable_finding_first() -> None:
    assert "Pleural Effusion 0.750, Mass 0.250" in repr(result())
    assert result()._repr_html_().startswith("<div")


def test_it_is_drawn_without_pixels_too() -> None:
    assert len(result(pixels=None).plot().axes) == 2


@pytest.mark.parametrize("scores", [{}, {"a": 1.2}, {"a": -0.1}, {"a": float("nan")}])
def test_what_is_no_probability_is_refused(scores: dict[str, float]) -> None:
    with pytest.raises(DataError, match="probabilities from 0 to 1"):
        result(scores=scores)


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scores have no format nifti; use json, csv, png"):
        result().save(tmp_path, ["nifti"])
