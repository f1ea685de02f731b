"""A HybridGNet that takes no time, with all parts of a large one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.square import to_network
from anatozoo.io.images import Image
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


def single_decodings(model: HybridGNetModel, image: Image, noise: Tensor) -> np.ndarray:
    """The landmarks that each row of noise gives, decoded one by one.

    Args:
        model: with a refiner.
        image: of any size.
        noise: (samples, latents) of the standard normal distribution.

    Returns:
        (samples, landmarks, 2) in pixels of the image.
    """
    network, contours = model.network, []
    pixels, geometry = to_network(image, model.side)
    with torch.no_grad():
        maps = network.encoder(torch.from_numpy(pixels)[None, None])
        mu, logvar = network.encode(maps)
        for each in noise:
            coarse, _, nodes = network.decode(mu + each * (logvar / 2).exp(), maps)
            last = network.refiner(coarse, nodes, maps, network.spacing).steps[-1][0]
            contours.append(geometry.points_to_source(last.double().numpy() * model.side))
    return np.stack(contours)
