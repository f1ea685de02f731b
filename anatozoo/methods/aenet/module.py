"""The label autoencoder of AC-RegNet in training: the first stage."""

from typing import Any

from anatozoo.methods.aenet.model import AeNetModel
from anatozoo.training.codes import CodeModule
from anatozoo.training.optim import Optim


class AeNetModule(CodeModule, AeNetModel):
    """Trains AENet as a denoising autoencoder of label maps.

    Mansilla et al., Neural Networks 2020, with the defaults of the paper.

    Args:
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `AeNetModel` and `anatozoo.training.codes.CodeModule`.
    """

    def __init__(self, *, optim: Optim = Optim("adam", 1e-3), **settings: Any) -> None:
        super().__init__(optim=optim, **settings)
