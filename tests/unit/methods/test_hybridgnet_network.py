from typing import Any

import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.nn import graphs
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.organs import CHEST_ORGANS, LUNGS_HEART

SIZE = 64
ORGANS = CHEST_ORGANS
SKIPS: list[tuple[int, ...]] = [(), (2,), (3,), (4,), (5,), (6,), (6, 5), (5, 4), (4, 3)]
VARIANTS: dict[str, dict[str, Any]] = {f"skips{''.join(map(str, s)) or 'none'}": {"skips": s} for s in SKIPS}
VARIANTS |= {
    "roi_align": {"lookup": "roi_align"},
    "copy": {"upsampling": "copy"},
    "pyg": {"graph_conv": "pyg"},
    "template": {"template": True},
    "refine": {"refine": (0.05, 0.02)},
    "refine_masks": {"refine": (0.05,), "dense_organs": 7, "template": True},
    "timm": {"encoder": "tf_efficientnet_lite0"},
    "timm_refine": {"encoder": "tf_efficientnet_lite0", "refine": (0.05,), "template": True},
}
variants = pytest.mark.parametrize("name", VARIANTS)


def build(name: str, seed: int = 0) -> HybridGNet:
    """A network whose every layer does something, also those that start at zero."""
    torch.manual_seed(seed)
    network = HybridGNet(ORGANS, SIZE, **VARIANTS[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    return network


def images(count: int) -> Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@variants
def test_outputs_have_the_documented_shapes(name: str) -> None:
    out = build(name)(images(2))
    settings = VARIANTS[name]
    skips, refine = settings.get("skips", (6, 5)), settings.get("refine", ())
    assert out.landmarks.shape == (2, 166, 2)
    assert out.mu.shape == out.logvar.shape == (2, 64)
    # Coarse first; where contours are refined, what enters each step is supervised too.
    assert [p.shape[1] for p in out.positions] == [84, 166][: len(skips)] + [166] * len(refine)
    if refine:
        assert out.dense is not None
        assert out.dense.shape == (2, settings.get("dense_organs", 5), SIZE // 4, SIZE // 4)
    else:
        assert out.dense is None


# Not with RoIAlign's own sampling, which the last bit of a position changes; see `window_average`.
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "roi_align"])
def test_a_batch_gives_what_single_images_give(name: str) -> None:
    # Random refiners amplify rounding: of twelve seeds four differ by up to 2e-5, also layer by layer.
    network, batch = build(name, seed=5), images(3)
    with torch.no_grad():
        together, alone = network(batch), [network(image[None]) for image in batch]
    for field in ("landmarks", "mu", "logvar"):
        single = torch.cat([getattr(one, field) for one in alone])
        torch.testing.assert_close(getattr(together, field), single, rtol=0, atol=1e-5)


@variants
def test_evaluation_repeats_and_training_draws_the_latent_code(name: str) -> None:
    network, batch = build(name), images(1)
    with torch.no_grad():
        assert torch.equal(network(batch).landmarks, network(batch).landmarks)
        network.train()
        first, second = network(batch), network(batch)
        assert torch.equal(first.mu, second.mu)
        assert not torch.equal(first.landmarks, second.landmarks)


def test_the_draw_has_the_deviation_that_the_encoder_gives() -> None:
    network = build("skipsnone").train()
    seen: list[Tensor] = []
    decode = network.decode
    network.decode = lambda z, *rest: (seen.append(z), decode(z, *rest))[1]  # type: ignore[method-assign]
    with torch.no_grad():
        network.fc_logvar.weight.zero_()
        network.fc_logvar.bias.fill_(2 * torch.log(torch.tensor(3.0)))
        out = network(images(1).expand(60, -1, -1, -1))
    noise = (seen[0] - out.mu) / 3
    assert float(noise.mean()) == pytest.approx(0, abs=0.06)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("skips", "values"), [((), 17_461_074), ((6,), 17_486_066), ((6, 5), 17_511_090)], ids=str
)
def test_published_networks_have_the_published_number_of_parameters(skips: Any, values: int) -> None:
    network = HybridGNet(LUNGS_HEART, 1024, skips=skips)
    assert sum(p.numel() for p in network.parameters()) == values
    if skips == (6, 5):
        assert len(list(network.parameters())) == 107


def test_skips_hand_image_features_and_positions_on() -> None:
    network = build("skips43")
    assert network.coarse3.conv.in_channels == 16 + 64 + 2
    assert network.fine2.conv.in_channels == 32 + 32 + 2


def test_up_sampling_is_stored_with_the_weights_and_no_other_constant() -> None:
    network = build("refine_masks")
    assert set(network.state_dict()) - {name for name, _ in network.named_parameters()} == {"up"}
    for name in ("wrap", "copy"):
        matrix = HybridGNet(ORGANS, SIZE, upsampling=name).state_dict()["up"]  # type: ignore[arg-type]
        assert torch.equal(matrix, graphs.upsampling(ORGANS, name))  # type: ignore[arg-type]


def test_both_graph_convolutions_share_weights_and_results() -> None:
    static, pyg = build("skips65"), build("pyg", seed=1)
    pyg.load_state_dict(static.state_dict())
    with torch.no_grad():
        a, b = static(images(2)), pyg(images(2))
    torch.testing.assert_close(a.landmarks, b.landmarks, rtol=0, atol=1e-5)


def test_a_fresh_template_network_starts_at_its_template() -> None:
    network = HybridGNet(ORGANS, SIZE, template=True, refine=(0.05,)).eval()
    assert network.template is not None
    shape = torch.rand(166, 2)
    with torch.no_grad():
        network.template.copy_(shape)
        out = network(images(2))
    torch.testing.assert_close(out.landmarks, shape.expand(2, -1, -1))
    torch.testing.assert_close(out.positions[0][0], graphs.downsampling(ORGANS) @ shape)


def test_refinement_moves_no_further_than_its_gradient_is_cut() -> None:
    network = build("refine")
    landmarks = network(images(1)).landmarks
    landmarks.sum().backward()
    # The decoder's own contours keep their own supervision: the refined ones teach only the refiner.
    assert network.head.lins[0].weight.grad is None
    assert network.refiner is not None
    assert network.refiner.steps[-1].move.weight.grad.abs().sum() > 0


def test_timm_weights_fit_any_image_size() -> None:
    small, large = (HybridGNet(ORGANS, size, encoder="tf_efficientnet_lite0") for size in (64, 128))
    large.load_state_dict(small.state_dict())
    out = large.eval()(torch.rand(1, 1, 128, 128))
    assert out.landmarks.shape == (1, 166, 2)


@pytest.mark.parametrize("name", ["skips65", "refine", "timm_refine"])
def test_half_precision_keeps_the_landmarks(name: str) -> None:
    network, batch = build(name), images(2)
    with torch.no_grad():
        full = network(batch).landmarks
        with torch.autocast("cpu", torch.bfloat16):
            half = network(batch).landmarks
    assert half.dtype == torch.float32
    # Random weights amplify rounding far more than trained ones, so that only the magnitude can be judged.
    assert float((half - full).std() / full.std()) < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"image_size": 32}, "at least 64"),
        ({"skips": (6, 5, 4)}, "at most two"),
        ({"skips": (7,)}, r"levels \[1, 2, 3, 4, 5, 6\]"),
        ({"skips": (1,)}, "from 2 on"),
        ({"window": 2}, "odd"),
        ({"lookup": "nearest"}, "'average' or 'roi_align'"),
        ({"upsampling": "zero"}, "'wrap'"),
        ({"encoder": "nothing"}, "neither 'residual'"),
        ({"graph_conv": "sparse"}, "static, pyg"),
        ({"refine": (0.7,)}, "0 < reach < 0.5"),
        ({"organs": {"heart": 2}}, "at least 4"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HybridGNet(**{"organs": ORGANS, "image_size": SIZE} | settings)


def test_a_code_without_variance_gives_the_contours_of_the_mean_and_no_samples() -> None:
    torch.manual_seed(0)
    whole = HybridGNet({"heart": 26}, 64).eval()
    bare = HybridGNet({"heart": 26}, 64, variational=False)
    kept = {name: value for name, value in whole.state_dict().items() if "fc_logvar" not in name}
    bare.load_state_dict(kept)
    image = torch.rand(2, 1, 64, 64)
    for mode in (True, False):  # no code is drawn in training
        output = bare.train(mode)(image)
        assert torch.equal(output.landmarks, whole(image).landmarks)
        assert output.logvar is None
    with pytest.raises(ConfigError, match="no variance"):
        bare.sample(image, torch.zeros(1, 64))
