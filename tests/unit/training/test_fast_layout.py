"""Channels last: planes and volumes are laid out before a fit, and answers stay what they were."""

from typing import Any

import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.unet.module import UNetModule

PLANES: dict[str, Any] = {"organs": ["a"], "frame": FrameSpec(64), "decoder_widths": [2, 2, 4, 4, 8]}
VOLUMES: dict[str, Any] = {"organs": ["a"], "frame": FrameSpec([16, 16, 16], "stretch")}
VOLUMES |= {"architecture": "dynunet"}


@pytest.mark.parametrize(
    ("method", "settings", "form"),
    [
        (UNetModule, PLANES, torch.channels_last),
        (AcnnModule, VOLUMES | {"widths": [4, 8, 8]}, torch.channels_last_3d),
        (AcnnModule, VOLUMES | {"widths": [16, 16, 32]}, None),
    ],
)
def test_weights_lie_where_a_step_is_fast(method: Any, settings: dict[str, Any], form: Any) -> None:
    torch.manual_seed(0)
    module = method(**settings).eval()
    image = torch.rand(2, 1, *module.shape)
    before = module(image)
    module.setup("fit")
    kernels = [p for p in module.parameters() if p.ndim == image.ndim and min(p.shape[:3]) > 1]
    assert len(kernels) > 3
    assert all(each.is_contiguous(memory_format=form or torch.contiguous_format) for each in kernels)
    torch.testing.assert_close(module(image), before, rtol=1e-4, atol=1e-5)
