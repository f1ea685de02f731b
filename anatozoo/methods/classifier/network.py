"""A backbone, the mean of its last map, and one logit for each finding."""

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import build_encoder


class Classifier(nn.Module):
    """Logits of findings, as in Larrazabal et al., PNAS 2020: global average pooling and one linear layer.

    Attributes:
        shift: (findings,) logits that a training with weighted classes, or with images drawn by class, adds
            to those of the training set's own frequencies; it is taken off here, and 0 without such a
            training.

    Args:
        findings: how many.
        encoder: ``"residual"`` or a timm model name, see `anatozoo.nn.blocks.build_encoder`.
        dropout: share of the pooled features that training drops.

    Raises:
        ConfigError: the dropout is not from 0 to below 1, or the encoder is unknown.
    """

    shift: Tensor

    def __init__(self, findings: int, encoder: str, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout={dropout} must be from 0 to below 1.")
        self.encoder = build_encoder(encoder)
        self.deepest = max(self.encoder.channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels[self.deepest], findings)
        self.register_buffer("shift", torch.zeros(findings))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, findings) float32 of images (B, 1, S, S) in [0, 1]; S a multiple of 32."""
        features = self.encoder(image)[self.deepest].mean((2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits.float() - self.shift
