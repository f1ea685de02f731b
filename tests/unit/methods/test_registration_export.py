"""From a training run of a registration, 2-D or 3-D, to a checkpoint folder."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import anatozoo
from anatozoo.methods.acregnet import AcRegNetModule
from anatozoo.training.export import export_run
from anatozoo.zoo.golden import run_golden

IN_MILLIMETRES: dict[str, Any] = {
    "labels": ["anterior", "posterior"],
    "image_size": [16, 24, 16],
    "fit": "spacing",
    "spacing_mm": [1.0, 1.25, 1.5],
    "velocity": True,
}


def write_run(path: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    module = AcRegNetModule(**settings)
    stored = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": L.__version__,
    }
    torch.save(stored, path)
    return path


@pytest.mark.parametrize("settings", [{"image_size": 32}, IN_MILLIMETRES], ids=["2-D", "3-D"])
def test_the_folder_loads_and_its_golden_field_holds(settings: dict[str, Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "last.ckpt", **settings)
    folder = export_run(run, "acregnet-somewhere", tmp_path / "acregnet-somewhere")
    assert (folder / "golden.safetensors").stat().st_size < 1_000_000
    model = anatozoo.load(str(folder))
    assert isinstance(model, AcRegNetModule)
    assert run_golden(model, folder).difference < 0.01


@pytest.mark.parametrize(
    ("given", "kept"),
    [("aenet-jsrt", "aenet-jsrt"), ("/somebody/last.ckpt", None), ("run/last.ckpt", None)],
)
def test_paths_of_a_training_machine_are_not_published(given: str, kept: str | None, tmp_path: Path) -> None:
    run = write_run(tmp_path / "last.ckpt", image_size=32, shape_weights=given)
    folder = export_run(run, "acregnet-somewhere", tmp_path / "acregnet-somewhere")
    assert anatozoo.load(str(folder)).hparams["shape_weights"] == kept
    assert "somebody" not in (folder / "config.json").read_text()
