"""Every file of weights among the parity vectors becomes a folder that loads."""

from pathlib import Path
from typing import Any

import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.training.conversion import read_state

# File -> method, then the arguments of `anatozoo convert` beyond the file and the folder.
FILES: dict[str, tuple[str, list[str]]] = {
    "acregnet_aenet_64": ("aenet", []),
    "acregnet_regnet_64": ("acregnet", []),
    "hybridgnet_chexmask_2igsc_128": ("hybridgnet", []),
    "hybridgnet_tmi_128": ("hybridgnet", ["--style", "tmi"]),
    "hybridgnet_tmi_1igsc_3_128": ("hybridgnet", []),
    "hybridgnet_tmi_1igsc_6_128": ("hybridgnet", []),
    "hybridgnet_tmi_2igsc_43_128": ("hybridgnet", []),
    "hybridgnet_tmi_2igsc_54_128": ("hybridgnet", []),
    "hybridgnet_tmi_2igsc_65_128": ("hybridgnet", []),
    "unet_tmi_128": ("unet", ["--image-size", "128"]),
}


def test_every_file_is_tested(shared: Path) -> None:
    assert {path.stem for path in (shared / "parity").glob("*.pt")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_a_folder_that_loads(shared: Path, name: str, tmp_path: Path, capsys: Any) -> None:
    method, options = FILES[name]
    source = shared / "parity" / f"{name}.pt"
    assert main(["convert", method, str(source), "--to", str(tmp_path / "out"), *options]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    module: Any = anatozoo.load(str(tmp_path / "out"))
    # Every value of theirs is in the folder, under whatever name and with nothing rounded.
    theirs = sorted(float(v.double().sum()) for k, v in read_state(source).items() if k != "warper.grid")
    ours = {float(value.double().sum()) for value in module.state_dict().values()}
    assert all(total in ours for total in theirs)
    assert not any(isinstance(value, torch.Tensor) for value in module.hparams.values())


def test_a_file_without_skips_does_not_tell_its_style(shared: Path, tmp_path: Path, capsys: Any) -> None:
    source = shared / "parity" / "hybridgnet_tmi_128.pt"
    assert main(["convert", "hybridgnet", str(source), "--to", str(tmp_path / "out")]) == 1
    assert "say --style tmi or --style chexmask" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_method_is_named(shared: Path, tmp_path: Path, capsys: Any) -> None:
    source = shared / "parity" / "unet_tmi_128.pt"
    assert main(["convert", "hybridgnet", str(source), "--to", str(tmp_path / "out")]) == 1
    assert "`anatozoo convert unet`" in capsys.readouterr().err
