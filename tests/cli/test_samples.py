"""`--samples` of `anatozoo predict` and `anatozoo evaluate`, with a small HybridGNet."""

import csv
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from anatozoo.cli.main import main
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotations import find_annotations
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.methods.unet.model import UNetModel
from tests.support.chest_data import write_chest_data

NAMES = ("JPCLN001", "JPCLN002")


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> HybridGNetModel:
    torch.manual_seed(0)
    model = HybridGNetModel("lungs_heart", FrameSpec(64), latents=8, features=8).eval()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: deepcopy(model))
    return model


@pytest.fixture
def jsrt(tmp_path: Path) -> Path:
    return write_chest_data(tmp_path / "data", {"val": len(NAMES)}, side=256)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_sigma_to_all_its_files(
    jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    command = ["predict", "toy", str(jsrt / "images"), "--out", str(out), "--format", "png,json,csv"]
    assert main([*command, "--samples", "8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    values = json.loads((out / "JPCLN001.json").read_text())
    assert values["samples"] == 8
    assert np.shape(values["sigma"]["heart"]) == (26, 2)
    [first, _] = rows_of(out / "manifest.csv")
    assert float(first["sigma_px"]) == pytest.approx(values["sigma_px"], rel=1e-4)
    assert printed["images"][0]["sigma_px"] == float(first["sigma_px"]) > 0
    landmarks = rows_of(out / "JPCLN001_landmarks.csv")
    spread = [float(row[name]) for row in landmarks for name in ("sigma_x_px", "sigma_y_px")]
    assert np.mean(spread) == pytest.approx(values["sigma_px"], rel=1e-4)
    with_bands = (out / "JPCLN001_overlay.png").read_bytes()
    # Another number of samples is another result; none at all too.
    assert main([*command, "--samples", "8"]) == 0
    assert "0 segmented, 2 done already" in capsys.readouterr().out
    assert main([*command, "--samples", "9"]) == 0
    assert "2 segmented" in capsys.readouterr().out
    assert main(command) == 0
    assert "2 segmented" in capsys.readouterr().out
    assert "sigma_px" not in rows_of(out / "manifest.csv")[0]
    assert "sigma" not in json.loads((out / "JPCLN001.json").read_text())
    assert (out / "JPCLN001_overlay.png").read_bytes() != with_bands


def test_a_run_with_a_mask_decoder_writes_both_masks(
    jsrt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    dual = HybridGNetModel("lungs_heart", FrameSpec(64), latents=8, features=8, mask_decoder="code").eval()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: deepcopy(dual))
    out = tmp_path / "out"
    command = ["predict", "toy", str(jsrt / "images"), "--out", str(out), "--format", "png,json"]
    assert main(command) == 0
    listed = rows_of(out / "manifest.csv")[0]["outputs"].split(";")
    assert {"JPCLN001_mask.png", "JPCLN001_label_map.png", "JPCLN001.json"} <= set(listed)
    assert all((out / name).is_file() for name in listed)
    assert json.loads((out / "JPCLN001.json").read_text())["masks_from"]["_mask"] == "landmarks"
    # The same again finds them, and a judge of the folder sees one result for each image.
    capsys.readouterr()
    assert main(command) == 0
    assert "0 segmented, 2 done already" in capsys.readouterr().out
    assert list(find_annotations(out).entries) == list(NAMES)
    # Neither is taken for an image.
    assert main(["predict", "toy", str(out), "--out", str(tmp_path / "again")]) != 0


@pytest.mark.parametrize("wrong", ["1", "0", "-3", "1001", "9" * 40, "2.5", "x", ""])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_impossible_numbers_are_wrong_usage(
    command: str, wrong: str, jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = [str(jsrt), "--out", str(tmp_path / "o")] if command == "predict" else ["--data", str(jsrt)]
    assert main([command, "toy", *given, f"--samples={wrong}"]) == 2
    assert "must be a whole number from 2 to 1000" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_has_no_latent_code_is_refused(
    jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path / "o"), "--samples", "50"]
    assert main(["predict", "unet-jsrt", str(jsrt), *out]) == 2
    assert "unet-jsrt has none" in capsys.readouterr().err
    assert main(["predict", "seg2graph-jsrt", str(jsrt), *out]) == 2
    assert main(["predict", "hybridgnet-jsrt", str(jsrt), "--then", "postdae-jsrt", *out]) == 2
    assert "postdae-jsrt repairs have none" in capsys.readouterr().err
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **o: UNetModel(["heart"], {"size": 64}))
    assert main(["evaluate", "toy", "--data", str(jsrt), "--samples", "50"]) == 1
    assert "no latent code" in capsys.readouterr().err
    assert main(["evaluate", "--pred", str(jsrt), "--ref", str(jsrt), "--samples", "50"]) == 2
    assert "--samples belongs to NAME" in capsys.readouterr().err


def test_evaluation_has_sigma_beside_dice(
    jsrt: Path, tmp_path: Path, model: HybridGNetModel, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "tables"
    command = ["evaluate", "toy", "--data", "jsrt", "--root", str(jsrt), "--out", str(out), "--samples", "8"]
    assert main(command) == 0
    assert "| sigma_px/heart" in capsys.readouterr().out
    summary = json.loads((out / "untrained_jsrt_val_samples8.json").read_text())
    assert "--samples 8" in summary["command"]
    row = rows_of(out / "untrained_jsrt_val_samples8.csv")[0]
    result = model.predict(jsrt / "images" / f"{NAMES[0]}.png", samples=8)
    # The image has 256 pixels, the frame of landmarks 1024.
    assert float(row["sigma_px"]) == pytest.approx(4 * result.sigma_px, rel=1e-3)
    assert float(row["sigma_px/heart"]) == pytest.approx(4 * result.organ_sigma_px["heart"], rel=1e-3)
    assert "dice/heart" in row
