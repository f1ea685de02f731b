"""The T-L network in training: predictor and autoencoder together, or the predictor on a frozen one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnntl.model import AcnnTLModel
from anatozoo.nn.labels import one_hot
from anatozoo.nn.registration_losses import code_distances
from anatozoo.objectives.shape_code import field_of_view
from anatozoo.tasks.cases import label_cases, label_dices, with_numbers
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim
from anatozoo.training.weights import fill_in, read_weights

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

_ENCODER = "network."
"""Prefix of the autoencoder's tensors in its own checkpoint."""


class AcnnTLModule(ZooModule, AcnnTLModel):
    """Trains the T-L network: a predictor of shape codes from images, with the autoencoder of the shapes.

    Oktay et al., IEEE TMI 2018: cross-entropy of the autoencoder's reconstruction g(f(y)) against the label
    map y, λ1 times the squared distance between the predicted code p(x) of the image x and the code f(y), and
    λ2 / 2 times the squared weights, all minimised together. With `autoencoder`, f and g come from an earlier
    fit and are frozen; only the predictor is trained.

    Args:
        autoencoder: checkpoint name, folder or ``.ckpt`` file of a fit of ``acnnprior`` with the same organs,
            frame, code and widths, to be frozen; read when a fit begins. None trains one together with the
            predictor.
        code_weight: λ1, weight of the distance between the codes.
        optim: see `anatozoo.training.optim.Optim`; ``encoder_lr_scale`` applies to the predictor.
        **settings: see `AcnnTLModel` and `anatozoo.training.module.ZooModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset()

    def __init__(
        self,
        *,
        autoencoder: str | None = None,
        code_weight: float = 0.01,
        optim: Optim = Optim("adam", 1e-3, 1e-5, schedule="cosine", warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if code_weight <= 0:
            raise ConfigError(f"code_weight={code_weight} must be above 0.")
        self.autoencoder, self.code_weight = autoencoder, code_weight
        if self.is_frozen:
            self.network.autoencoder.requires_grad_(False)

    @property
    def encoder_part(self) -> nn.Module:
        """The predictor."""
        return self.network.predictor

    def columns(self) -> list[str]:
        """Dice of all organs and of each, Dice of the autoencoder, and distance between the codes."""
        return [*super().columns(), "dice_autoencoder", "code_distance"]

    @property
    def is_frozen(self) -> bool:
        """Whether the autoencoder is not trained."""
        return bool(self.autoencoder)

    def train(self, mode: bool = True) -> "AcnnTLModule":
        """Switch to training; a frozen autoencoder keeps its batch statistics."""
        super().train(mode)
        if getattr(self, "autoencoder", None):
            self.network.autoencoder.train(False)
        return self

    def on_train_start(self) -> None:
        """Fix the batch statistics of a frozen autoencoder; the trainer keeps the modes that it finds."""
        self.train(True)

    def start(self) -> None:
        """Fill in starting weights, and a frozen autoencoder.

        Raises:
            ConfigError: the autoencoder is for other organs or another frame.
            WeightsError: weights are of another architecture.
        """
        super().start()
        if self.autoencoder:
            state, settings = read_weights(self.autoencoder, "acnnprior")
            self._check_autoencoder(settings)
            fill_in(self.network.autoencoder, {k.removeprefix(_ENCODER): v for k, v in state.items()})

    def _check_autoencoder(self, settings: Mapping[str, Any]) -> None:
        views = [field_of_view(frame) for frame in (self.frame, FrameSpec.of(settings["frame"]))]
        if self.organs != list(settings["organs"]) or views[0] != views[1]:
            raise ConfigError(
                f"the autoencoder knows {', '.join(settings['organs'])} and sees {views[1]}; the predictor "
                f"{', '.join(self.organs)} and {views[0]}. Both must be the same."
            )

    def answer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Codes (B, K) predicted from the images."""
        return self.encode_image(batch["image"])

    def losses(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            output: codes (B, K) predicted from the images.
            batch: ``labels`` (B, D, H, W).
        """
        labels = batch["labels"].long()
        maps = one_hot(labels, len(self.organs) + 1)
        if self.is_frozen:
            with torch.no_grad():
                truth = self.encode(maps)
            return {"code": self.code_weight * code_distances(output, truth).mean()}
        truth, logits = self.network.autoencoder(maps)
        return {
            "reconstruction": F.cross_entropy(logits.float(), labels),
            "code": self.code_weight * code_distances(output, truth).mean(),
        }

    def infer(self, batch: Mapping[str, Tensor]) -> Any:
        """Codes and logits of the batch's ``image``."""
        return self.network.predict(batch["image"])

    def cases(self, output: Any, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Shapes of the codes beside the given label maps, within the frame.

        Numbers are the Dice of the autoencoder's reconstruction and the squared distance of the codes.
        """
        labels = batch["labels"]
        cases = label_cases(output.logits.argmax(1), labels, self.organs, batch, image=batch["image"])
        code, logits = self.network.autoencoder(one_hot(labels, len(self.organs) + 1))
        return with_numbers(
            cases,
            {
                "dice_autoencoder": label_dices(logits.argmax(1), labels, len(self.organs)),
                "code_distance": (output.code.float() - code.float()).square().sum(1).tolist(),
            },
        )
