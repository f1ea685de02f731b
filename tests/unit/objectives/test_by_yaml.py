"""Every objective of the package joins a fit by a line of YAML, together with the others where it can."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import anatozoo.objectives
from anatozoo.cli.main import main
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.volume_data import write_slices

pytestmark = pytest.mark.usefixtures("own_seed")

ORGANS = ["lungs", "heart"]
NETWORK: dict[str, Any] = {"organs": ORGANS, "frame": {"size": 64}, "decoder_widths": [2, 2, 4, 4, 8]}
TERMS = {
    "Entropy": ("entropy",),
    "Calibration": ("calibration",),
    "Centerline": ("centerline",),
    "ShapePrior": ("shape",),
    "Orthogonal": ("self_orthogonality", "inter_orthogonality"),
    "Denoising": ("denoising",),
    "Agreement": (),
}
"""Objective -> its terms in the log."""


def checkpoints(folder: Path) -> dict[str, str]:
    """An earlier member, a model of shapes and a denoiser."""
    torch.manual_seed(0)
    frame: dict[str, Any] = {"organs": ORGANS, "frame": FrameSpec(64)}
    models = {
        "unet-member": UNetModule(**NETWORK),
        "aenet-shapes": AeNetModule(**frame),
        "postdae-denoiser": PostDAEModule(**frame, widths=[4, 8], code=8, skips=[1, 2]),
    }
    return {
        name: str(write_checkpoint_folder(model, folder / name, name=name, version="1.0.0"))
        for name, model in models.items()
    }


def fit_of(folder: Path, data: dict[str, Any], objectives: list[dict[str, Any]]) -> list[str]:
    """The command of a short fit with these objectives."""
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    trainer = {"accelerator": "cpu", "max_epochs": 2, "limit_val_batches": 0, "default_root_dir": str(folder)}
    settings = {"method": "unet", "trainer": trainer | quiet, "model": NETWORK, "data": data}
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings | {"objectives": objectives}))
    return ["fit", "--config", str(folder / "mine.yaml")]


def test_all_objectives_are_listed_here() -> None:
    assert set(TERMS) == set(anatozoo.objectives.__all__)


def test_each_objective_by_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}
    total = UNetModule.total

    def watched(self: UNetModule, terms: Any, batch_size: int) -> torch.Tensor:
        logged.update({name: float(value.detach().mean()) for name, value in terms.items()})
        return total(self, terms, batch_size)

    monkeypatch.setattr(UNetModule, "total", watched)
    found = checkpoints(tmp_path)
    root = write_chest_data(tmp_path / "chests", {"train": 4, "val": 1}, side=64)
    for path in (root / "landmarks").rglob("JPCLN004.npy"):
        path.unlink()  # an image without annotation
    needs: dict[str, dict[str, Any]] = {
        "ShapePrior": {"source": found["aenet-shapes"], "weight": 0.1},
        "Orthogonal": {"members": [found["unet-member"]]},
        "Denoising": {"source": found["postdae-denoiser"], "ramp": 0.0},
    }
    objectives = [
        {"class_path": name, "init_args": needs.get(name, {})} for name in TERMS if name != "Agreement"
    ]
    data = {"root": str(root), "batch_size": 2, "unlabelled": 1}
    assert main(fit_of(tmp_path, data, objectives)) == 0
    expected = {term for name in TERMS for term in TERMS[name]}
    assert expected <= set(logged)
    assert all(logged[name] != 0 for name in expected)


def test_agreement_by_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[int] = []
    learn = anatozoo.objectives.Agreement.learn

    def watched(self: Any, losses: Any, module: Any) -> None:
        learnt.append(len(losses))
        learn(self, losses, module)

    monkeypatch.setattr(anatozoo.objectives.Agreement, "learn", watched)
    names = ["0", "1", "2"]
    for site in "ab":
        write_slices(tmp_path / "sites" / site, names, {})
        (tmp_path / "sites" / site / "splits.json").unlink()
    splits = {
        split: [f"{site}/{n}" for site in "ab" for n in own]
        for split, own in (("train", names[:2]), ("val", names[2:]))
    }
    (tmp_path / "sites" / "splits.json").write_text(json.dumps(splits))
    data = {"root": str(tmp_path / "sites"), "layout": "folder", "batch_size": 4, "balance": "each"}
    objectives = [{"class_path": "Agreement", "init_args": {"how": "pcgrad"}}, {"class_path": "Entropy"}]
    model = ["--model.organs", "[heart]"]
    assert main([*fit_of(tmp_path, data, objectives), *model]) == 0
    assert learnt == [2, 2]
