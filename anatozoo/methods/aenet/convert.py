"""Converts the label autoencoder of the AC-RegNet authors' PyTorch port."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from anatozoo.errors import WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.aenet.network import SHRINKAGE
from anatozoo.training.conversion import fill

STYLES = ("port",)
OPTIONS = ("organs",)

_PART = {"0": "conv", "1": "norm"}
# Positions of the convolutions among the layers of the port, by their position in anatozoo's network.
_ENCODER = {"0": 0, "2": 1, "4": 2, "6": 3, "8": 4}
_DECODER = {"0.block.1": 0, "2": 1, "4.block.1": 2, "6": 3, "8.block.1": 4}


def styles_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The release that wrote these tensors, from their names."""
    return STYLES if any(key.startswith("encoder_cnn.") for key in state) else ()


def convert_state(
    state: Mapping[str, Tensor], style: str = "port", *, organs: str | Sequence[str] | None = None
) -> AeNetModule:
    """Build the module of the authors' tensors and load them; every tensor must fit.

    Args:
        state: the authors' tensors under their names.
        style: ``"port"``, the only release that has weights.
        organs: names of the organs; None numbers them.

    Returns:
        The module in eval mode.

    Raises:
        WeightsError: names or shapes are not those of the network.
    """
    if style not in STYLES:
        raise WeightsError(f"style={style!r} is unknown; choose {' or '.join(STYLES)}.")
    ours = {rename(key): value for key, value in state.items()}
    absent = [name for name in ("head.bias", "to_code.weight") if name not in ours]
    if absent:
        raise WeightsError(f"this is not a complete AENet: {', '.join(absent)} missing.")
    classes = ours["head.bias"].numel() - 1
    names = [f"label{i}" for i in range(1, classes + 1)] if organs is None else _names(organs)
    if len(names) != classes:
        raise WeightsError(f"the autoencoder has {classes} classes beside background, not {len(names)}.")
    code, cells = ours["to_code.weight"].shape
    side = round(cells**0.5)
    if side * side != cells:
        raise WeightsError(f"encoder_linear takes {cells} values, which no square input gives.")
    module = AeNetModule(organs=names, frame=FrameSpec(SHRINKAGE * side), code=code)
    fill(module.network, ours)
    return module.eval()


def rename(key: str) -> str:
    """The name in anatozoo of one of the authors' tensors.

    Raises:
        WeightsError: the name is unknown.
    """
    match = re.fullmatch(r"encoder_cnn\.(\d)\.block\.([01])\.(\w+)", key)
    if match and match[1] in _ENCODER:
        return f"encoder.{_ENCODER[match[1]]}.{_PART[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"(encoder_linear|decoder_linear\.0)\.(weight|bias)", key):
        return f"{'to_code' if match[1] == 'encoder_linear' else 'from_code'}.{match[2]}"
    if match := re.fullmatch(r"decoder_cnn\.10\.block\.0\.(weight|bias)", key):
        return f"head.{match[1]}"
    match = re.fullmatch(r"decoder_cnn\.(\d(?:\.block\.1)?)\.block\.([01])\.(\w+)", key)
    if match and match[1] in _DECODER:
        return f"decoder.{_DECODER[match[1]]}.{_PART[match[2]]}.{match[3]}"
    raise WeightsError(f"{key!r} is not a tensor of AENet of AC-RegNet's PyTorch port.")


def _names(organs: str | Sequence[str]) -> list[str]:
    return [organs] if isinstance(organs, str) else list(organs)
