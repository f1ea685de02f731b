"""Both stages of ACNN by one command: a segmenter and its prior on hearts, ACNN-SR and its T-L network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from anatozoo.cli.main import main
from tests.support.heart_data import write_hearts
from tests.support.volume_data import write_volumes

pytestmark = pytest.mark.usefixtures("own_seed")

TINY = (
    "--trainer.max_steps=-1",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.batch_size=2",
)


def stored(folder: Path) -> dict[str, Any]:
    """The checkpoint that a stage hands on."""
    path = folder / json.loads((folder / "stage.json").read_text())["checkpoint"]
    return torch.load(path, weights_only=True)


def prior_of(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The model of shapes that a checkpoint holds beside its own weights."""
    [prior] = [value for key, value in checkpoint["callbacks"].items() if "ShapePrior" in key]
    state: dict[str, torch.Tensor] = prior["state"]
    return state


def fit(config: str, root: Path, out: Path, *options: str) -> int:
    places = (f"--data.root={root}", f"--trainer.default_root_dir={out}")
    return main(["fit", "--config", config, *TINY, *places, *options])


def test_a_segmenter_is_fitted_after_its_prior(tmp_path: Path, capsys: Any) -> None:
    root = write_hearts(tmp_path / "acdc", {"train": [1], "val": [2]})
    options = (
        "--model.frame.size=[8,32,32]",
        "--model.frame.long_side=40",
        "--model.widths=[4,8]",
        "--first_stage.model.widths=[4,8]",
        "--first_stage.model.code=6",
    )
    out = tmp_path / "out"
    assert fit("acnn/acdc.yaml", root, out, *options) == 0
    names = ["stage1-acnnprior", "stage2-acnn"]
    assert sorted(path.name for path in out.iterdir()) == names
    prior, segmenter = (stored(out / name) for name in names)
    assert (prior["anatozoo_method"], segmenter["anatozoo_method"]) == ("acnnprior", "acnn")
    found, expected = prior_of(segmenter), prior["state_dict"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for key in ("organs", "frame"):  # what both must agree on is given once
        assert prior["hyper_parameters"][key] == segmenter["hyper_parameters"][key]
    capsys.readouterr()
    assert fit("acnn/acdc.yaml", root, out, *options) == 0
    assert capsys.readouterr().out.count("finished before") == 2


def test_super_resolution_is_fitted_after_its_predictor(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    root = write_volumes(tmp_path / "volumes", names, splits={"train": names[:2], "val": names[2:]})
    options = ("--model.frame.size=[16,16,16]", "--model.width=4", "--model.depth=1")
    out = tmp_path / "out"
    assert fit("acnnsr/hippocampus.yaml", root, out, *options) == 0
    stages = ["stage1-acnntl", "stage2-acnnsr"]
    assert sorted(path.name for path in out.iterdir()) == stages
    predictor, network = (stored(out / name) for name in stages)
    assert (predictor["anatozoo_method"], network["anatozoo_method"]) == ("acnntl", "acnnsr")
    found, expected = prior_of(network), predictor["state_dict"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert predictor["hyper_parameters"]["frame"] == network["hyper_parameters"]["frame"]
