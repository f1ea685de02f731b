"""Post-DAE as a LightningModule: loss, optimisation, validation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import frame_shape
from anatozoo.methods.postdae.corruptions import KINDS, largest
from anatozoo.methods.postdae.network import NETWORKS, PaperDAE, ResidualDAE
from anatozoo.nn.labels import check_labels, dice_per_label
from anatozoo.nn.losses import weighted_mean
from anatozoo.tasks.repair import RepairModule
from anatozoo.training.optim import adam_with_schedule
from anatozoo.training.weights import start_from

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case


class PostDAEModule(RepairModule):
    """Makes the masks of any segmenter anatomically plausible; learns from masks alone.

    Larrazabal et al., MICCAI 2019 and IEEE TMI 2020. With ``network="paper"`` this is the published dense
    bottleneck; ``"residual"`` and ``"skip"`` are anatozoo's.

    Args:
        organs: names of the organs in the order of their labels 1, 2, ...; later ones cover earlier ones.
        image_size: side S of a square frame, [H, W] or [D, H, W]; multiples of 2 to the number of `widths`.
        fit: how masks of other sizes get into the frame, see `anatozoo.frames.frame.Frame.fit`.
        spacing_mm: (x, y[, z]) of the frame, for ``"spacing"``.
        network: ``"paper"``, ``"residual"`` or ``"skip"``, see `anatozoo.methods.postdae.network`.
        widths: channels of the encoder's stages; the first has stride 2.
        code: length of the dense code.
        skips: strides of the maps that ``"skip"`` passes on beside its code; 1 is the mask itself.
        one_part: organs that are in one part: of a repaired mask, what lies apart from the largest is taken
            away. Mapped to the organs that may cover it, so that what hangs together behind them is one part.
        organ_weights: weight of each organ in the Dice loss; None weighs all alike.
        ce_weight: weight of the cross-entropy; the paper has the Dice loss alone.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a fresh fit starts from.
        optimizer: ``"adam"`` or ``"adamw"``.
        lr: learning rate.
        weight_decay: weight decay.
        encoder_lr_scale: factor on the encoder's learning rate.
        schedule: ``"step"`` (×`lr_gamma` every `lr_step` epochs) or ``"cosine"`` (to 1 % at the fit's end).
        lr_step: epochs between steps.
        lr_gamma: factor of a step.
        warmup_steps: optimiser steps of linear warm-up under ``"cosine"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    architecture = (
        "organs",
        "image_size",
        "fit",
        "spacing_mm",
        "network",
        "widths",
        "code",
        "skips",
        "one_part",
    )
    links = {  # noqa: RUF012 - typed in the base class
        "organs": "organs",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
    }

    def __init__(
        self,
        organs: list[str] = ["lungs"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        image_size: int | list[int] = 256,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        network: Literal["paper", "residual", "skip"] = "skip",
        widths: list[int] = [16, 32, 48, 64, 96],  # noqa: B006
        code: int = 128,
        skips: list[int] = [4, 8, 16, 32],  # noqa: B006
        one_part: dict[str, list[str]] = {},  # noqa: B006
        organ_weights: list[float] | None = None,
        ce_weight: float = 1.0,
        init_weights: str | None = None,
        optimizer: Literal["adam", "adamw"] = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        encoder_lr_scale: float = 1.0,
        schedule: Literal["step", "cosine"] = "cosine",
        lr_step: int = 1000,
        lr_gamma: float = 1.0,
        warmup_steps: int = 200,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the autoencoder."""
        h: Any = self.hparams
        self.organs, self.shape = check_labels(h.organs), frame_shape(h.image_size)
        if not 1 <= len(self.organs) <= 254:
            raise ConfigError(f"organs={h.organs} must be 1 to 254 names.")
        if h.fit == "spacing" and len(h.spacing_mm or ()) != len(self.shape):
            raise ConfigError(f"fit='spacing' needs spacing_mm with {len(self.shape)} numbers.")
        weights = [1.0] * len(self.organs) if h.organ_weights is None else list(h.organ_weights)
        if len(weights) != len(self.organs) or min(weights) < 0 or not any(weights) or h.ce_weight < 0:
            raise ConfigError(
                f"organ_weights={h.organ_weights} must be one number for each of {self.organs}, not all 0; "
                "no weight may be negative."
            )
        if h.network not in NETWORKS:
            raise ConfigError(f"network={h.network!r} is unknown; choose one of {', '.join(NETWORKS)}.")
        classes = len(self.organs) + 1
        self.network: PaperDAE | ResidualDAE
        if h.network == "paper":
            self.network = PaperDAE(self.shape, classes, widths=h.widths, code=h.code)
        else:
            skips = h.skips if h.network == "skip" else ()
            self.network = ResidualDAE(self.shape, classes, widths=h.widths, code=h.code, skips=skips)
        self.organ_weights = weights
        strangers = sorted(
            {*h.one_part, *(name for names in h.one_part.values() for name in names)} - {*self.organs}
        )
        if strangers:
            raise ConfigError(
                f"one_part names {', '.join(strangers)}, but the organs are {', '.join(self.organs)}."
            )
        number = {organ: value for value, organ in enumerate(self.organs, start=1)}
        self.behind = [(number[organ], [number[c] for c in covers]) for organ, covers in h.one_part.items()]

    def configure_metrics(self) -> None:
        """Dice after the repair, over all organs, of each, before it, of clean masks, and by degradation."""
        organs = [f"dice/{organ}" for organ in self.organs]
        self.judge_by(
            ["dice", *organs, "dice_before", "dice_clean", *(f"dice_after/{kind}" for kind in KINDS)]
        )

    def setup(self, stage: str) -> None:
        """Fill in the starting weights of a fresh fit; a resumed one takes its own."""
        flat = len(self.shape) == 2  # what the base class arranges for a fit is for 2-D convolutions
        fresh = self.begins_afresh(stage) if flat else stage == "fit" and not self.trainer.ckpt_path
        if fresh and self.hparams["init_weights"]:
            start_from(self, self.hparams["init_weights"], "postdae")

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, 1 + organs, ...), background first, of one-hot or soft labels of that shape."""
        return self.network(probability)

    def losses(self, logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the loss; their sum is minimised.

        Args:
            logits: (B, 1 + organs, ...).
            batch: ``clean`` (B, 1 + organs, ...), the shares of each pixel that are to be found.
        """
        clean = batch["clean"].float()
        log_probability = logits.float().log_softmax(1)
        organs, truth = log_probability[:, 1:].exp().flatten(2), clean[:, 1:].flatten(2)
        dice = (2 * (organs * truth).sum(2) + 1) / (organs.sum(2) + truth.sum(2) + 1)
        terms = {"dice": weighted_mean(1 - dice, dice.new_tensor(self.organ_weights))}
        if self.hparams["ce_weight"]:
            entropy = -(clean * log_probability).sum(1).mean()
            terms["cross_entropy"] = self.hparams["ce_weight"] * entropy
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; logs every term of the loss."""
        terms = self.losses(self.network(batch["noisy"]), batch)
        return self.total(terms, len(batch["noisy"]))

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1 + organs, ...) of the batch's ``noisy``."""
        return self.network(batch["noisy"])

    def measure(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Dice of each repaired mask; see the base class."""
        classes = len(self.organs) + 1
        truth = largest(batch["clean"])
        dice = dice_per_label(largest(output), truth, classes)
        before = dice_per_label(largest(batch["noisy"]), truth, classes).nanmean(1, keepdim=True)
        mean, kind = dice.nanmean(1, keepdim=True), batch["kind"][:, None]
        by_kind = torch.where(kind == torch.arange(len(KINDS) + 1, device=kind.device), mean, torch.nan)
        return torch.cat([mean, dice, before, by_kind], 1)

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Repaired masks beside the clean ones, at the network's resolution."""
        from anatozoo.tasks.cases import label_cases

        return label_cases(largest(output), largest(batch["clean"]), self.organs, batch)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW with a step or cosine schedule."""
        return adam_with_schedule(self, self.network.encoder)
