"""Fused convolutions and EfficientNet-Lite0 against the layers one by one, and against timm."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from anatozoo.nn import fused
from anatozoo.nn.blocks import TimmEncoder
from anatozoo.nn.depthwise import SameConv2d
from anatozoo.nn.efficientnet_lite import EfficientNetLite0, convolution
from anatozoo.nn.fused import conv_norm


def layers(stride: int, groups: int, kernel: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution of eight channels and its normalisation, with statistics."""
    torch.manual_seed(0)
    conv, norm = convolution(8, 8, kernel, stride, groups), nn.BatchNorm2d(8).eval()
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        nn.init.normal_(values)  # type: ignore[arg-type]  # it has statistics
    nn.init.uniform_(norm.running_var, 0.2, 3)  # type: ignore[arg-type]
    return conv, norm


@pytest.mark.parametrize("relu6", [True, False])
@pytest.mark.parametrize(
    ("stride", "groups", "kernel"), [(1, 1, 1), (1, 8, 5), (2, 8, 3), (2, 8, 5), (2, 1, 3)]
)
@pytest.mark.parametrize("public", [True, False])
def test_one_step_gives_what_three_give(
    stride: int, groups: int, kernel: int, relu6: bool, public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fused._fuses(torch.float32), "this torch has no such step, or another one: see what it costs"
    if public:
        monkeypatch.setattr(fused, "_fuses", lambda dtype: False)
    conv, norm = layers(stride, groups, kernel)
    for height, width in ((12, 12), (13, 9), (1, 2)):
        x = 3 * torch.randn(2, 8, height, width)
        expected = norm(conv(x))  # with a gradient: one by one
        expected = expected.clamp(0, 6) if relu6 else expected
        assert torch.equal(conv_norm(x, conv, norm, relu6=relu6), expected)
        with torch.inference_mode():
            found = conv_norm(x, conv, norm, relu6=relu6)
        assert found.shape == expected.shape == (2, 8, -(-height // stride), -(-width // stride))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert not relu6 or (found.min() >= 0 and found.max() <= 6)


def test_changed_weights_are_never_overlooked() -> None:
    conv, norm = layers(1, 1, 1)
    x = torch.randn(1, 8, 4, 4)
    with torch.inference_mode():
        before = conv_norm(x, conv, norm, relu6=False)
        conv.weight.data.mul_(2)
        norm.running_mean.data.zero_()  # type: ignore[union-attr]
        after = conv_norm(x, conv, norm, relu6=False)
    torch.testing.assert_close(after, norm(conv(x)), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, after)


def test_training_statistics_and_gradients_are_as_before() -> None:
    conv, norm = layers(2, 8, 3)
    other = copy.deepcopy(norm).train()
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    mean = other.running_mean.clone()  # type: ignore[union-attr]
    with torch.no_grad():
        assert torch.equal(conv_norm(x, conv, other.train(), relu6=False), copy.deepcopy(other)(conv(x)))
    assert not torch.equal(other.running_mean, mean)  # type: ignore[arg-type]
    conv_norm(x, conv, norm, relu6=True).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None


def test_the_network_is_that_of_timm() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False, in_chans=1)
    for name, value in theirs.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    ours = EfficientNetLite0()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert ours.widths == theirs.feature_info.channels()
    for shape in ((2, 1, 64, 64), (1, 1, 65, 50)):
        x = torch.randn(shape)
        pairs = list(zip(ours.eval()(x), theirs.eval()(x), strict=True))
        assert all(torch.equal(own, other) for own, other in pairs)
        with torch.inference_mode():
            for own, (_, other) in zip(ours(x), pairs, strict=True):
                torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)
    encoder = TimmEncoder("tf_efficientnet_lite0")
    assert encoder.channels == dict(zip(range(2, 7), theirs.feature_info.channels(), strict=True))
    assert [2 ** (level - 1) for level in encoder.levels] == theirs.feature_info.reduction()


def test_padding_is_that_of_tensorflow() -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.ones(1, 1, 4, 4)
    expected = torch.tensor([[[[9.0, 6.0], [6.0, 4.0]]]])  # one row and column of zeros, at the far ends
    assert torch.equal(conv(x), expected)
    with torch.inference_mode():
        assert torch.equal(conv(x), expected)


def test_bfloat16_begins_after_the_largest_maps() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        full = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x)
    kinds = [*[torch.float32] * 3, torch.bfloat16, torch.bfloat16]
    assert [each.dtype for each in half] == kinds
    for exact, other in zip(full[:3], half[:3], strict=True):
        assert torch.equal(exact, other)
    for exact, other in zip(full[3:], half[3:], strict=True):
        assert (exact - other).abs().max() < 0.05 * exact.abs().max()
    with torch.autocast("cpu", torch.bfloat16):  # with gradients each layer decides, as in other networks
        assert network(x)[0].dtype == torch.bfloat16


def test_asking_whether_it_fuses_draws_no_random_numbers() -> None:
    fused._fuses.cache_clear()
    before = torch.get_rng_state()
    assert fused._fuses(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
