"""The precision of predictions, for all methods, and a warning if something else lowers it."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from anatozoo.errors import AnatozooWarning, ConfigError

PRECISIONS = ("32", "bf16", "16")
"""float32; float32 with matrix products and convolutions in bfloat16, or (CUDA only) in float16."""
_HALF = (torch.bfloat16, torch.float16)


def autocast_type(precision: str, device: str) -> torch.dtype | None:
    """The type in which convolutions and products are computed; None for float32.

    Raises:
        ConfigError: the precision is unknown, or not possible on this kind of device.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    if precision == "32":
        return None
    if precision == "16":
        if device != "cuda":
            raise ConfigError(f"precision='16' is for CUDA; on {device} use 'bf16' or '32'.")
        return torch.float16
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("this GPU does not compute in bfloat16; use precision='16' or '32'.")
    return torch.bfloat16


def warn_of_half(weights: Sequence[Tensor], chosen: torch.dtype | None, device: str) -> None:
    """Warn if something other than `autocast_type` lowers the precision.

    Args:
        weights: weights of the model.
        chosen: the result of `autocast_type`.
        device: kind of the device.
    """
    if half := next((value.dtype for value in weights if value.dtype in _HALF), None):
        _warn(f"the weights of this model are {half}, which can move its results by whole pixels")
    elif chosen is None and torch.is_autocast_enabled(device):
        _warn("torch.autocast is on, which can move this model's results")


def _warn(what: str) -> None:
    warnings.warn(
        f"{what}; load it anew and use predict(..., precision='bf16'), which keeps positions in float32.",
        AnatozooWarning,
        stacklevel=5,
    )
