"""Converts the registration network of the AC-RegNet authors' PyTorch port.

Its files hold the network and the grid of its warper, but not the labels it was trained with.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from anatozoo.errors import WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.training.conversion import fill

STYLES = ("port",)
OPTIONS = ("organs",)

_PART = {"0": "conv", "1": "norm"}
_GRID = "warper.grid"


def styles_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The release that wrote these tensors, from their names."""
    return STYLES if any(key.startswith("vector_cnn.") for key in state) else ()


def convert_state(
    state: Mapping[str, Tensor], style: str = "port", *, organs: str | Sequence[str] | None = None
) -> AcRegNetModule:
    """Build the module of the authors' tensors and load them; every tensor must fit.

    Args:
        state: the authors' tensors under their names.
        style: ``"port"``, the only release that has weights.
        organs: names of the organs; registration needs none.

    Returns:
        The module in eval mode, with the port's settings.

    Raises:
        WeightsError: names or shapes are not those of the network.
    """
    if style not in STYLES:
        raise WeightsError(f"style={style!r} is unknown; choose {' or '.join(STYLES)}.")
    ours = {rename(key): value for key, value in state.items() if key != _GRID}
    module = AcRegNetModule(
        organs=_names(organs) if organs else [],
        frame=FrameSpec(_side(state), intensity="bits"),  # the port divides grey values by 255
        normalization="output",
        double_elu=True,
        smoothness="tv_mean",
        # A file of weights does not say how they were trained; without labels only images can be compared.
        label_weight=1.0 if organs else 0.0,
    )
    fill(module.network, ours)
    return module.eval()


def rename(key: str) -> str:
    """The name in anatozoo of one of the authors' tensors.

    Raises:
        WeightsError: the name is unknown.
    """
    prefix = r"vector_cnn\.(enc|dec)_blocks\.(\d)\."
    if match := re.fullmatch(prefix + r"(?:conv\.)?block\.([02])\.block\.0\.(weight|bias)", key):
        part = "encoder" if match[1] == "enc" else "decoder"
        return f"networks.0.{part}.{match[2]}.conv{int(match[3]) // 2 + 1}.conv.{match[4]}"
    if match := re.fullmatch(prefix + r"up\.block\.1\.block\.0\.(weight|bias)", key):
        return f"networks.0.up.{match[2]}.conv.{match[3]}"
    if match := re.fullmatch(r"vector_cnn\.conv_out\.block\.([01])\.(\w+)", key):
        return f"networks.0.head.{_PART[match[1]]}.{match[2]}"
    raise WeightsError(f"{key!r} is not a tensor of the registration network of AC-RegNet's PyTorch port.")


def _side(state: Mapping[str, Tensor]) -> int:
    grid = state.get(_GRID)
    if grid is None:
        raise WeightsError(f"{_GRID} is missing, which tells the network's image size.")
    if grid.ndim != 4 or grid.shape[1] != 2 or grid.shape[2] != grid.shape[3]:
        raise WeightsError(f"{_GRID} is {tuple(grid.shape)}; a square grid (1, 2, S, S) is needed.")
    return int(grid.shape[2])


def _names(organs: str | Sequence[str]) -> list[str]:
    return [organs] if isinstance(organs, str) else list(organs)
