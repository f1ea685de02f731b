"""The evidence of uncertainty on two phantoms: damage, statistics, tables and figure."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.io.images import Image
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from tests.support.chest_data import write_chest_data

EXPERIMENT = "uncertainty_evidence"


@pytest.fixture
def jsrt(tmp_path: Path) -> Path:
    """Two radiographs of the validation split, with their landmarks."""
    return write_chest_data(tmp_path / "data", {"val": 2}, side=256)


def test_damage_is_where_it_should_be(evidence: Any) -> None:
    image = Image(np.random.default_rng(0).random((200, 160), np.float32))
    found = list(evidence.pictures(image, "a", 2))
    assert [kind for kind, _, _ in found].count("occlusion") == 2 * len(evidence.LEVELS["occlusion"])
    for kind, level, picture in found:
        changed = (picture.pixels != image.pixels).mean()
        if kind == "none":
            assert changed == 0
        elif kind in ("blur", "noise"):
            assert changed > 0.99
        else:
            side = level if kind == "occlusion" else evidence.BLURRED_SIDE
            assert changed == pytest.approx((side / 1024 * 200) ** 2 / image.pixels.size, rel=0.1)
    again = list(evidence.pictures(image, "a", 2))
    assert all(np.array_equal(a[2].pixels, b[2].pixels) for a, b in zip(found, again, strict=True))


def test_statistics(evidence: Any) -> None:
    x = np.array([1.0, 2.0, 3.0, 10.0])
    assert evidence.spearman(x, x**3) == pytest.approx(1)
    assert evidence.pearson(x, -x) == pytest.approx(-1)
    assert math.isnan(evidence.pearson(x, np.ones(4)))
    assert evidence.auc(np.array([False, False, True, True]), x) == 1
    assert evidence.auc(np.array([True, False, False, True]), x) == 0.5
    assert evidence.auc(np.array([True, False, False, True]), x > 9) == 0.75
    assert math.isnan(evidence.auc(np.zeros(4, bool), x))
    assert evidence.with_interval(evidence.auc, np.zeros(4, bool), x, list("abcd")) is None
    found = evidence.with_interval(evidence.spearman, x, np.array([1.0, 3.0, 2.0, 4.0]), list("abcd"))
    assert found["value"] == pytest.approx(0.8)
    assert found["ci_low"] < 0.8 < found["ci_high"] == 1


def test_a_run_writes_its_record(
    evidence: Any, jsrt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = HybridGNetModel("lungs_heart", FrameSpec(64), latents=8, features=8).eval()
    monkeypatch.setattr("anatozoo.load", lambda name, **options: model)
    monkeypatch.setattr(
        evidence, "LEVELS", {"occlusion": (256,), "local blur": (8,), "blur": (8,), "noise": (0.2,)}
    )
    monkeypatch.setattr(evidence, "RESAMPLES", 20)
    out = tmp_path / "out"
    command = [
        "--root",
        str(jsrt),
        "--model",
        "toy",
        "--out",
        str(out),
        "--samples",
        "4",
        "--layouts",
        "jsrt",
    ]
    evidence.main([*command, "--positions", "1"])
    record = json.loads((out / "untrained_uncertainty_experiment.json").read_text())
    every = record["groups"]["all"]
    assert (every["pictures"], every["images"], every["failures"]) == (10, 2, 10)
    assert every["sigma_px"]["median"] > 0
    assert every["auroc_sigma"] is None  # an untrained network fails everywhere
    assert -1 <= every["spearman_error"]["value"] <= 1
    assert record["groups"]["clean"]["pictures"] == 2
    assert [level["pictures"] for level in record["levels"]] == [2] * 5
    text = (out / "untrained_uncertainty_experiment.md").read_text()
    assert "| clean and noise" in text
    assert "--positions 1 --layouts jsrt" in text
    with PIL.Image.open(out / "untrained_uncertainty_experiment.png") as drawn:
        assert drawn.size[0] > 1000
