"""A shape model for any network: its organs, its resolution and its view, adapted or refused."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.organs import parts_of


class ShapeCode(nn.Module):
    """Codes of a network's output, adapted to the classes and the resolution of a shape model.

    The shape model is frozen and always stays in evaluation mode; gradients pass through it. A network of
    another resolution may use it if both frames have the same proportions, or the same number of slices with
    the same proportions: maps are then averaged or interpolated to its resolution. If the model has ``lungs``
    or ``clavicles`` and the network each side, the sides are joined.

    Args:
        model: has ``encode``, codes (B, K) of one-hot or soft labels (B, 1 + organs, ...), or
            ``encode_image``, codes of images (B, 1, ...).
        of_images: the input is images, not label maps.
        organs: the network's organs, in the order of its channels; None takes the model's.
        frame: the network's frame; None does not compare it with the model's.

    Raises:
        ConfigError: organs or frame of network and model differ.
    """

    merge: Tensor | None

    def __init__(
        self,
        model: Any,
        *,
        of_images: bool = False,
        organs: Sequence[str] | None = None,
        frame: FrameSpec | None = None,
    ) -> None:
        super().__init__()
        if of_images and not hasattr(model, "encode_image"):
            raise ConfigError(
                f"{type(model).__name__} knows label maps alone; a network that gives images needs a T-L "
                "network."
            )
        if frame is not None:
            check_shape(model.frame.shape, frame.shape)
            check_view(field_of_view(model.frame), field_of_view(frame))
        table = None
        if organs is not None and not of_images:
            table = merging(list(organs), list(model.organs))
        same = table is None or torch.equal(table, torch.eye(len(table)))
        self.register_buffer("merge", None if same else table, persistent=False)
        self.of_images = of_images
        self.model = model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "ShapeCode":
        """Stay in evaluation mode: batch statistics of predictions must not change the codes."""
        return super().train(False)

    def forward(self, answer: Tensor) -> Tensor:
        """Codes (B, K) in float32.

        Args:
            answer: one-hot or soft labels (B, 1 + organs, ...), background first; or images (B, 1, ...),
                clipped to [0, 1].
        """
        # Codes are differences of many numbers: rounding in half precision would hide them.
        with torch.autocast(answer.device.type, enabled=False):
            if self.of_images:
                values = answer.float().clamp(0, 1)
                codes: Tensor = self.model.encode_image(fit_to(values, self.model.frame.shape))
                return codes
            codes = self.model.encode(self.fitted(answer))
            return codes

    def fitted(self, answer: Tensor) -> Tensor:
        """Label maps (B, 1 + organs, ...) with the organs and the resolution of the model, float32."""
        values = answer.float()
        if self.merge is not None:
            values = torch.einsum("kc,bc...->bk...", self.merge, values)
        return fit_to(values, self.model.frame.shape)


def merging(organs: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """How a network's channels make up a model's, (1 + wanted, 1 + organs) of zeros and ones.

    Args:
        organs: those of the network.
        wanted: those of the model; ``lungs`` and ``clavicles`` may stand for both sides.

    Raises:
        ConfigError: an organ of one is not among the other's.
    """
    table = torch.zeros(1 + len(wanted), 1 + len(organs))
    table[0, 0] = 1
    whole = True
    for row, name in enumerate(wanted, start=1):
        parts = (name,) if name in organs else parts_of(name)
        whole = whole and all(part in organs for part in parts)
        for part in parts:
            if part in organs:
                table[row, 1 + list(organs).index(part)] = 1
    if not whole or not bool((table.sum(0) == 1).all()):
        raise ConfigError(
            f"the shape model knows {', '.join(wanted)}, the network {', '.join(organs)}; both must be the "
            "same organs."
        )
    return table


def fit_to(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps (B, C, ...) at another resolution: averaged where that is coarser, interpolated where finer."""
    size = tuple(maps.shape[2:])
    if size == tuple(shape):
        return maps
    coarser = all(theirs <= ours for theirs, ours in zip(shape, size, strict=True))
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(maps, tuple(shape), mode="area" if coarser else mode)


def check_shape(model: Sequence[int], network: Sequence[int]) -> None:
    """Refuse frames of different dimensions or proportions; volumes may have as many slices in both.

    Args:
        model: shape of the frame of what knows shapes.
        network: the same of the network that learns from it.

    Raises:
        ConfigError: they differ.
    """
    same = len(model) == len(network) and _proportions(model) == _proportions(network)
    same_slices = len(model) == len(network) == 3 and model[0] == network[0]
    if not same and not (same_slices and _proportions(model[1:]) == _proportions(network[1:])):
        raise ConfigError(
            f"the shape model sees {' x '.join(map(str, model))} pixels, the network "
            f"{' x '.join(map(str, network))}; both need the same number of dimensions and the same "
            "proportions."
        )


def field_of_view(frame: FrameSpec) -> str:
    """What a frame shows of an image, in words that are the same where the view is."""
    if frame.fit == "spacing":
        steps = frame.spacing_mm or ()
        sizes = [f"{side * step:g}" for side, step in zip(frame.shape[::-1], steps, strict=True)]
        return f"{' x '.join(sizes)} mm"
    if frame.fit == "slices":
        share = 100 * frame.shape[-1] / (frame.long_side or 1)
        return f"{frame.shape[0]} slices, {share:.3g} % of their longer side"
    # What padding shows beside the image depends on the frame's proportions.
    return (
        f"the whole image ({' : '.join(map(str, _proportions(frame.shape)))})"
        if frame.fit == "pad"
        else "the whole image"
    )


def _proportions(shape: Sequence[int]) -> tuple[int, ...]:
    """The sides in lowest terms."""
    common = math.gcd(*shape)
    return tuple(side // common for side in shape)


def check_view(model: str, network: str) -> None:
    """Refuse frames that show different parts of an image, as `field_of_view` tells them.

    Raises:
        ConfigError: they differ.
    """
    if model != network:
        raise ConfigError(
            f"the shape model sees {model}, the network {network}; both need the same field of view."
        )
