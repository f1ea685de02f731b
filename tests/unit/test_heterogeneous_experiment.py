"""The experiment on heterogeneous labels: its hospitals, how far codes keep them apart, its report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anatozoo.io.images import Image

EXPERIMENT = "heterogeneous_labels"


def codes(shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of 30 images in two looks, which differ by `shift` along one axis; looks, and images."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(60, 4))
    found[30:, 0] += shift
    return found, np.repeat((0, 1), 30), np.tile(np.arange(30), 2)


def test_codes_that_differ_are_told_apart_and_others_are_not(evidence: Any) -> None:
    far, near = evidence.apart(*codes(8.0)), evidence.apart(*codes(0.0))
    assert far["n"] == 60
    assert far["logistic"] == far["neighbours"] == 1
    assert far["silhouette"] > 0.2 > 0.05 > near["silhouette"]
    assert far["mmd_p"] == pytest.approx(1 / 1001)
    assert near["mmd_p"] > 0.05
    assert far["mmd2"] > 0.2 > 0.02 > abs(near["mmd2"])
    assert 0.25 < near["logistic"] < 0.75
    assert evidence.apart(*codes(8.0)[:2])["mmd_p"] == pytest.approx(1 / 1001)


def test_an_image_is_never_both_learnt_from_and_judged(evidence: Any) -> None:
    # The two codes of an image are alike, and far from all others: who has seen one knows the wrong look.
    random = np.random.default_rng(1)
    of = np.repeat(np.arange(20), 2)
    places = random.normal(size=(20, 3))[of] * 100 + random.normal(size=(40, 3)) * 1e-3
    group = np.tile((0, 1), 20)
    assert evidence.apart(places, group)["neighbours"] != evidence.apart(places, group, of)["neighbours"]


@pytest.mark.usefixtures("evidence")
def test_silhouettes_are_those_of_the_definition() -> None:
    from heterogeneous_codes import silhouette

    x, group = np.array([0.0, 1.0, 5.0, 7.0]), np.array([0, 0, 1, 1])
    distance = np.abs(x[:, None] - x[None])
    expected = [(6 - 1) / 6, (5 - 1) / 5, (4.5 - 2) / 4.5, (6.5 - 2) / 6.5]
    assert silhouette(distance, group) == pytest.approx(np.mean(expected))


@pytest.mark.usefixtures("evidence")
def test_the_other_look_keeps_the_place_of_everything() -> None:
    from heterogeneous_design import other_look

    grey = np.tile(np.linspace(0, 255, 200, dtype=np.float32), (160, 1))
    seen = other_look(Image(grey, (0.5, 0.5)))
    assert seen.pixels.shape == grey.shape
    assert seen.spacing_mm == (0.5, 0.5)
    assert not seen.pixels[:8].any()
    assert not seen.pixels[:, :10].any()
    inside = seen.pixels[60:150, 12:188]
    assert (np.diff(inside.mean(0)[::16]) > 0).all()  # bright stays bright
    assert np.abs(inside - grey[60:150, 12:188]).mean() > 10


def test_halves_are_dealt_by_name_and_hide_an_organ(evidence: Any) -> None:
    patients = [SimpleNamespace(id=f"p{number}") for number in range(9)]
    dealt = evidence.deal(patients)
    assert [len(members) for members in dealt.values()] == [4, 4]
    assert evidence.deal(patients[::-1]) == dealt
    assert not {p.id for p in dealt["A"]} & {p.id for p in dealt["B"]}


def a_run(evidence: Any, folder: Path, arm: str, seed: int, dice: float, **settings: Any) -> None:
    run = evidence.Run(arm, "heart", "B", seed)
    rows = [
        {"id": str(i), "look": look, "lungs": 0.9, "heart": dice if look == "B" else 0.9, "clavicles": 0.8}
        for look in "AB"
        for i in range(3)
    ]
    latent = {"n": 6, "logistic": 0.5, "neighbours": 0.5, "silhouette": 0.0, "mmd2": 0.0, "mmd_p": 0.5}
    record = {
        **run._asdict(),
        "settings": {"size": 256, "steps": 4, "batch": 8, "precision": "bf16-mixed"} | settings,
        "parameters": 1,
        "train_cpu_s": 1.0 + seed,
        "rows": rows,
        "unseen": latent,
        "trained": latent,
        "codes": np.random.default_rng(seed).normal(size=(6, 4)).tolist(),
    }
    (folder / run.file).write_text(json.dumps(record))


def test_the_report_has_means_over_runs_and_tests_against_hybridgnet(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, value in enumerate((0.90, 0.92, 0.94), 1):
        a_run(evidence, tmp_path, "hybridgnet", seed, value)
        a_run(evidence, tmp_path, "unet", seed, value - 0.85)
    given = ["x", "--root", "r", "--work", str(tmp_path), "--report", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*given, "--images", str(tmp_path)])
    evidence.main()
    record = json.loads((tmp_path / "out" / "heterogeneous-labels_experiment.json").read_text())
    graph, pixels = record["arms"]
    assert graph["heart in B"]["mean"] == pytest.approx(0.92)
    assert graph["heart in B"]["sd"] == pytest.approx(0.02)
    assert "p" not in graph["heart in B"]
    assert pixels["heart in B"]["mean"] == pytest.approx(0.07)
    assert pixels["heart in B"]["p"] < 1e-4
    assert "p" not in pixels["lungs in A"]  # runs that do not differ prove nothing
    text = (tmp_path / "out" / "heterogeneous-labels_experiment.md").read_text()
    assert "0.920 ± 0.020" in text
    assert (tmp_path / "heterogeneous-labels.png").stat().st_size > 5000
