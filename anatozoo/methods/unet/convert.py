"""Converts the U-Net of the TMI 2022 release (HybridGNet's baseline); see `anatozoo.training.conversion`.

The later repositories of the authors have the same network. The file lacks the names of the labels (lungs,
heart, clavicles, in this order) and the size of the input (1024 for the authors; the tensors fit any).
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from anatozoo.errors import WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn.graphs import organ_names
from anatozoo.training.conversion import fill

STYLES = ("tmi",)
OPTIONS = ("organs", "image_size")

_LABELS = ("lungs", "heart", "clavicles")
_BOTTLENECK = 6
_PARTS = {
    "block.0": "norm1",
    "block.2": "conv1",
    "block.3": "norm2",
    "block.5": "conv2",
    "skip.0": "shortcut.0",
    "skip.1": "shortcut.1",
}


def styles_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """``("tmi",)`` if the names are those of this U-Net, else empty."""
    return STYLES if any(re.match(r"dconv_up\d\.", key) for key in state) else ()


def rename(key: str) -> str:
    """The name in anatozoo of one of the authors' tensors.

    Raises:
        WeightsError: the name is unknown.
    """
    if match := re.fullmatch(r"conv_last\.(weight|bias)", key):
        return f"head.{match[1]}"
    match = re.fullmatch(r"(dconv_down|dconv_up|bottleneck)(\d?)\.(\w+\.\d)\.(weight|bias)", key)
    if match and match[3] in _PARTS and (match[1] == "bottleneck") == (match[2] == ""):
        part = f"{_PARTS[match[3]]}.{match[4]}"
        if match[1] == "dconv_up":
            return f"blocks.{match[2]}.{part}"
        return f"encoder.blocks.{int(match[2] or _BOTTLENECK) - 1}.{part}"
    raise WeightsError(f"{key!r} is not a tensor of the U-Net of the TMI 2022 release.")


def convert_state(
    state: Mapping[str, Tensor],
    style: str = "tmi",
    *,
    organs: str | Sequence[str] | None = None,
    image_size: int = 1024,
) -> UNetModule:
    """Build the network of an authors' state dict and load the tensors; every one must fit.

    Args:
        state: the authors' tensors under their names.
        style: ``"tmi"``.
        organs: organs in the order of their labels; None takes the first of lungs, heart and clavicles.
        image_size: side of the square input in pixels.

    Returns:
        The module in evaluation mode.

    Raises:
        WeightsError: names, shapes or the number of organs are not those of this U-Net.
        ConfigError: the size or an organ's name is not possible.
    """
    if style not in STYLES:
        raise WeightsError(f"style={style!r} is unknown; choose {' or '.join(STYLES)}.")
    ours = {rename(key): value for key, value in state.items()}
    if "head.bias" not in ours:
        raise WeightsError("this is not a complete U-Net: conv_last.bias is missing.")
    count = ours["head.bias"].numel() - 1
    names = list(_LABELS[:count]) if organs is None else organ_names(organs)
    if len(names) != count:
        raise WeightsError(
            f"the network has {count} labels beside background, not {len(names)}: name them by organs."
        )
    module = UNetModule(organs=names, frame=FrameSpec(image_size, intensity="bits"))
    fill(module.network, ours)
    return module.eval()
