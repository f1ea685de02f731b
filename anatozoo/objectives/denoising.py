"""SUD, supervision by denoising: denoised predictions of unlabelled images are their soft labels.

Young, Dalca, Ferrante et al., "Supervision by denoising for medical image segmentation", arXiv 2202.02952;
the definition here is anatozoo's own, after the abstract: see docs/denoising.md.
"""

import math
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.module import UNLABELLED
from anatozoo.errors import ConfigError
from anatozoo.nn.losses import organ_dice
from anatozoo.objectives.denoiser import Denoiser
from anatozoo.objectives.memory import Memory
from anatozoo.tasks.repair import RepairTask
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from anatozoo.training.weights import frozen, restored, stored


class Denoising(Objective):
    """Learns from unlabelled images: soft labels are the network's own predictions, denoised.

    With the network f, its mean prediction ū of an unlabelled image over the visits so far, and a denoiser
    D of label maps, the loss is ``L = L_seg + γ(t) · mean [CE(f(x), u) + 1 - Dice(f(x), u)]``, ``u = D(ū)``,
    where u carries no gradient. Each visit of an image, once an epoch of the unlabelled images, then takes
    the new prediction into the mean: ``ū ← α ū + (1 - α) f(x)``, corrected by ``1 - α^t``.

    ``source=None`` is temporal ensembling (Laine and Aila, ICLR 2017), ``alpha=0`` spatial denoising alone,
    and both together self-training with the prediction of the last visit.

    Unlabelled images keep their place in a fit, only grey values change (`ZooDataModule.prepare_unlabelled`),
    so that what is remembered of a pixel is true of it, and the prediction that the loss needs is also what
    is remembered: a step has one forward and backward pass for the unlabelled images, and no other.

    Args:
        source: the denoiser, a fit of ``postdae``: checkpoint name, folder or ``.ckpt`` file, read when a fit
            begins; None denoises by the mean alone.
        weight: γ at the end of its rise; 0 switches the objective off.
        alpha: α, the share of the past, in [0, 1).
        ramp: share of the fit's steps over which γ rises, as ``exp(-5 (1 - t / T)²)``.
        hard: whether soft labels become hard ones, the most probable label of each pixel.

    Raises:
        ConfigError: a setting is out of range, or the source is an empty text.
    """

    needs = frozenset({"maps", "unlabelled"})
    sources: ClassVar[frozenset[str]] = frozenset({"source"})

    def __init__(
        self,
        source: str | None = None,
        weight: float = 1.0,
        alpha: float = 0.9,
        ramp: float = 0.4,
        hard: bool = False,
    ) -> None:
        if not 0 <= weight < math.inf or not 0 <= alpha < 1 or not 0 <= ramp <= 1:
            raise ConfigError(
                f"Denoising's weight={weight} must be finite and not negative, alpha={alpha} at least 0 and "
                f"below 1, ramp={ramp} within 0 … 1."
            )
        if source == "":
            # A shell gives it for a variable without a value; a fit without a denoiser is another one.
            raise ConfigError(
                "Denoising's source is an empty text: name a denoiser, or leave it out, for the mean alone."
            )
        self.source, self.weight, self.alpha, self.ramp, self.hard = source, weight, alpha, ramp, hard
        self._model: Any = None
        self._denoise: Denoiser | None = None
        self._memory: Memory | None = None
        self._rise = 0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Find the unlabelled cases.

        Raises:
            ConfigError: the module gives no label maps, or the data have no unlabelled images, or pairs.
        """
        if stage != "fit" or not self.weight:
            return
        super().setup(trainer, pl_module, stage)
        data: Any = getattr(trainer, "datamodule", None)
        cases = getattr(data, "sets", {}).get(UNLABELLED)
        if not isinstance(cases, CaseDataset):
            raise ConfigError(
                f"Denoising remembers single images of a data module of anatozoo; {type(data).__name__} has "
                "none, or makes its unlabelled items of several."
            )
        self._memory = Memory([f"{case.domain}/{case.id}" for case in cases.cases], self.alpha)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Read the denoiser, unless it came with the checkpoint of a resumed fit, and plan the rise of γ.

        Raises:
            ConfigError: the source is no denoiser, has other organs or another frame, or the fit has no end.
        """
        if self._memory is None:
            return
        if self._model is None and self.source:
            self._model = frozen(self.source, "ask")
            if not isinstance(self._model, RepairTask):
                raise ConfigError(
                    f"{self.source} is a {type(self._model).__name__}, no denoiser of label maps: take one "
                    "that repairs masks, such as a fit of postdae."
                )
        if self._model is not None:
            self._denoise = Denoiser(self._model, organs=list(pl_module.organs), frame=pl_module.frame)
            self._denoise.to(pl_module.device)
        steps = trainer.estimated_stepping_batches if self.ramp else 0
        if not math.isfinite(steps):
            raise ConfigError(
                "Denoising's weight rises over a share of the fit, which has no end: give trainer.max_steps "
                "or trainer.max_epochs, or --objectives.ramp 0."
            )
        self._rise = round(self.ramp * steps)

    def gamma(self, number: int) -> float:
        """γ at the step of this number."""
        late = max(1 - number / self._rise, 0.0) if self._rise else 0.0
        return self.weight * math.exp(-5 * late**2)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``denoising``: the weighted loss of each unlabelled image; 0 for those that are seen first."""
        if not self.weight:
            return {}
        assert self._memory is not None  # `setup` has made it
        seen = step.unlabelled
        index, probability = seen.batch["index"], seen.maps.probability
        target, known = self.target(index, probability)
        loss = soft_label_loss(probability, target) * known
        # All processes remember the visits of all, in one order.
        module: Any = step.module
        organs = probability.detach()[:, 1:].half()
        indices, maps = module.all_gather([index, organs])
        self._memory.take(indices.flatten(), maps.reshape(-1, *organs.shape[1:]))
        return {"denoising": self.gamma(step.number) * loss}

    @torch.no_grad()
    def target(self, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The labels of some unlabelled cases, from their visits so far.

        Args:
            index: (B,) of the cases.
            like: (B, 1 + organs, ...), gives shape and device.

        Returns:
            Labels (B, 1 + organs, ...) that sum to 1, without gradient, and (B,) 1.0 where a case has some.
        """
        recalled = None if self._memory is None else self._memory.recall(index)
        if recalled is None or not bool(recalled[1].any()):
            return torch.zeros_like(like), like.new_zeros(len(like))
        maps, known = recalled[0].to(like.device), recalled[1].to(like.device)
        if self._denoise is not None:
            maps = self._denoise(maps)
        if self.hard:
            maps = torch.zeros_like(maps).scatter_(1, maps.argmax(1, keepdim=True), 1.0)
        return maps, known.to(like.dtype)

    def state_dict(self) -> dict[str, Any]:
        """The memory and the frozen denoiser, so that a resumed fit does not depend on its source."""
        state = {} if self._memory is None else {"memory": self._memory.state_dict()}
        return state if self._model is None else state | {"denoiser": stored(self._model)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take memory and denoiser of the checkpoint.

        Raises:
            ConfigError: the memory is of another data set.
        """
        if self._memory is not None and "memory" in state_dict:
            self._memory.load_state_dict(state_dict["memory"])
        if "denoiser" in state_dict:
            self._model, self._denoise = restored(state_dict["denoiser"], "the denoiser"), None


def soft_label_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and one minus the mean soft Dice of the organs, against soft labels: (B,).

    Args:
        probability: (B, 1 + organs, ...), background first.
        target: of that shape; sums to 1.
    """
    p = probability.float()
    log_p = p.clamp_min(torch.finfo(torch.float32).tiny).log()
    entropy = -(target * log_p).sum(1).flatten(1).mean(1)
    return entropy + (1 - organ_dice(p, target)).mean(1)
