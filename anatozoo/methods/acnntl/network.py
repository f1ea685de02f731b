"""The T-L network: an autoencoder of label maps, and a predictor of its code from images, in pure torch.

Girdhar et al., ECCV 2016, as in Oktay et al., IEEE TMI 37(2), 2018. In training the predictor learns the code
of the label map. Afterwards it predicts a code from an image alone, and the decoder turns it into a shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from anatozoo.nn.shape_autoencoder import CODE, WIDTHS, CodeEncoder, ShapeAutoencoder


class Shapes(NamedTuple):
    """Predicted codes and shapes.

    Attributes:
        code: (B, K), p(x).
        logits: (B, classes, ...) float32 of the decoded shape, g(p(x)).
    """

    code: Tensor
    logits: Tensor


class TLNetwork(nn.Module):
    """Autoencoder f, g of label maps (B, classes, ...) and predictor p of codes from images (B, 1, ...).

    Args:
        shape: (H, W) or (D, H, W) of both.
        classes: channels of the one-hot labels, background included.
        code: K, length of the code, 64 in the paper.
        widths: channels of encoder and predictor at strides 2, 4, ...

    Raises:
        ConfigError: see `CodeEncoder`.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, code: int = CODE, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        self.autoencoder = ShapeAutoencoder(shape, classes, code, widths)
        self.predictor = CodeEncoder(shape, 1, code, widths)

    def predict(self, image: Tensor) -> Shapes:
        """Code and shape of images (B, 1, ...)."""
        code = self.predictor(image)
        return Shapes(code, self.autoencoder.decode(code))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, ...) float32 of the shapes in images (B, 1, ...)."""
        return self.predict(image).logits
