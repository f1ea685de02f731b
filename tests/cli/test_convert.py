import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as PILImage

import anatozoo
from anatozoo.cli.main import main
from tests.support.phantoms import make_chest_phantom
from tests.support.unet_weights import authors_unet


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(authors_unet(), tmp_path / "bestDice.pt")
    return tmp_path / "bestDice.pt"


def convert(weights: Path, *options: str) -> int:
    return main(["convert", "unet", str(weights), "--image-size", "64", *options])


def test_a_converted_folder_loads_and_predicts(weights: Path, tmp_path: Path, capsys: Any) -> None:
    assert convert(weights, "--to", str(tmp_path / "out"), "--name", "unet-mine") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    module: Any = anatozoo.load(str(tmp_path / "out"))
    result = module.predict(make_chest_phantom(90, 70).image)
    assert result.checkpoint == "unet-mine"
    assert result.organs == ("lungs", "heart")


def test_a_model_without_landmarks_segments_a_folder_in_every_format(
    weights: Path, tmp_path: Path, capsys: Any
) -> None:
    assert convert(weights, "--to", str(tmp_path / "unet-mine")) == 0
    (tmp_path / "scans").mkdir()
    for number, size in enumerate(((90, 70), (64, 128))):
        PILImage.fromarray(make_chest_phantom(*size).image).save(tmp_path / "scans" / f"{number}.png")
    command = [
        "predict",
        str(tmp_path / "unet-mine"),
        str(tmp_path / "scans"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--format", "png,nifti,json,csv"]) == 0
    assert "2 segmented" in capsys.readouterr().out
    for number, (width, height) in enumerate(((90, 70), (64, 128))):
        with PILImage.open(tmp_path / "out" / f"{number}_mask.png") as picture:
            labels = np.array(picture)
        assert labels.shape == (height, width)
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"{number}_mask.nii.gz")))
        np.testing.assert_array_equal(volume, labels)
        values = json.loads((tmp_path / "out" / f"{number}.json").read_text())
        assert (values["landmarks"], values["landmarks_mm"]) == ({}, None)
        areas = {organ: int((labels == value).sum()) for organ, value in values["labels"].items()}
        assert values["areas_px"] == areas
        assert len((tmp_path / "out" / f"{number}_landmarks.csv").read_text().splitlines()) == 1
        assert (tmp_path / "out" / f"{number}_overlay.png").is_file()
    assert main([*command, "--format", "png,nifti,json,csv"]) == 0
    assert "2 done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "organs"),
    [("lung_right,heart", ["lung_right", "heart"]), ("lungs", ["lung_right", "lung_left"])],
)
def test_organs_are_named_or_a_set(text: str, organs: list[str], weights: Path, tmp_path: Path) -> None:
    assert convert(weights, "--to", str(tmp_path / "out"), "--organs", text) == 0
    module: Any = anatozoo.load(str(tmp_path / "out"))
    assert module.organs == organs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--skips", "6,5"], "unet does not take skips"),
        (["--organs", "heart=26,aorta=30,lung=4"], "3"),
        (["--style", "other"], "choose tmi"),
        (["--name", "../x"], "must be unet-"),
    ],
)
def test_mistakes_are_explained(
    options: list[str], message: str, weights: Path, tmp_path: Path, capsys: Any
) -> None:
    assert convert(weights, "--to", str(tmp_path / "out"), *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("anatozoo: error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--skips", "6;5"], ["--image-size", "big"], ["--organs", "heart=many"]])
def test_what_is_no_number_is_a_usage_error(
    option: list[str], weights: Path, tmp_path: Path, capsys: Any
) -> None:
    assert convert(weights, "--to", str(tmp_path / "out"), *option) == 2
    assert option[0] in capsys.readouterr().err


def test_an_unknown_method_gets_a_hint(weights: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["convert", "hybridnet", str(weights), "--to", str(tmp_path / "out")]) == 1
    assert re.search("did you mean .*hybridgnet", capsys.readouterr().err)


def test_help_is_plain(capsys: Any) -> None:
    assert main(["convert", "--help"]) == 0
    text = capsys.readouterr().out
    for word in (
        "METHOD",
        "FILE",
        "--to DIR",
        "--style",
        "--organs",
        "--skips",
        "--image-size",
        "anatozoo.load",
    ):
        assert word in text
