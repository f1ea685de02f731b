"""The shape loss of ACNN for networks that give images: distance of the codes seen on answer and truth."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.registration_losses import code_distance
from anatozoo.objectives.shape_prior import check_shape, check_view, field_of_view, fit_to
from anatozoo.training.weights import read_weights

if TYPE_CHECKING:
    from anatozoo.methods.acnntl.module import AcnnTLModule


class ImagePrior(nn.Module):
    """``weight * ||p(answer) - p(truth)||²``, summed over the code and averaged over the batch.

    Oktay et al., IEEE TMI 2018, where the weight is λ1 and p the predictor of the T-L network. It is frozen
    and stays in evaluation mode, whatever is asked of this module; the gradient goes through to the answer.

    Args:
        model: a fitted T-L network, of which the predictor alone is kept.
        weight: λ1.
        shape: (D, H, W) of the images.
        frame: how they get into their frame: ``fit``, and ``spacing_mm`` or ``long_side`` where the fit has
            one.

    Raises:
        ConfigError: the weight is negative, or the model sees another part of the body.
    """

    def __init__(
        self, model: "AcnnTLModule", weight: float, *, shape: Sequence[int], frame: Mapping[str, Any]
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"shape_weight={weight} must not be negative.")
        check_shape(model.shape, tuple(shape))
        check_view(field_of_view(model.shape, dict(model.hparams)), field_of_view(shape, frame))
        self.weight, self.shape = weight, model.shape
        self.predictor = model.network.predictor
        self.predictor.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "ImagePrior":
        """Stay in evaluation mode: batch statistics of answers must not change what a shape is."""
        return super().train(False)

    def code(self, image: Tensor) -> Tensor:
        """Codes (B, K) of images (B, 1, D, H, W), in float32; intensities beyond [0, 1] count as 0 or 1."""
        # Codes are differences of many numbers: half precision would drown them in rounding.
        with torch.autocast(image.device.type, enabled=False):
            result: Tensor = self.predictor(fit_to(image.float().clamp(0, 1), self.shape))
        return result

    def forward(self, answer: Tensor, truth: Tensor) -> Tensor:
        """The weighted loss of images (B, 1, D, H, W), a scalar."""
        with torch.no_grad():
            target = self.code(truth)
        return self.weight * code_distance(self.code(answer), target)


def load_image_model(source: str) -> "AcnnTLModule":
    """A T-L network from a checkpoint name, a folder or a ``.ckpt`` file.

    Raises:
        ConfigError: it does not exist, or is of another method.
    """
    from anatozoo.methods.acnntl.module import AcnnTLModule

    state, hparams = read_weights(source, "acnntl")
    module = AcnnTLModule(**hparams)
    own = module.state_dict()
    module.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})
    return module.eval()
