"""The label autoencoder of AC-RegNet, in pure torch.

Mansilla, Milone & Ferrante, "Learning deformable registration of medical images with anatomical constraints",
Neural Networks 124, 2020.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.nn.conv_norm import CONV, ConvNorm

SHRINKAGE = 8
"""The side of the smallest map is this fraction of the input's."""


class AENet(nn.Module):
    """Autoencoder of label maps: a code of few numbers that plausible anatomies share.

    Args:
        shape: size of the label maps, (H, W) or (D, H, W), each a multiple of 8.
        classes: channels of the one-hot labels, background included.
        code: length of the code.

    Raises:
        ConfigError: a size is not a multiple of 8.
    """

    def __init__(self, shape: Sequence[int], classes: int, code: int = 32) -> None:
        super().__init__()
        dims = len(shape)
        if dims not in CONV or any(side < SHRINKAGE or side % SHRINKAGE for side in shape):
            raise ConfigError(
                f"label maps of {tuple(shape)} do not fit: two or three sides, multiples of {SHRINKAGE}."
            )
        self.small = tuple(side // SHRINKAGE for side in shape)
        cells = math.prod(self.small)
        plan = [(classes, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 1, 2)]
        self.encoder = nn.ModuleList(
            ConvNorm(dims, before, after, normalize=True, stride=stride) for before, after, stride in plan
        )
        self.to_code = nn.Linear(cells, code)
        self.from_code = nn.Linear(code, cells)
        back = [(1, 32), (32, 32), (32, 16), (16, 16), (16, 16)]
        self.decoder = nn.ModuleList(ConvNorm(dims, before, after, normalize=True) for before, after in back)
        self.head = CONV[dims](16, classes, 3, padding=1)

    def levels(self, labels: Tensor) -> list[Tensor]:
        """The maps (B, width, ...) of the five layers of the encoder."""
        maps = []
        for layer in self.encoder:
            labels = F.relu(layer(labels))
            maps.append(labels)
        return maps

    def encode(self, labels: Tensor) -> Tensor:
        """Codes (B, K) of one-hot or soft labels (B, C, ...)."""
        return self.to_code(self.levels(labels)[-1].flatten(1))

    def decode(self, code: Tensor) -> Tensor:
        """Logits (B, C, ...) of codes (B, K)."""
        x = F.relu(self.from_code(code)).unflatten(1, (1, *self.small))
        for index, layer in enumerate(self.decoder):
            # Every second layer enlarges its input first: the first, the third and the fifth.
            x = F.relu(layer(F.interpolate(x, scale_factor=2.0, mode="nearest") if index % 2 == 0 else x))
        return self.head(x)

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, K) and logits (B, C, ...) of one-hot or soft labels (B, C, ...)."""
        code = self.encode(labels)
        return code, self.decode(code)
