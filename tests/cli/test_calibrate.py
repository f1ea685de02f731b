"""The temperature of a segmenter: fitted, stored, and honoured by what reads probabilities."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.model import AcnnModel
from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.methods.unet.model import UNetModel
from anatozoo.metrics.functional import ece, nll
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.temperature import Calibrations, Probabilities, TemperatureFit, checked_temperature
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from tests.support.heart_data import write_hearts


def by_grey(levels: list[float]) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """A forward that takes each pixel for the label with the nearest grey value, far too surely."""

    def forward(self: Any, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([-800 * (image - level).square() for level in levels], 1)

    return forward


@pytest.fixture(autouse=True)
def _networks_that_know_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNetModel, "forward", by_grey([0, 0.4, 1]))
    monkeypatch.setattr(AcnnModel, "forward", by_grey([0, 0.9, 0.3, 1]))


def stored(model: Predictor, folder: Path, name: str) -> Path:
    return write_checkpoint_folder(model, folder / name, name=name, version="1.0.0", half=False)


Setup = Callable[[Path], tuple[Path, list[str]]]


def flat_case(tmp_path: Path) -> tuple[Path, list[str]]:
    root, draw = tmp_path / "data", np.random.default_rng(0)
    for folder in ("images", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    labels = np.zeros((40, 56), np.uint8)
    labels[8:30, 8:40], labels[18:34, 20:30] = 1, 2
    for name in "abcd":
        grey = np.array([30, 110, 230])[labels] + draw.normal(0, 18, labels.shape)
        cv2.imwrite(str(root / "images" / f"{name}.png"), grey.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), labels)
    for split, names in {"train": "ab", "val": "cd"}.items():
        (root / "splits" / f"{split}.txt").write_text("\n".join(names) + "\n")
    model = UNetModel(["lungs", "heart"], FrameSpec(64), decoder_widths=[4] * 5)
    data = ["--data", "folder", "--root", str(root), "--labels", "lungs=1,heart=2"]
    return stored(model, tmp_path, "unet-toy"), data


def deep_case(tmp_path: Path) -> tuple[Path, list[str]]:
    root = write_hearts(tmp_path / "data", {"train": [1], "val": [2]}, spacing=(1.0, 1.0, 2.0))
    frame = FrameSpec([8, 32, 32], "slices", long_side=40)
    model = AcnnModel(frame=frame, architecture="dynunet", widths=[4, 4, 4])
    return stored(model, tmp_path, "acnn-toy"), ["--data", "acdc", "--root", str(root)]


@pytest.mark.parametrize("setup", [flat_case, deep_case])
def test_the_number_is_stored_and_evaluations_use_it(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = setup(tmp_path)
    model = anatozoo.load(folder, trainable=False)
    picture = (np.random.default_rng(0).random((24,) * len(model.shape)) * 255).astype(np.uint8)
    write_golden(model, picture, folder)
    to = tmp_path / "after" / folder.name
    assert main(["calibrate", str(folder), *data, "--to", str(to), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cases"] == 2
    assert said["after"]["nll"] < said["before"]["nll"]
    settings = json.loads((to / "config.json").read_text())["settings"]
    assert settings["temperature"] == pytest.approx(said["temperature"], abs=1e-4) != 1
    assert json.loads((folder / "config.json").read_text())["settings"]["temperature"] == 1
    mine, copy = (load_file(each / "model.safetensors") for each in (folder, to))
    assert all(torch.equal(mine[key], copy[key]) for key in mine)
    after = anatozoo.load(to, trainable=False)
    assert np.array_equal(model.predict(picture).mask, after.predict(picture).mask)
    assert run_golden(after, to).difference == 0
    sharp, soft = (each.probabilities(picture).at() for each in (model, after))
    assert not np.allclose(sharp, soft)
    np.testing.assert_allclose(after.probabilities(picture).at(1.0), sharp, atol=1e-6)

    numbers = {}
    for name, path in (("before", folder), ("after", to)):
        out = tmp_path / f"out-{name}"
        assert main(["evaluate", str(path), *data, "--calibration", "--out", str(out), "--json"]) == 0
        numbers[name] = json.loads(capsys.readouterr().out)
        assert [p.read_bytes()[:4] for p in out.glob("*_reliability.png")] == [b"\x89PNG"]
    shown = numbers["after"]
    assert {"ece", "ece_plus", "brier", "brier_plus", "nll"} <= set(shown["metrics"])
    assert shown["metrics"]["nll"]["mean"] < numbers["before"]["metrics"]["nll"]["mean"]
    assert "--calibration" in shown["command"]
    curves = shown["calibration"]["curves"]
    assert [(c["pixels"], c["temperature"] == 1) for c in curves] == [
        ("all", True), ("foreground", True), ("all", False), ("foreground", False)
    ]  # fmt: skip
    assert len(numbers["before"]["calibration"]["curves"]) == 2
    assert curves[0]["ece"] == numbers["before"]["calibration"]["curves"][0]["ece"]


def test_cases_without_a_pixel_of_an_organ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = flat_case(tmp_path)
    for path in (tmp_path / "data" / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 56), np.uint8))
    assert main(["evaluate", str(folder), *data, "--calibration", "--out", str(tmp_path), "--json"]) == 0
    curves = json.loads(capsys.readouterr().out)["calibration"]["curves"]
    assert curves[0]["ece"] > 0
    assert curves[1]["ece"] is None
    assert list(tmp_path.glob("*_reliability.png"))


def test_a_target_that_is_no_folder_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = flat_case(tmp_path)
    (tmp_path / "data" / "masks" / "c.png").write_bytes(b"no picture")
    (tmp_path / "file").touch()
    for to in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["calibrate", str(folder), *data, "--to", str(to)]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_what_cannot_be_calibrated_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = flat_case(tmp_path)
    to = tmp_path / "to"

    def refused(name: Path | str, *words: str) -> str:
        assert main(["calibrate", str(name), *data, "--to", str(to), *words]) == 1
        assert not to.exists()
        return capsys.readouterr().err

    assert "--allow-train" in refused(folder, "--split", "train")
    assert "split 'test'" in refused(folder, "--split", "test")
    assert "anatozoo export" in refused("run.ckpt")
    other = stored(AcRegNetModel(["lungs", "heart"], FrameSpec(64)), tmp_path, "acregnet-toy")
    assert "no temperature" in refused(other)
    third = stored(UNetModel(organs=["x", "y"], frame=FrameSpec(64)), tmp_path, "unet-third")
    assert main(["calibrate", str(folder), *data, "--to", str(third)]) == 1
    assert "holds the checkpoint unet-third" in capsys.readouterr().err
    assert main(["calibrate", str(folder), *data, "--to", str(to), "--split", "train", "--allow-train"]) == 0
    for wrong in (0, -1.0, float("nan"), float("inf"), "2", True):
        with pytest.raises(ConfigError, match="temperature="):
            checked_temperature(wrong)
    with pytest.raises(ConfigError, match="temperature=0"):
        UNetModel(temperature=0)
    with pytest.raises(ConfigError, match="does not use --calibration"):
        raise_of(["evaluate", str(other), *data, "--calibration"])


def raise_of(words: list[str]) -> None:
    import argparse

    from anatozoo.cli import evaluate

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    evaluate.run(parser.parse_args(words[1:]))


def given(logits: np.ndarray, temperature: float = 1.0) -> Probabilities:
    return Probabilities(torch.from_numpy(logits).float(), temperature, lambda labels: labels)


def test_the_fit_finds_the_temperature_that_made_the_labels() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (3, 150, 200))
    p = np.exp(logits) / np.exp(logits).sum(0)
    labels = (draw.random((150, 200)) > p.cumsum(0)).sum(0).clip(0, 2).astype(np.uint8)
    fit = TemperatureFit()
    fit.add("a", given(2.5 * logits), labels)
    found = fit.fit()
    assert found.temperature == pytest.approx(2.5, rel=0.03)
    assert (found.cases, found.pixels) == (1, 30000)
    assert found.after["ece"] < 0.02 < found.before["ece"]
    tempered = given(2.5 * logits, found.temperature).at()
    assert found.after["nll"] == pytest.approx(nll(tempered, labels), rel=1e-5)


def test_pixels_beyond_the_image_do_not_count_and_a_perfect_model_has_no_temperature() -> None:
    logits = np.zeros((2, 4, 6))
    logits[1, :2] = 9
    labels = (logits[1] > 0).astype(np.uint8)
    half = Probabilities(torch.from_numpy(logits).float(), 1.0, lambda x: np.where(np.arange(6) < 3, x, 0))
    truth, beyond = half.truth(labels)
    assert beyond.sum() == 12
    both = Calibrations()
    numbers = both.add(half, labels)
    assert numbers["ece"] == pytest.approx(ece(half.at()[:, :, :3], truth[:, :3], bins=10))
    assert both.record()["curves"][0]["counts"] == [0, 0, 0, 0, 0, 6, 0, 0, 0, 6]
    fit = TemperatureFit()
    sure = np.stack([-logits[1] + 4, logits[1] - 4])
    fit.add("a", given(sure), labels)
    with pytest.raises(anatozoo.errors.DataError, match="no temperature between"):
        fit.fit()
    with pytest.raises(anatozoo.errors.DataError, match="no case"):
        TemperatureFit().fit()


def test_independent_organs_are_divided_before_the_sigmoid() -> None:
    frame, widths = FrameSpec(64), [4] * 5
    model = UNetModel(["lungs", "heart"], frame, decoder_widths=widths, output="organs", temperature=2.0)
    model.forward = lambda image: 8 * torch.cat([image - 0.5, image - 0.8], 1)  # type: ignore[method-assign]
    picture = (np.random.default_rng(0).random((40, 30)) * 255).astype(np.uint8)
    found = model.probabilities(picture)
    heart = (found.scores[1] / 2).sigmoid().numpy()
    np.testing.assert_allclose(found.at()[2], heart, atol=1e-6)
    np.testing.assert_allclose(found.at().sum(0), 1, atol=1e-5)
