"""What every model has in common: settings that make it again, and the way to it without its training."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.tasks.base import Predictor
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.golden import GOLDEN
from anatozoo.zoo.golden_file import read_arrays
from anatozoo.zoo.hub import load, resolve
from anatozoo.zoo.registry import METHODS
from anatozoo.zoo.runs import METHOD_KEY
from tests.support.phantoms import make_chest_phantom

PROJECT = Path(__file__).resolve().parents[3]
STACK = {"frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 40}, "organs": ["a", "b"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "hybridgnet": {
        "organs": {"lung_right": 44, "heart": 26},
        "frame": {"size": 64, "intensity": "bits"},
        "skips": [4, 3],
        "template": True,
        "refine": [0.05],
        "anchors": {"heart": [0, 5, 12, 18]},
        "dense_organs": ["heart", "lung_right", "lung_left"],
        "check_view": True,
    },
    "seg2graph": {
        "organs": {"lung_right": 44, "heart": 26},
        "frame": {"size": 64},
        "widths": [8, 8, 8, 16, 16],
        "skips": [5],
        "refine": [0.05],
        "refine_features": 16,
        "anchors": {"heart": [0, 5, 12, 18]},
    },
    "maskhybridgnet": {
        "organs": {"heart": 32},
        "frame": {"size": 64},
        "latents": 8,
        "skips": [5],
        "refine": [0.05],
        "refine_features": 16,
        "variational": False,
    },
    "unet": {"organs": ["lungs", "heart"], "frame": {"size": 96}, "decoder_widths": [4, 8, 16, 16, 24]},
    "cyclegan": {"domains": ["a", "b"], "frame": {"size": 64}, "width": 4, "blocks": 2},
    "classifier": {"findings": ["mass", "nodule"], "frame": {"size": 64}, "encoder": "residual"},
    "landmarkvae": {
        "organs": {"heart": 26},
        "frame": {"size": 64},
        "latents": 4,
        "decoder": "fc",
        "widths": [8, 8],
        "last_relu": True,
    },
    "shapevae": {"organs": {"heart": 26}, "latents": 4, "features": 8, "order": 3},
    "multiatlas": {
        "organs": {"heart": 26},
        "frame": {"size": 32},
        "atlas": ["a", "b"],
        "count": 2,
        "engine": "demons",
        "least_resemblance": 0.5,
    },
    "meshvae": {"rings": 8, "angles": 16, "widths": [8, 8], "latents": 3, "order": 3, "units": "px"},
    "hybridvnet": {
        "frame": STACK["frame"],
        "rings": 8,
        "angles": 16,
        "widths": [4, 8, 8],
        "graph_widths": [4, 8],
        "skips": [1],
        "latents": 5,
        "order": 3,
    },
    "acregnet": {"organs": ["heart"], "frame": {"size": 32}, "velocity": True, "instance_steps": 2},
    "affinereg": {
        "frame": {"size": 32},
        "transform": "rigid",
        "widths": [4, 8, 8],
        "latent": 8,
        "hidden": 16,
    },
    "aenet": {"organs": ["a"], "frame": {"size": 32, "fit": "stretch"}, "code": 8},
    "postdae": {
        "organs": ["lungs", "heart"],
        "frame": {"size": [32, 64]},
        "architecture": "residual",
        "widths": [4, 8],
        "code": 6,
        "one_part": {"heart": ["lungs"]},
    },
    "acnn": {**STACK, "architecture": "unet", "widths": [4, 8], "one_part": True},
    "acnnprior": {**STACK, "widths": [4, 8], "code": 6},
    "acnntl": {**STACK, "widths": [4, 8], "code": 6},
    "acnnsr": {
        "frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.5, 2.0]},
        "factor": 2,
        "architecture": "transposed",
        "width": 4,
        "depth": 1,
    },
}
"""Small networks of every method, with other settings than the defaults."""
for ensemble, member in (("ensemble", "unet"), ("volumeensemble", "acnn")):
    members = [{"name": name, "method": member, "settings": SETTINGS[member]} for name in ("a", "b")]
    SETTINGS[ensemble] = {"members": members}

BUNDLED = {
    "acregnet": "acregnet-jsrt",
    "affinereg": "affinereg-jsrt-rca",
    "aenet": "aenet-jsrt",
    "postdae": "postdae-jsrt",
    "seg2graph": "seg2graph-jsrt",
    "acnn": "acnn-acdc",
    "acnnprior": "acnn-prior-acdc",
    "acnntl": "acnn-tl-hippocampus",
    "acnnsr": "acnn-sr-hippocampus",
    "hybridgnet": "hybridgnet-jsrt",
    "maskhybridgnet": "maskhybridgnet-jsrt",
    "shapevae": "shapevae-jsrt",
    "unet": "unet-jsrt",
    "cyclegan": "cyclegan-lgg-ht2du",
    "hybridvnet": "hybridvnet-acdc",
}

CHILD = """
import json, sys
import numpy as np
import anatozoo

def answer(model, inputs, settings):
    with np.load(inputs) as file:
        given = [file[name] for name in ("image", "moving", "fixed") if name in file]
    result = model.predict(*given, **{key: tuple(steps) for key, steps in settings.items()})
    found = {f"landmarks/{k}": v for k, v in (getattr(result, "landmarks", None) or {}).items()}
    for name in ("mask", "displacement_px", "volume", "translated"):
        if getattr(result, name, None) is not None:
            found[name] = np.asarray(getattr(result, name))
    return found

jobs, plain, report = json.load(sys.stdin), {}, {}
for name, (source, inputs, settings) in jobs:
    model = anatozoo.load(source, trainable=False)
    plain[name] = answer(model, inputs, settings)
    slow = ("lightning", "pytorch_lightning", "torchmetrics", "torchvision", "timm", "torch._dynamo")
    report[name] = {
        "class": f"{type(model).__module__}:{type(model).__name__}",
        "training": model.training,
        "imported": [module for module in slow if module in sys.modules],
    }
for name, (source, inputs, settings) in jobs:
    model = anatozoo.load(source)
    whole = answer(model, inputs, settings)
    report[name]["whole"] = f"{type(model).__module__}:{type(model).__name__}"
    report[name]["arrays"] = sorted(whole)
    report[name]["differ"] = [key for key in whole if not np.array_equal(whole[key], plain[name][key])]
print(json.dumps(report))
"""


def test_every_method_is_looked_at() -> None:
    # An atlas holds images that may not be passed on, and PCA and FC are evidence; no classifier of what
    # images there are would be honest: none is bundled. Meshes are read from files, not arrays:
    # test_meshvae.py.
    apart = {
        "classifier",
        "meshvae",
        "multiatlas",
        "landmarkvae",
        "ensemble",
        "volumeensemble",
    }
    assert set(SETTINGS) == {*BUNDLED, *apart} == set(METHODS)


@pytest.mark.parametrize("method", list(SETTINGS))
def test_settings_make_the_same_model_again(method: str) -> None:
    entry, given = METHODS[method], SETTINGS[method]
    cls: Any = entry.model_class()
    assert issubclass(cls, Predictor)
    assert not issubclass(cls, L.LightningModule)
    made = cls(**given)
    stored = json.loads(json.dumps(made.settings()))
    assert set(stored) == set(inspect.signature(cls).parameters)
    for name, value in given.items():
        if name == "frame":
            assert stored["frame"].items() >= value.items()
        else:
            assert stored[name] == value, name
    again = cls(**stored)
    assert again.settings() == stored
    again.load_state_dict(made.state_dict(), strict=True)
    whole: Any = entry.module_class()(**stored)
    assert isinstance(whole, cls)
    assert isinstance(whole, L.LightningModule)
    assert whole.settings() == stored
    whole.load_state_dict(made.state_dict(), strict=True)
    # What belongs to the training is stored with a run and not with a model.
    assert whole.all_settings().items() >= stored.items()
    assert {"optim", "init_weights"} <= set(whole.all_settings()) - set(stored)


@pytest.mark.parametrize("method", list(SETTINGS))
def test_a_runs_file_gives_both(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    entry = METHODS[method]
    source: Any = entry.module_class()(**SETTINGS[method], init_weights="somewhere")
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.strategy.connect(source)
    path = tmp_path / "run" / "last.ckpt"
    trainer.save_checkpoint(path)
    whole, plain = anatozoo.load(path), anatozoo.load(str(path), trainable=False)
    assert type(whole) is entry.module_class()
    assert type(plain) is entry.model_class()
    for model in (whole, plain):
        assert not model.training
        assert model.checkpoint_name == "last"
        assert model.settings() == source.settings()
        assert model.state_dict().keys() == source.state_dict().keys()
        for key, value in source.state_dict().items():
            assert torch.equal(model.state_dict()[key], value), key
    assert whole.init_weights is None  # the weights are here
    if method == "unet":
        image = make_chest_phantom(64, 48).image
        expected = source.predict(image).mask
        assert expected.any()
        for model in (whole, plain):
            np.testing.assert_array_equal(model.predict(image).mask, expected)


def golden_job(name: str, folder: Path) -> tuple[str, str, dict[str, Any]]:
    """A checkpoint, the file of its golden input, and the arguments that go with it."""
    arrays, texts = read_arrays(resolve(name) / GOLDEN)
    inputs = {key: arrays[key] for key in ("image", "moving", "fixed") if key in arrays}
    spacing = texts.get("spacing_mm")
    np.savez(folder / f"{name}.npz", **inputs)
    settings = {}
    if spacing is not None:
        steps = [float(value) for value in spacing.split()]
        settings = {"spacing_mm" if key == "image" else f"{key}_spacing_mm": steps for key in inputs}
    return name, str(folder / f"{name}.npz"), settings


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a fresh interpreter says of models loaded without their training, and then with it."""
    folder = tmp_path_factory.mktemp("models")
    jobs = [(name, golden_job(name, folder)) for name in BUNDLED.values()]
    np.savez(folder / "chest.npz", image=make_chest_phantom(80, 70).image)
    for method in ("hybridgnet", "unet"):  # with the paper's encoder
        torch.manual_seed(0)
        name = f"{method}-toy"
        module = METHODS[method].module_class()(**SETTINGS[method])
        write_checkpoint_folder(module, folder / name, name=name, version="1.0.0")
        jobs.append((name, (str(folder / name), str(folder / "chest.npz"), {})))
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(jobs),
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize("name", [*BUNDLED.values(), "hybridgnet-toy", "unet-toy"])
def test_a_model_without_its_training_needs_no_lightning_and_predicts_the_same(
    name: str, found: dict[str, dict[str, Any]]
) -> None:
    method = next((method for method, other in BUNDLED.items() if other == name), name.partition("-")[0])
    one = found[name]
    assert one["class"] == METHODS[method].model
    assert one["whole"] == METHODS[method].module
    assert one["training"] is False
    assert one["imported"] == []
    assert one["arrays"]
    assert one["differ"] == []


def run_file(path: Path, seed: int) -> str:
    """A training run's file of a small U-Net."""
    torch.manual_seed(seed)
    module = UNetModule(organs=["lungs", "heart"], frame=FrameSpec(64))
    stored = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), METHOD_KEY: "unet"}
    torch.save(stored, path)
    return str(path)


@pytest.mark.parametrize("kind", ["run", "folder"])
def test_weights_that_changed_under_their_name_are_used(kind: str, tmp_path: Path) -> None:
    """A run goes on, and a folder is exported again: what was predicted before is not taken for theirs."""
    image, out = tmp_path / "a.png", tmp_path / "out"
    cv2.imwrite(str(image), make_chest_phantom(width=90, height=96).image.astype(np.uint8))
    masks = []
    for seed in (0, 1, 1):
        source = run_file(tmp_path / "last.ckpt", seed)
        if kind == "folder":
            source = str(
                write_checkpoint_folder(load(source), tmp_path / "w", name="unet-mine", version="1.0.0")
            )
        assert main(["predict", source, str(image), "--out", str(out)]) == 0
        masks.append((out / "a_mask.png").read_bytes() + (out / "a.json").read_bytes())
    assert masks[0] != masks[1]
    assert masks[1] == masks[2]


def test_messages_about_damaged_runs_advise_nobody_to_run_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"x")
    with pytest.raises(
        ConfigError, match=r"not a checkpoint that `anatozoo fit` wrote \(Weights only"
    ) as caught:
        load(str(tmp_path / "last.ckpt"))
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)
    stored = {"state_dict": {}, "hyper_parameters": {"widths": [10**12]}, METHOD_KEY: "unet"}
    torch.save(stored, tmp_path / "huge.ckpt")
    with pytest.raises(WeightsError, match="more than any network here has"):
        load(str(tmp_path / "huge.ckpt"))
