"""The evidence of drawn shapes: distances to real ones, and the tables of a small model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import DataError
from anatozoo.methods.shapevae.model import ShapeVAEModel
from tests.support.chest_data import write_chest_data

EXPERIMENT = "shape_samples"


@pytest.fixture
def experiment(evidence: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evidence, "SAMPLES", 4)
    return evidence


def test_the_nearest_shape_is_measured_landmark_by_landmark(experiment: Any) -> None:
    shape = np.random.default_rng(0).uniform(0, 1024, (1, 5, 2))
    others = np.concatenate([shape + 100, shape + (3, 4)])
    assert experiment.nearest_px(shape, others) == pytest.approx([5.0])


def test_everything_is_measured_and_written(experiment: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    root = write_chest_data(tmp_path)
    model = ShapeVAEModel(latents=4, features=8, order=2)
    record = {"about": "A toy."} | experiment.measured(model, root, False)
    assert record["reconstruction"]["images"] == 5
    assert record["reconstruction"]["nearest_px_of_validation_shapes"]["median"] < 100
    assert {row["shapes"] for row in record["samples"].values()} == {4}
    # Untrained, the map is the identity: mapped or not, the same seed gives the same shapes.
    same = [row for name, row in record["samples"].items() if name.endswith("seed 0")]
    assert same[0] == same[1]
    assert "| real shapes of val | 5 |" in experiment.markdown(record)
    assert experiment.picture(model).startswith(b"\x89PNG")


def test_a_case_without_landmarks_is_named(experiment: Any, tmp_path: Path) -> None:
    from anatozoo.data.layouts.registry import find_cases

    cases = find_cases(write_chest_data(tmp_path), "jsrt", ["heart"], dims=2).complete(["heart"], "val")
    with pytest.raises(DataError, match="has no landmarks of aorta"):
        experiment.shapes_of(cases, ["heart", "aorta"])
