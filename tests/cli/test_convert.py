from pathlib import Path
from typing import Any

import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from tests.phantoms import make_chest_phantom
from tests.unet_weights import authors_unet


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
    assert "did you mean hybridgnet" in capsys.readouterr().err


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
