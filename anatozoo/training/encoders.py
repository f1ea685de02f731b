"""Training of modules with an image encoder: ImageNet weights and frozen layers."""

from typing import Any, ClassVar

from torch import nn

from anatozoo.nn.blocks import load_imagenet_weights
from anatozoo.training.module import ZooModule


class EncoderModule(ZooModule):
    """A module whose `encoder_part` may start from ImageNet weights and be frozen in part.

    Args:
        encoder_weights: ImageNet weights for a new fit: ``"timm"``, ``"package"`` or a file.
        frozen_layers: prefixes of encoder parameters that are not trained, such as ``body.conv_stem``.
        **settings: see `ZooModule`.
    """

    fast_layout: ClassVar[bool] = True

    network: Any

    def __init__(
        self,
        *,
        encoder_weights: str | None = None,
        frozen_layers: list[str] = [],  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.encoder_weights, self.frozen_layers = encoder_weights, list(frozen_layers)
        for name, parameter in self.encoder_part.named_parameters():
            if any(name.startswith(prefix) for prefix in self.frozen_layers):
                parameter.requires_grad_(False)

    @property
    def encoder_part(self) -> nn.Module:
        """The image encoder, by default ``network.encoder``."""
        encoder: nn.Module = self.network.encoder
        return encoder

    def start(self) -> None:
        """Load ImageNet weights, then the starting weights of the fit."""
        if self.encoder_weights:
            load_imagenet_weights(self.encoder_part, self.encoder_weights)
        super().start()
