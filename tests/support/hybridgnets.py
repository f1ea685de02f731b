"""A HybridGNet that takes no time, with all parts of a large one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.model import HybridGNetModel

Net = TypeVar("Net", bound=HybridGNetModel)


def small_hybridgnet(kind: type[Net], side: int = 64) -> Net:
    """A refined network of lungs and heart with random weights, for predictions.

    Args:
        kind: the model, or the module that trains it.
        side: of its input.
    """
    torch.manual_seed(0)
    model = kind(
        organs="lungs_heart",
        latents=8,
        features=8,
        template=True,
        refine=[0.05],
        refine_features=8,
        anchors={"heart": [0, 5, 12, 18]},
        frame=FrameSpec(side),
    )
    with torch.no_grad():  # else every contour starts as the template and stays there
        for name, parameter in model.network.named_parameters():
            if name.startswith(("head", "skip", "refiner.steps")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@contextmanager
def without_variance(model: HybridGNetModel) -> Iterator[None]:
    """Give the latent code a variance of nearly zero."""
    layer = model.network.fc_logvar
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-60.0)
    try:
        yield
    finally:
        layer.load_state_dict(kept)
