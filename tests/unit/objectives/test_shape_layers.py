"""Distances in layers of a shape model: the equation, their common scale, and what is refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn.labels import one_hot
from anatozoo.nn.registration_losses import code_distances
from anatozoo.objectives.shape_layers import layer_weights
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.step import Step
from tests.support.shape_priors import prior_for

ALL = ["code", "level1", "level2", "residual"]


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    organs: dict[str, Any] = {"organs": ["lungs", "heart"]}
    volume = FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0])
    made: Any = {
        "aenet": lambda: AeNetModule(**organs, frame=FrameSpec(32)),
        "acnnprior": lambda: AcnnPriorModule(**organs, frame=FrameSpec(32), widths=[4, 8], skips=[0, 1, 2]),
        "volume": lambda: AcnnPriorModule(**organs, frame=volume, widths=[4, 8]),
        "acnntl": lambda: AcnnTLModule(**organs, frame=volume, widths=[4, 8], code=6),
        "postdae": lambda: PostDAEModule(**organs, frame=FrameSpec(32), widths=[8, 8], code=6, skips=[1, 2]),
        "paper": lambda: PostDAEModule(
            **organs, frame=FrameSpec(32), architecture="paper", widths=[8, 8], code=6
        ),
    }[kind]()
    return made.eval()


def prior_of(model: Any, **settings: Any) -> ShapePrior:
    prior = ShapePrior(**settings)
    prior._model = model
    return prior


def maps(model: Any) -> tuple[Tensor, Tensor]:
    """Probabilities that need a gradient, and a truth of which the second item is empty."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, *model.shape, generator=draw).requires_grad_()
    labels = torch.randint(0, 3, (2, *model.shape), generator=draw)
    labels[1] = 0
    return logits.softmax(1), one_hot(labels, 3)


def empty(like: Tensor) -> Tensor:
    return one_hot(torch.zeros(like.shape[0], *like.shape[2:], dtype=torch.long), like.shape[1])


def test_without_layers_it_is_the_code_bit_for_bit() -> None:
    model = model_of("acnnprior")
    answer, truth = maps(model)
    expected = 0.3 * code_distances(model.encode(answer), model.encode(truth))
    assert torch.equal(prior_of(model, weight=0.3).on(answer, truth), expected)


@pytest.mark.parametrize("kind", ["aenet", "acnnprior", "volume", "acnntl", "postdae", "paper"])
def test_each_layer_is_in_units_of_an_empty_map(kind: str) -> None:
    model = model_of(kind)
    answer, truth = maps(model)
    x, y, nothing = answer[:1], truth[:1], empty(truth[:1])
    residual = {name: m - model.rebuilt(m).softmax(1) for name, m in (("x", x), ("y", y))}
    with torch.no_grad():
        levels = [model.levels(m)[1] for m in (x, y, nothing)]
        parts = {
            "level2": (levels[0] - levels[1]).square().sum() / (levels[1] - levels[2]).square().sum(),
            "residual": (residual["x"] - residual["y"]).square().sum() / (y - nothing).square().sum(),
        }
    weighted = prior_of(model, weight=2.0, layers={"level2": 3.0, "residual": 1.0})
    found = weighted.on(answer, truth)
    torch.testing.assert_close(found[0], 2 * (0.75 * parts["level2"] + 0.25 * parts["residual"]))
    assert float(found[1].detach()) == 0  # an empty truth has no scale
    assert prior_of(model, layers=ALL).on(truth, truth).tolist() == pytest.approx([0, 0], abs=1e-9)
    for layer in ALL[:3]:
        alone = prior_of(model, layers=[layer]).on(empty(truth), truth)
        assert alone.tolist() == pytest.approx([1, 0], rel=1e-4)


def test_no_gradient_passes_through_what_comes_back() -> None:
    model = model_of("postdae")
    answer, truth = maps(model)
    x, y = answer[:1].detach().requires_grad_(), truth[:1]
    [found] = torch.autograd.grad(prior_of(model, layers=["residual"]).on(x, y).sum(), x)
    with torch.no_grad():
        change = (x - model.rebuilt(x).softmax(1)) - (y - model.rebuilt(y).softmax(1))
        expected = 2 * change / (y - empty(y)).square().sum()
    torch.testing.assert_close(found, expected)
    # Levels pass theirs through the encoder, and none reaches a weight.
    [found] = torch.autograd.grad(prior_of(model, layers=["level1"]).on(x, y).sum(), x)
    assert bool(found.any())
    assert all(p.grad is None for p in model.parameters())


def test_a_denoiser_of_masks_is_a_source_for_a_segmenter() -> None:
    unet = UNetModule(organs=["lung_right", "lung_left", "heart"], frame=FrameSpec(64)).train()
    prior = prior_for(unet, model_of("postdae"))
    prior.layers = layer_weights(["residual", "code"])
    draw = torch.Generator().manual_seed(2)
    batch = {
        "image": torch.rand(2, 1, 64, 64, generator=draw),
        "labels": torch.randint(0, 4, (2, 64, 64), generator=draw),
        "known": torch.ones(2, 3),
        "index": torch.arange(2),
    }
    prior.terms(Step(unet, batch, unet.answer(batch)))["shape"].mean().backward()
    assert all(p.grad is not None for p in unet.network.blocks.parameters())
    # Without a truth: what the denoiser would change, relative to the anatomy of those with one.
    prior.unlabelled = 0.5
    bare = {"image": batch["image"], "labels": torch.zeros_like(batch["labels"]), "known": torch.zeros(2, 3)}
    step = Step(unet.eval(), {**batch, "unlabelled": bare}, unet.answer(batch))
    found = prior.terms(step)["shape_unlabelled"]
    assert prior._code is not None
    seen = prior._code.fitted(unet(bare["image"]).softmax(1))
    back = model_of("postdae").rebuilt(seen).softmax(1)
    truth = prior._code.fitted(one_hot(batch["labels"], 4))
    size = (truth - empty(truth)).flatten(1).square().sum(1).mean()
    expected = (seen - back).flatten(1).square().sum(1) / size
    torch.testing.assert_close(found, 0.5 * expected)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"layers": ["level0"]}, "level0 is no layer; layers are code, level1"),
        ({"layers": ["code", "code"]}, "comes twice"),
        ({"layers": []}, "nor all 0"),
        ({"layers": {"code": -1.0, "residual": 2.0}}, "must not be negative"),
        ({"layers": {"code": 0.0}}, "nor all 0"),
        ({"unlabelled": 1.0}, "needs residual among"),
        ({"layers": ["residual"], "unlabelled": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_are_not_possible(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        ShapePrior("aenet-jsrt", **settings)


def test_what_a_fit_lacks_is_said_at_its_start() -> None:
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(unlabelled=None))
    unet = UNetModule(organs=["lungs", "heart"], frame=FrameSpec(64))
    with pytest.raises(ConfigError, match=r"ShapePrior needs images without annot.*--data\.unlabelled 4"):
        ShapePrior("x", layers=["residual"], unlabelled=1.0).setup(trainer, unet, "fit")
    fine = AcnnSRModule(frame=FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0]), width=8, depth=1)
    with pytest.raises(ConfigError, match="leave layers out for AcnnSRModule"):
        ShapePrior("x", layers=["code"]).setup(trainer, fine, "fit")
    prior = prior_of(model_of("aenet"), layers=["level6"])
    prior.setup(trainer, unet, "fit")
    with pytest.raises(ConfigError, match="AeNetModule has level1 to level5, not level6"):
        prior.on_fit_start(trainer, unet)


def test_skips_are_levels_of_the_encoder() -> None:
    frame: dict[str, Any] = {"organs": ["a"], "frame": FrameSpec(32), "widths": [4, 8]}
    with pytest.raises(ConfigError, match=r"skips=\[3\]: \[3\] must be within 0 … 2"):
        AcnnPriorModule(**frame, skips=[3])
    torch.manual_seed(0)
    model = AcnnPriorModule(**frame, skips=[1]).eval()
    given = torch.rand(1, 2, 32, 32)
    logits = model.rebuilt(given)
    changed = [values * 1.5 for values in model.levels(given)]
    code = model.encode(given)
    # The same code with other maps is another shape, which without skips it cannot be.
    assert not torch.equal(model.network.decode(code, (given, *changed)), logits)
    torch.testing.assert_close(model.network.decode(code, (given, *model.levels(given))), logits)
