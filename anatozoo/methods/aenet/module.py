"""The label autoencoder of AC-RegNet in training: the first stage."""

from typing import Any

from anatozoo.methods.aenet.model import AeNetModel
from anatozoo.training.codes import CodeModule
from anatozoo.training.optim import Optim


class AeNetModule(CodeModule, AeNetModel):
    """Learns a short code of plausible label maps by removing noise from them.

    Mansilla et al., Neural Networks 2020; the defaults are the paper's.

    Args:
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `AeNetModel` and `anatozoo.training.codes.CodeModule`.
    """

    def __init__(self, *, optim: Optim = Optim("adam", 1e-3), **settings: Any) -> None:
        super().__init__(optim=optim, **settings)
