"""The T-L network on generated hearts: its training with its own and with a frozen autoencoder, its loss."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.methods.acnntl.network import TLNetwork
from anatozoo.nn.labels import one_hot
from anatozoo.objectives.shape_code import ShapeCode
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.weights import frozen
from tests.support.heart_data import heart, write_hearts
from tests.support.trainers import QUIET

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]

SIZE: dict[str, Any] = {"size": [8, 32, 32], "fit": "slices", "long_side": 40}
FRAME: dict[str, Any] = {"frame": SIZE}
SMALL: dict[str, Any] = {"widths": [4, 8], "code": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hearts(tmp_path_factory.mktemp("acdc"), {"train": [1, 2], "val": [3]})


def data(root: Path) -> AcnnDataModule:
    return AcnnDataModule(str(root), **FRAME, augment=None, batch_size=2)


def module(**settings: Any) -> AcnnTLModule:
    torch.manual_seed(0)
    optim = {"lr": 1e-2, "weight_decay": 1e-5, "schedule": "cosine", "warmup_steps": 1}
    return AcnnTLModule(**FRAME | SMALL | {"code_weight": 0.1, "optim": optim} | settings)


def prior(**settings: Any) -> AcnnPriorModule:
    torch.manual_seed(1)
    return AcnnPriorModule(**FRAME | SMALL | settings)


def stored(model: L.LightningModule, path: Path) -> str:
    """A checkpoint of a fit of no steps."""
    trainer = L.Trainer(max_epochs=0, **QUIET)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return str(path)


def batch() -> dict[str, torch.Tensor]:
    image, labels = heart(8, 32, 32)
    return {
        "image": torch.from_numpy(image)[None, None] / 255,
        "labels": torch.from_numpy(labels)[None],
        "index": torch.arange(1),
    }


def test_the_predictor_shares_the_decoder() -> None:
    network = TLNetwork((8, 32, 32), 4, 6, (4, 8)).eval()
    image = torch.rand(2, 1, 8, 32, 32)
    found = network.predict(image)
    assert found.code.shape == (2, 6)
    assert torch.equal(found.code, network.predictor(image))
    assert torch.equal(found.logits, network.autoencoder.decode(found.code))
    assert torch.equal(network(image), found.logits)


def test_both_halves_learn_together(root: Path) -> None:
    made = module()
    before = made.losses(made.encode_image(batch()["image"]), batch())
    fit = L.Trainer(max_epochs=8, **QUIET)
    fit.fit(made, data(root))
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    assert found["train/loss"] == pytest.approx(found["train/reconstruction"] + found["train/code"], rel=1e-4)
    assert found["train/reconstruction"] < 0.8 * float(before["reconstruction"].detach())
    assert {f"val/{column}" for column in made.columns()} <= set(found)
    assert 0 <= found["val/dice_autoencoder"] <= 1
    assert found["val/code_distance"] > 0


def test_the_terms_are_those_of_the_paper() -> None:
    made, given = module(code_weight=0.5).eval(), batch()
    code = made.encode_image(given["image"])
    maps = one_hot(given["labels"].long(), 4)
    terms = made.losses(code, given)
    expected = 0.5 * (code - made.encode(maps)).square().sum()
    torch.testing.assert_close(terms["code"], expected)
    _, logits = made.network.autoencoder(maps)
    cross_entropy = torch.nn.functional.cross_entropy(logits, given["labels"].long())
    torch.testing.assert_close(terms["reconstruction"], cross_entropy)
    # The codes of both halves are drawn to one another.
    terms["code"].backward()
    touched = {name for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("network.predictor") for name in touched)
    assert any(name.startswith("network.autoencoder.encoder") for name in touched)


def test_a_given_autoencoder_stays_what_it_is(root: Path, tmp_path: Path) -> None:
    first = prior()
    file = stored(first, tmp_path / "prior.ckpt")
    made = module(autoencoder=file)
    fit = L.Trainer(max_epochs=4, **QUIET)
    fit.fit(made, data(root))
    for name, value in first.network.state_dict().items():
        assert torch.equal(made.network.autoencoder.state_dict()[name], value), name
    assert "train/reconstruction" not in fit.callback_metrics
    assert not torch.equal(made.network.predictor.to_code.bias, module().network.predictor.to_code.bias)
    assert made.train().network.predictor.training
    assert not made.network.autoencoder.training
    path = tmp_path / "tl.ckpt"
    fit.save_checkpoint(path)
    Path(file).unlink()  # a prediction needs it no more
    again = AcnnTLModule.load_from_checkpoint(path, weights_only=True).eval()
    assert np.array_equal(again.predict(heart(8, 40, 33)[0]).mask, made.predict(heart(8, 40, 33)[0]).mask)


@pytest.mark.parametrize(
    ("settings", "kind", "error"),
    [
        ({"organs": ["a", "b", "c"]}, ConfigError, "Both must be the same"),
        ({"frame": SIZE | {"long_side": 80}}, ConfigError, "Both must be the same"),
        ({"widths": [4, 4]}, WeightsError, "another architecture"),
        ({"code": 7}, WeightsError, "another architecture"),
    ],
)
def test_an_autoencoder_must_fit(
    settings: Any, kind: type[Exception], error: str, root: Path, tmp_path: Path
) -> None:
    file = stored(prior(**settings), tmp_path / "prior.ckpt")
    with pytest.raises(kind, match=error):
        L.Trainer(max_epochs=1, **QUIET).fit(module(autoencoder=file), data(root))


def test_a_fit_may_start_from_another(root: Path, tmp_path: Path) -> None:
    start = module()
    file = stored(start, tmp_path / "start.ckpt")
    torch.manual_seed(5)
    made = AcnnTLModule(**FRAME | SMALL, init_weights=file)
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        L.Trainer(max_epochs=1, limit_train_batches=0, **QUIET).fit(made, data(root))
    assert all(torch.equal(v, start.state_dict()[k]) for k, v in made.state_dict().items())


def test_a_prediction_is_one_frame_of_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = module().eval(), []

    def answer(image: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(image.shape))
        logits = torch.zeros(1, 4, *image.shape[2:])
        logits[:, 1, 2:6, 8:24, :24] = 9.0
        logits[:, 0] = 1.0
        return logits

    monkeypatch.setattr(made.network, "forward", answer)
    volume = heart(13, 40, 40)[0]
    result = made.predict(volume)
    # One look for each order of slices, and one for each turned by half a turn; no windows.
    assert seen == [(1, 1, 8, 32, 32)] * 4
    assert result.mask.shape == (13, 40, 40)
    assert sorted({int(z) for z in np.nonzero(result.mask)[0]}) == [
        4,
        5,
        6,
        7,
        8,
    ]  # 5 to 8, and from the other end
    assert "anatomy_at_border" in result.flags
    with pytest.raises(ConfigError, match="sees one frame"):
        made.predict(volume, whole=True)


def test_the_loss_of_images_is_the_distance_of_their_codes() -> None:
    made = module()
    with torch.no_grad():
        made.network.predictor.to_code.weight.mul_(20)
    prior = ShapePrior(weight=0.5)
    prior._model = made
    code = ShapeCode(made, of_images=True, frame=FrameSpec.of(SIZE))
    truth = torch.rand(2, 1, 8, 32, 32)
    answer = truth.clone().requires_grad_()
    assert prior.on(answer, truth).tolist() == [0, 0]
    other = (0.5 * truth).requires_grad_()
    expected = 0.5 * (code(other) - code(truth)).square().sum(1)
    torch.testing.assert_close(prior.on(other, truth), expected)
    [gradient] = torch.autograd.grad(prior.on(other, truth).mean(), other)
    assert bool(gradient.any())
    assert torch.equal(code(truth + 1), code(torch.ones_like(truth)))
    assert not code.train().model.network.predictor.training
    assert not [p for p in code.parameters() if p.requires_grad]


def test_a_model_of_images_is_read_from_a_file(tmp_path: Path) -> None:
    made = module()
    loaded = frozen(stored(made, tmp_path / "tl.ckpt"), "encode_image")
    image = batch()["image"]
    assert torch.equal(loaded.encode_image(image), made.eval().encode_image(image))
    with pytest.raises(ConfigError, match="cannot encode image"):
        frozen(stored(prior(), tmp_path / "prior.ckpt"), "encode_image")


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (SIZE | {"size": [8, 32, 40]}, "proportions"),
        (SIZE | {"long_side": 80}, "same field of view"),
        (SIZE | {"fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}, "same field of view"),
    ],
)
def test_a_loss_of_other_views_is_refused(frame: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        ShapeCode(module(), of_images=True, frame=FrameSpec.of(frame))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": []}, "1 to 254"),
        ({"frame": {"size": [32, 32]}}, r"\[D, H, W\]"),
        ({"code_weight": 0.0}, "code_weight=0.0 must be above 0"),
        ({"frame": SIZE | {"fit": "spacing"}}, "spacing_mm with 3 numbers"),
        ({"frame": SIZE | {"size": [8, 30, 32]}}, "cannot be halved 2 times"),
        ({"code": 0}, "code=0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        module(**settings)
