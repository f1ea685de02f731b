"""Channels last: planes and volumes are laid out, and a fit gives what it gave."""

import lightning as L
import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.channels_last import ChannelsLast

PLANES = {"organs": ["a"], "frame": FrameSpec(64), "decoder_widths": [2, 2, 4, 4, 8]}
VOLUMES = {"organs": ["a"], "frame": FrameSpec([16, 16, 16], "stretch"), "architecture": "dynunet"}


@pytest.mark.parametrize(
    ("method", "settings", "form"),
    [
        (UNetModule, PLANES, torch.channels_last),
        (AcnnModule, VOLUMES | {"widths": [4, 8, 8]}, torch.channels_last_3d),
    ],
)
def test_weights_and_answers_have_channels_last(method, settings, form):
    torch.manual_seed(0)
    module = method(**settings).eval()
    image = torch.rand(2, 1, *module.shape)
    before = module(image)
    ChannelsLast().setup(L.Trainer(logger=False), module, "fit")
    kernels = [p for p in module.parameters() if p.ndim == image.ndim and min(p.shape[:3]) > 1]
    assert len(kernels) > 3
    assert all(kernel.is_contiguous(memory_format=form) for kernel in kernels)
    after = module(image)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
