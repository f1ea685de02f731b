from typing import Any

import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.nn.mask_decoder import MaskDecoder, build_mask_decoder
from anatozoo.organs import LUNGS_HEART

WIDTHS = {1: 8, 2: 16, 3: 32, 4: 64, 5: 128, 6: 128}


def maps(size: int, batch: int = 2) -> dict[int, torch.Tensor]:
    return {
        level: torch.rand(batch, c, size >> (level - 1), size >> (level - 1)) for level, c in WIDTHS.items()
    }


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("kind", ["code", "skips"])
def test_logits_have_the_size_of_the_image(kind: str, size: int) -> None:
    decoder = build_mask_decoder(kind, 5, 4, size, WIDTHS)
    assert decoder is not None
    assert decoder(torch.randn(2, 5), maps(size)).shape == (2, 4, size, size)
    # The paper's encoder, reversed.
    assert [block.conv2.out_channels for block in decoder.blocks] == [128, 64, 32, 16, 8]  # type: ignore[union-attr]
    assert decoder.expand.out_features == 128 * (size // 32) ** 2


def test_only_skips_look_at_the_encoders_maps() -> None:
    z, one, other = torch.randn(2, 5), maps(64), maps(64)
    torch.manual_seed(0)
    blind = MaskDecoder(5, 4, 64)
    torch.manual_seed(0)
    seeing = MaskDecoder(5, 4, 64, WIDTHS)
    assert torch.equal(blind(z, one), blind(z, other))
    # Maps of zero add nothing, any level changes the result.
    zeros = {level: torch.zeros_like(x) for level, x in one.items()}
    assert torch.equal(seeing(z, zeros), blind(z, one))
    for level in (1, 2, 3, 4, 5):
        assert not torch.equal(seeing(z, zeros | {level: one[level]}), blind(z, one)), level


def test_an_encoder_of_other_widths_gives_them_to_the_decoder() -> None:
    narrow = {1: 4, 2: 6, 3: 8, 4: 10, 5: 12, 6: 14}
    decoder = MaskDecoder(5, 3, 64, narrow)
    given = {level: torch.rand(1, c, 64 >> (level - 1), 64 >> (level - 1)) for level, c in narrow.items()}
    assert decoder(torch.randn(1, 5), given).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_decoder": "unet"}, "mask_decoder='unet' is unknown; choose one of none, code, skips"),
        (
            {"mask_decoder": "skips", "encoder": "tf_efficientnet_lite0"},
            r"levels 1 to 5, and this encoder has \[2, 3, 4, 5, 6\]: choose mask_decoder='code'",
        ),
        ({"order": 0}, "order=0 must be at least 1"),
        ({"latents": 0}, "latents=0 must be at least 1"),
        ({"features": 1}, "features=1 must be at least 2"),
        ({"skips": [7]}, r"this encoder has the levels \[1, 2, 3, 4, 5, 6\], from 2 on"),
        ({"skips": [1]}, "from 2 on"),
        ({"window": 2}, "window=2 must be odd"),
        ({"window": -1}, "window=-1 must be odd and positive"),
    ],
)
def test_settings_that_cannot_be_built_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HybridGNet(LUNGS_HEART, 64, **settings)


def test_a_timm_encoder_takes_masks_from_the_code() -> None:
    network = HybridGNet(LUNGS_HEART, 64, encoder="tf_efficientnet_lite0", mask_decoder="code").eval()
    masks = network(torch.rand(1, 1, 64, 64)).masks
    assert masks is not None
    assert masks.shape == (1, 4, 64, 64)


def test_without_a_mask_decoder_nothing_changes() -> None:
    torch.manual_seed(0)
    plain = HybridGNet(LUNGS_HEART, 64).eval()
    torch.manual_seed(0)
    dual = HybridGNet(LUNGS_HEART, 64, mask_decoder="skips").eval()
    assert not [name for name in plain.state_dict() if "mask" in name]
    assert all(torch.equal(value, dual.state_dict()[name]) for name, value in plain.state_dict().items())
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        one, other = plain(image), dual(image)
    assert one.masks is None
    assert torch.equal(one.landmarks, other.landmarks)


@pytest.mark.parametrize("kind", ["code", "skips"])
def test_both_decoders_take_the_code_that_was_drawn(kind: str) -> None:
    network = HybridGNet(LUNGS_HEART, 64, skips=(), mask_decoder=kind).train()
    seen = []
    assert network.mask_decoder is not None
    network.mask_decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    decode = network.decode
    network.decode = lambda z, *rest: (seen.append(z), decode(z, *rest))[1]  # type: ignore[method-assign]
    output = network(torch.rand(2, 1, 64, 64))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], output.mu)
