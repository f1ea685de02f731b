"""A classifier in training: weighted classes, unknown findings, starting weights of other findings."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.methods.classifier.model import ClassifierModel
from anatozoo.training.encoders import EncoderModule
from anatozoo.training.optim import Optim
from anatozoo.training.weights import refuse_other_shapes


class ClassifierModule(EncoderModule, ClassifierModel):
    """A classifier as a LightningModule: binary cross-entropy over the findings that are known.

    Args:
        class_weights: weigh images with a finding by the share of those without among the images that are
            drawn, and the reverse, so that both count alike, as in Larrazabal et al., PNAS 2020. What this,
            and drawing images by class, adds to the logits is taken off again by `Classifier.shift`, so that
            probabilities are those of the training set's frequencies.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `ClassifierModel` and `anatozoo.training.encoders.EncoderModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    extra_links: ClassVar[Mapping[str, str]] = {"findings": "findings"}

    weights: Tensor

    def __init__(
        self,
        *,
        class_weights: bool = True,
        optim: Optim = Optim("adamw", 1e-3, 1e-4, schedule="cosine", warmup_steps=100),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        self.class_weights = class_weights
        # Of absent and present findings; it follows from the data at each start.
        self.register_buffer("weights", torch.ones(2, len(self.findings)), persistent=False)

    def setup(self, stage: str) -> None:
        """Before a fit, take the weights of the classes from the training images."""
        super().setup(stage)
        data: Any = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
        if stage == "fit" and hasattr(data, "class_counts"):
            self.weigh(*data.class_counts())

    def weigh(self, own: Tensor, drawn: Tensor) -> None:
        """Set the weights of the loss, and the shift of the network.

        Args:
            own: (2, findings) numbers of training images without and with each finding, all above 0.
            drawn: the same of the images that an epoch draws, on average.
        """
        if self.class_weights:
            self.weights.copy_(drawn.flip(0) / drawn.sum(0))
        seen = self.weights.to(drawn) * drawn
        self.network.shift.copy_((seen[1] / seen[0]).log() - (own[1] / own[0]).log())

    def losses(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of logits (B, findings), the mean over the findings that are known.

        Args:
            output: the logits.
            batch: ``findings`` (B, findings), 1, 0 or NaN where unknown.
        """
        truth = batch["findings"]
        known = ~truth.isnan()
        filled = torch.where(known, truth, torch.zeros_like(truth))
        # The network takes its shift off; what learns are the logits under the weights.
        logits = output.float() + self.network.shift
        each = F.binary_cross_entropy_with_logits(logits, filled, reduction="none")
        weights = torch.where(filled > 0, self.weights[1], self.weights[0]) * known
        return {"cross_entropy": (weights * each).sum() / known.sum().clamp_min(1)}

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights from a network for other findings; shared ones keep their layer."""
        there, own = list(settings["findings"]), self.state_dict()
        found = dict(state)
        for name in ("network.head.weight", "network.head.bias", "network.shift"):
            if name not in state or state[name].shape[1:] != own[name].shape[1:]:
                continue
            found[name] = own[name].clone()
            for place, finding in enumerate(self.findings):
                if finding in there:
                    found[name][place] = state[name][there.index(finding)]
        wrong = sorted(set(own) ^ set(found))
        wrong += [
            f"{name}: {tuple(value.shape)} here, {tuple(own[name].shape)} needed"
            for name, value in found.items()
            if name in own and value.shape != own[name].shape
        ]
        refuse_other_shapes(wrong)
        return found
