"""Samples of HybridGNet's latent code: what `predict` makes of them, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.images import Image, read_image
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.methods.unet.model import UNetModel
from anatozoo.nn.cheb import StaticChebConv
from anatozoo.tasks.contours import SAMPLES_SEED, ContourTask
from tests.support.hybridgnets import single_decodings, small_hybridgnet, without_variance

SIDE = 64


@pytest.fixture(scope="module")
def model() -> HybridGNetModel:
    return small_hybridgnet(HybridGNetModel, SIDE)


@pytest.fixture(scope="module")
def radiographs() -> list[Image]:
    draw = np.random.default_rng(2)
    return [Image(draw.random(size, np.float32)) for size in ((96, 128), (50, 40), (70, 70))]


def test_landmarks_are_the_mean_and_sigma_the_deviation_of_single_decodings(
    model: HybridGNetModel, radiographs: list[Image]
) -> None:
    found = model.predict(radiographs[0], samples=5)
    noise = torch.randn((5, 8), generator=torch.Generator().manual_seed(SAMPLES_SEED))
    every = single_decodings(model, radiographs[0], noise)
    assert found.samples == 5
    assert found.sigma is not None
    np.testing.assert_allclose(found.landmarks["lung_left"], every.mean(0)[44:94], atol=1e-3)
    for organ, part in model.parts.items():
        np.testing.assert_allclose(found.sigma[organ], every.std(0, ddof=1)[part], atol=1e-3)
    assert found.sigma_px == pytest.approx(every.std(0, ddof=1).mean(), abs=1e-3)
    assert found.sigma_px > 0.01
    assert found.shares is not None
    drawn = [draw_organ_mask(points[44:94], found.size) for points in every]
    assert np.abs(found.shares()["lung_left"] - np.mean(drawn, axis=0)).mean() < 0.01
    assert "dicomprob" in found.formats.writers


def test_an_image_gets_the_same_samples_alone_and_in_a_batch(
    model: HybridGNetModel, radiographs: list[Image]
) -> None:
    before = torch.get_rng_state()
    together = list(model.predict_batch(radiographs, batch_size=2, samples=20))
    for image, result in zip(radiographs, together, strict=True):
        alone = model.predict(image, samples=20)
        for organ in model.organs:
            np.testing.assert_allclose(alone.landmarks[organ], result.landmarks[organ], atol=1e-3)
            np.testing.assert_allclose(alone.sigma[organ], result.sigma[organ], atol=1e-3)
    again = model.predict(radiographs[0], samples=20)
    assert again.sigma_px == model.predict(radiographs[0], samples=20).sigma_px
    assert torch.equal(torch.get_rng_state(), before)


def test_many_codes_are_decoded_in_parts(
    model: HybridGNetModel, radiographs: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.predict(radiographs[0], samples=23)
    monkeypatch.setattr("anatozoo.nn.hybridgnet.CODES_AT_ONCE", 7)
    parts = model.predict(radiographs[0], samples=23)
    np.testing.assert_allclose(whole.sigma["heart"], parts.sigma["heart"], atol=1e-3)


def test_sigma_is_in_pixels_of_the_source(model: HybridGNetModel) -> None:
    small = np.random.default_rng(3).random((SIDE, SIDE), np.float32)
    large = small.repeat(4, 0).repeat(4, 1)
    one, four = (model.predict(Image(pixels), samples=10) for pixels in (small, large))
    assert four.sigma_px == pytest.approx(4 * one.sigma_px, rel=1e-3)


def test_without_variance_the_mean_is_the_prediction_and_sigma_nothing(
    model: HybridGNetModel, radiographs: list[Image]
) -> None:
    with without_variance(model):
        plain, sampled = model.predict(radiographs[0]), model.predict(radiographs[0], samples=50)
    assert plain.sigma is plain.samples is plain.sigma_px is plain.organ_sigma_px is None
    assert sampled.sigma_px < 1e-3
    for organ in model.organs:
        np.testing.assert_allclose(plain.landmarks[organ], sampled.landmarks[organ], atol=2e-3)


def test_less_variance_gives_a_smaller_sigma(model: HybridGNetModel, radiographs: list[Image]) -> None:
    layer = model.network.fc_logvar
    before = model.predict(radiographs[0], samples=20).sigma_px
    with torch.no_grad():
        layer.bias.sub_(16.0)
    try:
        after = model.predict(radiographs[0], samples=20).sigma_px
    finally:
        with torch.no_grad():
            layer.bias.add_(16.0)
    assert 0 < after < 0.5 * before


@pytest.mark.parametrize("wrong", [1, 0, -3, 1001, 10**30, 2.5, 50.0, "50", True, [50], float("nan")])
def test_impossible_numbers_are_refused(model: HybridGNetModel, radiographs: list[Image], wrong: Any) -> None:
    with pytest.raises(ConfigError, match="whole number from 2 to 1000"):
        model.predict(radiographs[0], samples=wrong)
    with pytest.raises(ConfigError, match="whole number from 2 to 1000"):
        model.predict_batch(radiographs, samples=wrong)


def test_numpy_numbers_and_the_attribute_count(model: HybridGNetModel, radiographs: list[Image]) -> None:
    assert model.predict(radiographs[0], samples=np.int64(3)).samples == 3
    model.samples = 4
    try:
        assert model.predict(radiographs[0]).samples == 4
        assert next(iter(model.predict_batch(radiographs))).samples == 4
        assert model.predict(radiographs[0], samples=2).samples == 2
    finally:
        del model.samples
    assert model.predict(radiographs[0]).samples is None


def test_models_without_a_latent_code_say_so(radiographs: list[Image]) -> None:
    class Fixed(ContourTask):
        def forward_landmarks(self, image: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(image), 4, 2)

    for model in (UNetModel(organs=["heart"], frame={"size": SIDE}), Fixed({"heart": 4}, FrameSpec(SIDE))):
        with pytest.raises(ConfigError, match="no latent code"):
            model.predict(radiographs[0], samples=50)
        with pytest.raises(ConfigError, match="whole number"):
            model.predict(radiographs[0], samples=1)


def test_half_precision_is_for_the_encoder_alone(model: HybridGNetModel, radiographs: list[Image]) -> None:
    kinds: set[tuple[torch.dtype, bool]] = set()

    def note(layer: torch.nn.Module, given: Any, answer: torch.Tensor) -> None:
        kinds.add((answer.dtype, torch.is_autocast_enabled("cpu")))

    hooks = [m.register_forward_hook(note) for m in model.network.modules() if isinstance(m, StaticChebConv)]
    result = model.predict(radiographs[0], samples=20, precision="bf16")
    for hook in hooks:
        hook.remove()
    assert hooks
    assert kinds == {(torch.float32, False)}
    full = model.predict(radiographs[0], samples=20)
    # A step of bfloat16 is 2**-8 of a value. The roundings of the encoder's layers are independent and add up
    # to a few steps in the width of the code; they are there, though.
    assert result.sigma_px == pytest.approx(full.sigma_px, rel=4 * 2**-8)
    assert result.sigma_px != full.sigma_px
    assert read_image(radiographs[0]).size == result.size
