import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.postdae.network import PaperDAE, ResidualDAE


def probabilities(shape: tuple[int, ...], classes: int, count: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, classes, *shape, generator=draw).softmax(1)


def test_the_paper_has_five_halvings_a_code_of_512_and_no_skips() -> None:
    network = PaperDAE((64, 96), 2)
    widths = [layer.out_channels for layer in network.encoder if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [16, 16, 32, 32, 32, 32, 32, 32, 32]
    assert network.encoder[-1].stride == (2, 2)  # type: ignore[union-attr]  # the last stage is one convolution
    assert (network.to_code.in_features, network.to_code.out_features) == (32 * 2 * 3, 512)
    assert network(probabilities((64, 96), 2)).shape == (2, 2, 64, 96)
    assert network.encode(probabilities((64, 96), 2)).shape == (2, 512)


@pytest.mark.parametrize("shape", [(64, 64), (32, 96), (32, 32, 64)])
@pytest.mark.parametrize("skips", [(), (4, 8), (1, 2, 4, 8, 16, 32)])
def test_logits_have_the_size_of_the_mask(shape: tuple[int, ...], skips: tuple[int, ...]) -> None:
    network = ResidualDAE(shape, 3, widths=(4, 4, 8, 8, 8), code=5, squeeze=2, skips=skips)
    found = network(probabilities(shape, 3))
    assert found.shape == (2, 3, *shape)
    assert found.dtype == torch.float32
    assert network.encode(probabilities(shape, 3)).shape == (2, 5)


def test_without_skips_everything_passes_through_the_code() -> None:
    torch.manual_seed(0)
    for skips, alike in (((), True), ((4,), False), ((1,), False)):
        network = ResidualDAE((64, 64), 3, widths=(4, 4, 8, 8, 8), code=5, squeeze=2, skips=skips).eval()
        with torch.no_grad():
            for parameter in network.bottleneck.to_code.parameters():
                parameter.zero_()  # a code that says the same of every mask
            one, other = network(probabilities((64, 64), 3))
        assert torch.equal(one, other) == alike


def test_the_code_sees_the_whole_mask() -> None:
    torch.manual_seed(0)
    network = ResidualDAE((64, 64), 3, widths=(4, 4, 8, 8), code=8, squeeze=2, skips=(4, 8)).eval()
    mask = probabilities((64, 64), 3, 1).requires_grad_()
    network(mask)[0, 1, 0, 0].backward()
    assert mask.grad is not None
    assert float(mask.grad[0, :, -16:, -16:].abs().sum()) > 0


def test_dense_layers_do_not_grow_with_large_frames() -> None:
    sizes = {
        side: sum(p.numel() for p in ResidualDAE((side, side), 6).bottleneck.parameters())
        for side in (128, 256, 512)
    }
    assert sizes[128] < sizes[256] == sizes[512]
    whole = sum(p.numel() for p in ResidualDAE((256, 256), 6).parameters())
    assert 2 * whole < 12e6  # bytes in half precision


def test_large_frames_go_through_a_pooled_code() -> None:
    network = ResidualDAE((128, 64), 3, widths=(4, 4, 8), code=8, squeeze=2, cells=4, skips=())
    assert network.bottleneck.cells == (4, 4)
    assert network(probabilities((128, 64), 3)).shape == (2, 3, 128, 64)


@pytest.mark.parametrize("shape", [(48, 64), (64,), (16, 32), (32, 32, 40)])
def test_sizes_that_cannot_be_halved_are_refused(shape: tuple[int, ...]) -> None:
    for kind in (PaperDAE, ResidualDAE):
        with pytest.raises(ConfigError, match="multiples of 32"):
            kind(shape, 3)


def test_skips_must_be_strides_and_numbers_positive() -> None:
    with pytest.raises(ConfigError, match="among 1, 2, 4"):
        ResidualDAE((64, 64), 3, widths=(4, 4), skips=(3,))
    with pytest.raises(ConfigError, match="at least 1"):
        ResidualDAE((64, 64), 3, code=0)
    with pytest.raises(ConfigError, match="code=0"):
        PaperDAE((64, 64), 3, code=0)
