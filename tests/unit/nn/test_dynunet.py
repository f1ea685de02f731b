"""DynUNet against MONAI's, and the fast convolution of volumes against torch's."""

from typing import Any

import pytest
import torch
from torch import nn

from anatozoo.nn import conv_norm
from anatozoo.nn.conv_norm import VolumeConv
from anatozoo.nn.dynunet import DynUNet
from anatozoo.nn.volume_blocks import pyramid

WIDTHS = (4, 8, 8, 12)


def monais(shape: tuple[int, ...], supervised: int = 2) -> Any:
    """MONAI's network of the same settings and seed."""
    from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

    torch.manual_seed(3)
    strides, kernels = pyramid(shape, len(WIDTHS))
    deep = {"deep_supervision": supervised > 0, "deep_supr_num": max(supervised, 1)}
    return MonaiDynUNet(len(shape), 1, 3, kernels, strides, strides[1:], list(WIDTHS), **deep)


def own(shape: tuple[int, ...], supervised: int = 2) -> DynUNet:
    """The network of that seed."""
    torch.manual_seed(3)
    return DynUNet(shape, 3, WIDTHS, supervised)


@pytest.mark.parametrize("supervised", [0, 1, 2])
@pytest.mark.parametrize("shape", [(32, 48), (8, 32, 32), (16, 16, 16)])
def test_a_seed_gives_the_weights_and_answers_of_monai(shape: tuple[int, ...], supervised: int) -> None:
    theirs, mine = monais(shape, supervised), own(shape, supervised)
    expected = {k: v for k, v in theirs.state_dict().items() if not k.startswith("skip_layers.")}
    found = mine.network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    image = torch.rand(2, 1, *shape)
    levels = torch.stack(mine.train().outputs(image), 1)
    torch.testing.assert_close(levels, theirs.train()(image).view_as(levels), rtol=0, atol=1e-6)
    levels.square().mean().backward()
    theirs(image).square().mean().backward()
    for name, parameter in mine.network.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-3, atol=1e-6)
    with torch.inference_mode():
        for batch in (image, image[:1]):
            torch.testing.assert_close(mine.eval()(batch), theirs.eval()(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (1, 1, 1)])
def test_the_fast_convolution_gives_what_torch_gives(kernel: tuple[int, ...], stride: int) -> None:
    assert conv_norm._has_name(), "this torch has no such convolution, or another one: see what it costs"
    torch.manual_seed(0)
    padding = tuple(side // 2 for side in kernel)
    fast = VolumeConv(4, 6, kernel, stride, padding)  # type: ignore[arg-type]
    plain = nn.Conv3d(4, 6, kernel, stride, padding)  # type: ignore[arg-type]
    plain.load_state_dict(fast.state_dict())
    for size in ((5, 9, 7), (1, 2, 3)):
        x = torch.randn(1, 4, *size)
        with torch.no_grad():
            assert conv_norm.asks_by_name(x, fast.weight)
            torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-5)
            torch.testing.assert_close(fast(x[0]), plain(x[0]), rtol=0, atol=1e-5)  # a volume, no batch


def test_what_is_recorded_takes_the_layer_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(conv_norm, "_by_name", refuse)
    network, image = own((8, 32, 32)).eval(), torch.rand(1, 1, 8, 32, 32)
    network(image).sum().backward()
    torch.export.export(network, (image,))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(image)
    with torch.no_grad():
        network.double()(image.double())
    monkeypatch.setattr(conv_norm, "_has_name", lambda: False)
    with torch.no_grad():
        network.float()(image)
