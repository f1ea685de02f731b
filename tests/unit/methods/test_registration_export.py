"""From a training run of a registration, 2-D or 3-D, to a checkpoint folder."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import anatozoo
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.training.export import export_run
from anatozoo.zoo.golden import run_golden
from anatozoo.zoo.runs import METHOD_KEY

IN_MILLIMETRES: dict[str, Any] = {
    "organs": ["anterior", "posterior"],
    "velocity": True,
    "frame": {"size": [16, 24, 16], "fit": "spacing", "spacing_mm": [1.0, 1.25, 1.5]},
}


def write_run(path: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    module = AcRegNetModule(**settings)
    stored = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": L.__version__,
        METHOD_KEY: "acregnet",
    }
    torch.save(stored, path)
    return path


@pytest.mark.parametrize("settings", [{"frame": {"size": 32}}, IN_MILLIMETRES], ids=["2-D", "3-D"])
def test_the_folder_loads_and_its_golden_field_holds(settings: dict[str, Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "last.ckpt", **settings)
    folder = export_run(run, "acregnet-somewhere", tmp_path / "acregnet-somewhere")
    assert (folder / "golden.safetensors").stat().st_size < 1_000_000
    model = anatozoo.load(str(folder))
    assert isinstance(model, AcRegNetModule)
    assert run_golden(model, folder).difference < 0.01


@pytest.mark.parametrize("given", ["acregnet-jsrt", "/somebody/last.ckpt", "run/last.ckpt"])
def test_what_a_fit_began_with_is_not_published(given: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "last.ckpt", frame={"size": 32}, init_weights=given)
    folder = export_run(run, "acregnet-somewhere", tmp_path / "acregnet-somewhere")
    config = (folder / "config.json").read_text()
    assert given not in config
    assert "init_weights" not in config
    assert anatozoo.load(str(folder)).init_weights is None
